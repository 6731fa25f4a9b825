"""python3 -m vmtest NAME: runs one scenario. The last line it prints is the verdict's text."""
import importlib.util
import sys
import traceback

from . import pool
from .check import Failure, Skip

SKIP = 77


def run(name):
    """Returns the exit status and the verdict's text."""
    spec = importlib.util.spec_from_file_location("scenario", f"/payload/scenarios/{name}.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return 0, module.scenario() or ""
    except Skip as reason:
        return SKIP, str(reason)
    except Failure as failure:
        frame = next((f for f in reversed(traceback.extract_tb(failure.__traceback__))
                      if f.filename.startswith("/payload/scenarios/")), None)
        return 1, (f"line {frame.lineno}: " if frame else "") + str(failure)
    except Exception as error:
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"


def main():
    status, text = run(sys.argv[1])
    pool.stop_everything()
    print(text.replace("\n", " | "))
    return status


if __name__ == "__main__":
    sys.exit(main())
