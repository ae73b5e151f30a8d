"""The one clock of a run: CLOCK_BOOTTIME in nanoseconds, the jobs' own."""
import time

SECOND = 1_000_000_000


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
