"""meson-report.py TESTLOG.json SUITE LABEL RUNLOG: one `ok`, `not ok` or `skip` line for each
case of a meson run (tests/README.md). Criterion and unittest programs hold many cases; any other
program is one. A failed program's output is printed before its verdict."""
import json
import re
import sys
from pathlib import Path

TAIL = 60

CRITERION_CASE = re.compile(r"\[(PASS|FAIL|SKIP)\] (\S+?)(?:: (.*))?$")
CRITERION_CRASH = re.compile(r"\[----\] .*(?:CRASH!|Unexpected signal).*")
UNITTEST_CASE = re.compile(r"^(\w+) \(([\w.]+)\)(?:\n.*?)?? \.\.\. (ok|FAIL|ERROR|skipped .*)$", re.M)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def criterion_cases(text):
    for line in text.splitlines():
        if match := CRITERION_CASE.search(line):
            word, name, rest = match.groups()
            yield {"PASS": "ok", "FAIL": "not ok", "SKIP": "skip"}[word], name, rest or ""


def unittest_cases(text):
    for _, dotted, outcome in UNITTEST_CASE.findall(text):
        name = dotted.partition(".")[2]  # without the module
        if outcome == "ok":
            yield "ok", name, ""
        elif outcome.startswith("skipped"):
            yield "skip", name, outcome[len("skipped "):].strip("'\"")
        else:
            yield "not ok", name, outcome


def report(test, suite, label):
    name = test["name"].rpartition(" / ")[2]
    output = ESCAPES.sub("", test.get("stdout", "") + "\n" + test.get("stderr", ""))
    cases = list(criterion_cases(output)) or list(unittest_cases(output))
    shown = f"{suite}/{name} [{label}]"
    bad = test["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")
    if bad:
        for line in output.strip().splitlines()[-TAIL:]:
            print("#   |", line)
    if bad and not any(word == "not ok" for word, _, _ in cases):
        # It died, or timed out, without telling which case it was in.
        print(f"not ok {shown} {test['result']}, exit status {test.get('returncode')}")
    if test["result"] == "SKIP" and not cases:
        print(f"skip {shown} {output.strip().splitlines()[-1:] or 'no reason given'}")
    elif not cases and not bad:
        print(f"ok {shown}")
    for word, case, text in cases:
        if word == "ok":
            text = ""
        print(f"{word} {shown} {case} {text}".rstrip())


def main():
    path, suite, label, run_log = sys.argv[1:]
    try:
        tests = [json.loads(line) for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        tests = []
    if not tests:
        print(*Path(run_log).read_text(errors="replace").splitlines()[-TAIL:], sep="\n")
        print(f"not ok {suite} [{label}]: no test ran")
        return
    for test in tests:
        report(test, suite, label)


if __name__ == "__main__":
    main()
