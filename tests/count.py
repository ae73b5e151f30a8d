#!/usr/bin/python3
"""Print how many tests of JUnit reports passed and failed: `count.py REPORT...` prints `PASSED FAILED`.

Whatever was skipped or did not come to its end counts as failed: nothing in this project's tests may be left out silently.
"""
import sys
import xml.etree.ElementTree as ElementTree

passed = failed = 0
for report in sys.argv[1:]:
    for case in ElementTree.parse(report).iter("testcase"):
        if any(case.find(bad) is not None for bad in ("failure", "error", "skipped")):
            failed += 1
        else:
            passed += 1
print(passed, failed)
