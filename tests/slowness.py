"""How slow this machine is, so that deadlines of the tests that wait for others grow with it.

Measured once, before the tests begin, and handed on through the environment: to the processes
that share the tests, and to the programs that they start.
"""

import os
import subprocess
import sys
import time

VARIABLE = "TFDIST_TEST_SLOWNESS"
# Each core starts Python and counts. The time is that of two quiet cores of an AMD EPYC of
# 2.6 GHz, on which the deadlines were set.
WORK = "import numpy; assert sum(number * number % 7 for number in range(4_000_000))"
REFERENCE_S = 0.6


def measure():
    """Keeps the slowness in the environment, unless whoever started this process knows it."""
    if VARIABLE not in os.environ:
        began = time.monotonic()
        started = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(_cores())]
        assert [one.wait() for one in started] == [0] * len(started)
        os.environ[VARIABLE] = str((time.monotonic() - began) / REFERENCE_S)


def factor():
    """How many times as long as there a thing takes here: at least 1."""
    return max(1.0, float(os.environ.get(VARIABLE, "1")))


def seconds(there):
    """A deadline in seconds on this machine, of what is `there` on the one measured."""
    return there * factor()


def _cores():
    return len(os.sched_getaffinity(0))
