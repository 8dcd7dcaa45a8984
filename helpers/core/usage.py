"""What this process has used of the machine."""

import resource
import sys


def peak_main_memory_gib() -> float:
    """The most main memory that the process has had in use so far, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
