"""What a process of its own holds at most, for tests that memory stays flat.

Not `ru_maxrss`: a process inherits that from the one that started it, pytest with all its libraries, and what stays
below goes unseen.
"""

from pathlib import Path

import pytest

PEAK = (
    "peak = lambda: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024  # MB\n"
)
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
