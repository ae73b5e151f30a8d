#!/usr/bin/python3
"""Print how many tests of a JUnit report passed and failed: `count.py REPORT` prints `PASSED FAILED`.

Whatever was skipped or did not come to its end counts as failed: nothing in this project's tests may be
left out silently. `count.py --slowest N REPORT` prints the N slowest tests and their seconds.
"""
import sys
import xml.etree.ElementTree as ElementTree

cases = list(ElementTree.parse(sys.argv[-1]).iter("testcase"))
if sys.argv[1] == "--slowest":
    for case in sorted(cases, key=lambda case: -float(case.get("time") or 0))[:int(sys.argv[2])]:
        print(f"{float(case.get('time') or 0):7.1f} s  {case.get('classname')}::{case.get('name')}"[:120])
else:
    failed = sum(any(case.find(bad) is not None for bad in ("failure", "error", "skipped")) for case in cases)
    print(len(cases) - failed, failed)
