"""The journal, followed: a wait for a record ends the moment journalctl prints it."""
import json
import subprocess
import threading
import time

from .check import PATIENCE, Failure

MICROSECONDS = 1_000_000


class Journal:
    """All records from the moment of creation on. Fields are matched as text, so numbers may be
    given as numbers: journal.wait(TRIMTAB_EVENT="exit", TRIMTAB_WORKER=2)."""

    def __init__(self):
        shown = subprocess.run(["journalctl", "-n", "0", "--show-cursor", "--no-pager"],
                               capture_output=True, text=True, check=True).stdout
        cursor = shown.rpartition("-- cursor: ")[2].strip()
        after = ["--after-cursor", cursor] if cursor else []
        self._records = []
        self._changed = threading.Condition()
        self._journalctl = subprocess.Popen(
            ["journalctl", "-f", "-b", "-o", "json", "--all", "-n", "all", *after],
            stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._journalctl.stdout:
            record = json.loads(line)
            with self._changed:
                self._records.append(record)
                self._changed.notify_all()

    def close(self):
        self._journalctl.kill()
        self._journalctl.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @staticmethod
    def _matches(record, fields):
        return all(record.get(name) == str(value) for name, value in fields.items())

    def all(self, **fields):
        """Every matching record so far, in order."""
        with self._changed:
            return [record for record in self._records if self._matches(record, fields)]

    def wait(self, patience=PATIENCE, where=None, count=1, **fields):
        """Waits for the count-th record that matches fields, and where(record) when given;
        returns it."""
        deadline = time.monotonic() + patience
        seen, found = 0, 0
        with self._changed:
            while True:
                while seen < len(self._records):
                    record = self._records[seen]
                    seen += 1
                    if self._matches(record, fields) and (where is None or where(record)):
                        found += 1
                        if found == count:
                            return record
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Failure(f"the journal has {found} of {count} records {fields}"
                                  f" after {patience} s")
                self._changed.wait(left)


def seconds(record):
    """When the record was sent, on the monotonic clock. When journald took it, which may be
    seconds later in a busy guest, counts only where the sender's time is not known."""
    if "_SOURCE_REALTIME_TIMESTAMP" in record:
        # Nobody sets the guest's clock.
        since_boot = time.time() - time.monotonic()
        return int(record["_SOURCE_REALTIME_TIMESTAMP"]) / MICROSECONDS - since_boot
    return int(record["__MONOTONIC_TIMESTAMP"]) / MICROSECONDS


def number(record, field):
    """A figure of a record; a Failure that shows the record when it is not there."""
    try:
        return int(record[field])
    except (KeyError, ValueError):
        shown = {k: v for k, v in record.items() if k.startswith(("TRIMTAB_", "MESSAGE"))}
        raise Failure(f"no figure {field} in {shown}") from None
