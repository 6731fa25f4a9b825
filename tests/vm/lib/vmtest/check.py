"""Assertions, and the one loop for waiting where nothing can be awaited."""
import time

# Longest wait for a thing that must happen. The guest is slow and shares its cores: a deadline
# says "it hangs", never "it is slow".
PATIENCE = 120


class Failure(Exception):
    """Something that the scenario promises did not hold."""


class Skip(Exception):
    """The guest cannot show this; the text says why."""


def check(truth, message):
    if not truth:
        raise Failure(message)


def equal(got, wanted, what):
    if got != wanted:
        raise Failure(f"{what}: {got!r}, not {wanted!r}")


def note(text):
    """A line for whoever watches the run: figures, above all."""
    print("# " + text, flush=True)


def wait_until(condition, what, patience=PATIENCE, pause=0.2):
    """Asks until the answer is true and returns it. Only for what announces itself nowhere
    (/proc, a status command): journal records and cgroup events have their own waits."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {patience} s: {what}")
        time.sleep(pause)
    return answer
