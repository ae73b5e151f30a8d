#!/usr/bin/python3
"""
Reads the output of "me-only --list --json" and prints it as metrics for Prometheus, in the text
format that node_exporter's textfile collector reads. docs/recipes.md shows how to run it.
"""
import json
import sys

AGE = "me_only_lock_age_seconds"
WAITERS = "me_only_lock_waiters"


def label(text):
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


ages, waiters = {}, {}
for row in json.load(sys.stdin)["locks"]:
    lock = label(row["lock"])
    # For a fleet lock each waiter has a row, and so has each holder that shares it.
    if row["role"] == "waiter":
        continue
    labels = f'lock="{lock}",slot="{row["slot"] or 0}"'
    # Unknown if the holder cannot be seen.
    if row["age"] is not None:
        ages[labels] = max(row["age"], ages.get(labels, 0))
    labels = f'lock="{lock}"'
    waiters[labels] = max(row["waiters"] or 0, waiters.get(labels, 0))

for name, help_, samples in ((AGE, "How long the lock has been held.", ages),
                             (WAITERS, "How many processes wait for the lock.", waiters)):
    print(f"# HELP {name} {help_}\n# TYPE {name} gauge")
    for labels, value in samples.items():
        print(f"{name}{{{labels}}} {value}")
