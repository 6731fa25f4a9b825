"""gunicorn's settings: each has its fate in trimtab_settings, and none is ignored in silence."""
import io
import subprocess
import sys
import unittest

from supervisor import ADAPTER, DEADLINE_SEC, PYTHON, Case, test_environment

sys.path.insert(0, ADAPTER.rpartition("/")[0])
import trimtab_settings  # noqa: E402


def known_settings():
    """Names of the settings of the gunicorn under test, and its version."""
    text = subprocess.run(
        [PYTHON, "-c", "import gunicorn, gunicorn.config as c\n"
                       "print(gunicorn.__version__, *(s.name for s in c.KNOWN_SETTINGS))"],
        env=test_environment({}), check=True, capture_output=True, text=True,
        timeout=DEADLINE_SEC).stdout.split()
    return text[0], set(text[1:])


class Table(unittest.TestCase):
    def test_every_setting_of_this_gunicorn_has_its_fate(self):
        _, known = known_settings()
        self.assertGreater(len(known), 80)
        self.assertEqual(known - set(trimtab_settings.SETTINGS), set())

    def test_no_name_is_made_up(self):
        """Those that this gunicorn lacks came later, or are gone by now."""
        version, known = known_settings()
        strange = set(trimtab_settings.SETTINGS) - known
        if version.startswith("26."):
            self.assertEqual(strange, {"tolerate_dangerous_framing"})
        elif version.startswith("20."):
            self.assertEqual(len(strange), 34)
            self.assertIn("control_socket", strange)

    def test_every_fate_has_a_heading_and_what_is_told_has_words(self):
        for name, (fate, text) in trimtab_settings.SETTINGS.items():
            self.assertIn(fate, trimtab_settings.HEADINGS, name)
            if fate not in (trimtab_settings.WORKER,):
                self.assertTrue(text, name)

    def test_the_manual_names_each(self):
        out = io.StringIO()
        trimtab_settings.write_scdoc(out)
        for name in trimtab_settings.SETTINGS:
            self.assertEqual(out.getvalue().count("*%s*" % name), 1, name)


class Judgement(unittest.TestCase):
    def test_what_is_honoured_is_not_mentioned(self):
        names = ["bind", "keepalive", "on_exit", "child_exit"]
        self.assertEqual(trimtab_settings.judge("20.1.0", names, names),
                         (["child_exit", "on_exit"], [], None))

    def test_what_has_no_effect_is_named(self):
        names = ["pre_exec", "control_socket", "bind"]
        _, warnings, refused = trimtab_settings.judge("26.1.0", names, names)
        self.assertEqual(len(warnings), 2)
        self.assertIn("pre_exec", warnings[0])
        self.assertIn("control_socket", warnings[1])
        self.assertIsNone(refused)

    def test_what_is_not_set_is_not_mentioned(self):
        known = list(trimtab_settings.SETTINGS)
        self.assertEqual(trimtab_settings.judge("26.1.0", known, []), ([], [], None))

    def test_what_a_newer_gunicorn_has_is_named(self):
        _, warnings, _ = trimtab_settings.judge("99.0", ["bind", "quantum", "flux"], [])
        self.assertEqual(len(warnings), 1)
        self.assertIn("99.0", warnings[0])
        self.assertTrue(warnings[0].endswith("flux, quantum"))

    def test_refusals(self):
        self.assertIn("systemd", trimtab_settings.judge("20.1.0", ["daemon"], ["daemon"])[2])
        self.assertIn("dirty", trimtab_settings.judge("26.1", ["dirty_apps"], ["dirty_apps"])[2])


class Described(Case):
    def test_warnings_and_refusals_arrive(self):
        self.write("gunicorn.conf.py", "def pre_exec(server): pass\n")
        said = self.described("a")
        self.assertEqual(len(said["warnings"]), 1)
        self.assertIn("pre_exec", said["warnings"][0])
        self.assertIsNone(said["refused"])
        self.assertIn("--daemon", self.described("-D", "a")["refused"])

    def test_a_setting_that_nobody_knows(self):
        """As a newer gunicorn would have it: the file that is read makes one."""
        self.write("gunicorn.conf.py",
                   "import gc, gunicorn.config\n"
                   "class Quantum(gunicorn.config.Setting):\n"
                   "    name = 'quantum'\n    section = 'x'\n    default = 1\n    desc = 'x'\n"
                   "    validator = gunicorn.config.validate_pos_int\n"
                   "for c in gc.get_objects():\n"
                   "    if isinstance(c, gunicorn.config.Config):\n"
                   "        c.settings['quantum'] = Quantum()\n")
        warnings = self.described("a")["warnings"]
        self.assertEqual(len(warnings), 1)
        self.assertIn("quantum", warnings[0])


if __name__ == "__main__":
    unittest.main()
