"""python3 -m vmtest NAME: runs one scenario. The last line it prints is the verdict's text."""
import importlib.util
import subprocess
import sys
import traceback

from . import pool
from .check import Failure, Skip

SKIP = 77


def main():
    name = sys.argv[1]
    spec = importlib.util.spec_from_file_location("scenario", f"/payload/scenarios/{name}.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        print(module.scenario() or "")
        return 0
    except Skip as reason:
        print(reason)
        return SKIP
    except Failure as failure:
        frame = next((f for f in reversed(traceback.extract_tb(failure.__traceback__))
                      if f.filename.startswith("/payload/scenarios/")), None)
        where = f"line {frame.lineno}: " if frame else ""
        print(f"{where}{failure}".replace("\n", " | "))
        return 1
    except subprocess.TimeoutExpired as error:
        traceback.print_exc()
        print(f"a command did not end: {error}")
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".replace("\n", " | "))
        return 1
    finally:
        pool.stop_everything()


if __name__ == "__main__":
    sys.exit(main())
