"""The runs and faults of a kept history, by time: what the eye needs to understand it.

usage: timeline.py DIRECTORY [LOCK]
"""
import sys

import checker
from checker import FOREVER
from clock import SECOND


def main():
    history = checker.load(sys.argv[1])
    lock = sys.argv[2] if len(sys.argv) > 2 else None
    zero = min(run.launched for run in history.runs)

    def at(time):
        return "      -" if time is None or time >= FOREVER - 1 else f"{(time - zero) / SECOND:7.2f}"

    lines = []
    for fault in history.faults:
        who = "" if fault.contender is None else f"c{fault.contender} {fault.run or ''}"
        lines.append((fault.began, f"{at(fault.began)} .. {at(fault.over)}  FAULT {fault.kind} {who} {fault.note}"))
    for run in history.runs:
        if lock not in (None, run.lock):
            continue
        what = run.mode + (str(run.slots) if run.slots else "") + " stubborn" * run.stubborn + " escapes" * run.escapes
        lines.append((run.start or run.exited,
                      f"{at(run.start)} .. {at(run.end)}  {run.lock} {run.id} {what} {run.seconds:.1f} s, called "
                      f"{at(run.launched)}, exit {at(run.exited)} status {run.status} token {run.token} created "
                      f"{history.created.get(run.key)} ended {','.join(run.ended)}"))
    for _, line in sorted(lines):
        print(line)


if __name__ == "__main__":
    main()
