"""What scenarios are written with. Standard library only; imports nothing heavy, since Python
starts about twelve times slower in the emulated guest."""
from .cgroup import Cgroup
from .check import Failure, Skip, check, equal, note, wait_until
from .http import Load, ask, ask_each
from .journal import Journal
from .pool import Pool, Unit, run
from .service import fewest_at_work, most_away
from .trace import GunicornTrace, PoolTrace

__all__ = ["Cgroup", "Failure", "Skip", "check", "equal", "note", "wait_until", "Load", "ask",
           "ask_each", "Journal", "Pool", "Unit", "run", "fewest_at_work", "most_away",
           "GunicornTrace", "PoolTrace"]
