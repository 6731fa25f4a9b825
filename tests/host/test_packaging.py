"""What is shipped beside the programs agrees with them."""
import configparser
import re
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PACKAGING = SOURCE / "packaging"


class Catalog(unittest.TestCase):
    def setUp(self):
        events = (SOURCE / "src/report/events.def").read_text()
        self.events = re.findall(r'^EVENT\((\w+),\s*"[\w-]+",\s*"([0-9a-f]{32})"\)', events, re.M)
        self.catalog = (PACKAGING / "trimtab.catalog").read_text()
        self.entries = re.findall(r"^-- ([0-9a-f]{32})\n((?:[^\n]+\n)+)\n(\S.*?)(?=^-- |\Z)",
                                  self.catalog, re.M | re.S)

    def test_every_event_is_explained(self):
        explained = [message_id for message_id, _, _ in self.entries]
        self.assertGreater(len(self.events), 5)
        self.assertEqual(sorted(message_id for _, message_id in self.events), sorted(explained))
        self.assertEqual(len(re.findall(r"^-- ", self.catalog, re.M)), len(self.entries))

    def test_every_entry_has_a_subject(self):
        for message_id, headers, _ in self.entries:
            self.assertRegex(headers, r"^Subject: \S", message_id)
            self.assertIn("\nDefined-By: trimtab\n", headers, message_id)

    def test_fields_named_are_fields_written(self):
        written = set(re.findall(r'"(TRIMTAB_\w+)=', "".join(
            path.read_text() for path in (SOURCE / "src/report").glob("*.c"))))
        named = set(re.findall(r"\b(TRIMTAB_\w+)", self.catalog))
        self.assertEqual(named - written, set())

    def test_causes_explained_are_causes_given(self):
        causes = set(re.findall(r'^\s*\[CAUSE_\w+\] = "([a-z-]+)"',
                                (SOURCE / "src/process/cause.c").read_text(), re.M))
        self.assertTrue(causes)
        exit_entry = next(text for _, headers, text in self.entries if "TRIMTAB_CAUSE" in headers)
        self.assertEqual(set(re.findall(r"^  ([a-z-]+)  ", exit_entry, re.M)), causes)


class Unit(unittest.TestCase):
    def test_settings(self):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str
        unit.read(PACKAGING / "trimtab@.service.in")
        service = unit["Service"]
        for name, value in {"Type": "notify", "Delegate": "yes", "KillMode": "mixed",
                            "OOMPolicy": "continue", "NotifyAccess": "main"}.items():
            self.assertEqual(service[name], value, name)
        # It would make every cgroup read-only.
        self.assertNotIn("ProtectControlGroups", service)


if __name__ == "__main__":
    unittest.main()
