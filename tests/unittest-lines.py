"""unittest-lines.py FILE [TEST...]: runs a unittest file, or some tests of it by their names, and says
`ok`, `not ok` or `skip` for each as it ends (tests/README.md). Exit status 1 when one failed."""
import importlib.util
import os
import sys
import unittest
from pathlib import Path


class Lines(unittest.TestResult):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def name(self, test):
        return f"{self.label} {getattr(test, '_testMethodName', test)}"

    def addSuccess(self, test):
        print(f"ok {self.name(test)}", flush=True)

    def addSkip(self, test, reason):
        print(f"skip {self.name(test)} {reason}", flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say_bad(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.say_bad(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.say_bad(subtest, err)

    def say_bad(self, test, err):
        for line in self._exc_info_to_string(err, test).splitlines():
            print("#   |", line)
        text = str(err[1]).splitlines()
        print(f"not ok {self.name(test)} {text[0] if text else err[0].__name__}", flush=True)


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def chosen(suite, names):
    """Those tests alone. A name that is none is a test that fails to load."""
    tests = [test for test in tests_of(suite) if not names or test.id().rpartition(".")[2] in names]
    found = {test.id().rpartition(".")[2] for test in tests}
    for name in sorted(set(names) - found):
        def is_missing(name=name):
            raise AssertionError(f"there is no test {name}")
        tests.append(unittest.FunctionTestCase(is_missing))
    return unittest.TestSuite(tests)


def main():
    path = Path(sys.argv[1])
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    result = Lines(f"host/{path.name} [{os.environ.get('TRIMTAB_BUILD_LABEL', 'gcc')}]")
    chosen(unittest.defaultTestLoader.loadTestsFromModule(module), sys.argv[2:]).run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
