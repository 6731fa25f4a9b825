"""The tests of tests/kernel/ that want a memory controller, which the build host may lack."""
import os
import re
import subprocess

from vmtest import Failure, Skip, check, note

NEEDS_TRIMTAB = False
TIMEOUT = 150
FOLDER = "/payload/host-tests"


def scenario():
    programs = sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []
    if not programs:
        raise Skip("tests/vm/run was given no --host-tests")
    passed = 0
    for program in programs:
        # Delegated, as a pool is: the tests make their cgroups below their own.
        done = subprocess.run(
            ["systemd-run", "--quiet", "--pipe", "--wait", "--property=Delegate=yes",
             f"{FOLDER}/{program}", "--jobs=1", "--verbose=1"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT)
        print(done.stdout)
        for line in re.findall(r"\[SKIP\] (.*)", done.stdout):
            note(f"{program} skips {line}")
        failed = re.findall(r"\[FAIL\] (\S+)", done.stdout)
        if failed or done.returncode != 0:
            raise Failure(f"{program} ended with {done.returncode}: {', '.join(failed)}")
        passed += len(re.findall(r"\[PASS\]", done.stdout))
    check(passed > 0, "no case ran")
    return f"{passed} cases"
