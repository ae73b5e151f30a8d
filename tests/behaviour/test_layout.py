"""The pages of the program that a run maps: only those that it needs (src/layout.ld)."""
import os
import re

import pytest

from conftest import ME_ONLY, ROOT, children_of, name_of, wait_for


def mapped(pid):
    """How many bytes of each of its segments of code PID has mapped, in the order of their addresses."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        areas = re.findall(r"^[0-9a-f]+-[0-9a-f]+ r-xp .* (/\S*)\n(?:\w+: .*\n)*?Rss: +(\d+) kB", f.read(), re.M)
    return [int(kb) for path, kb in areas if path == os.path.realpath(ME_ONLY)]


@pytest.mark.static
@pytest.mark.parametrize("options", [[], ["-o"], ["-j2"], ["-w", "1m"]], ids=["default", "close", "slots", "wait"])
def test_a_run_without_incidents_touches_only_the_first_segment(hold, lock, options):
    holder = hold(lock, *options)
    first, rare = mapped(holder.pid)
    assert first > 0 and rare == 0


@pytest.mark.static
def test_nor_does_its_keeper(hold, lock):
    holder = hold(lock, "-o")
    keeper = wait_for(lambda: [p for p in children_of(holder.pid) if name_of(p) == "me-only keeper"], "the keeper")[0]
    assert mapped(keeper)[1] == 0


@pytest.mark.static
def test_what_is_needed_to_explain_a_refusal_is_in_the_other_one(hold, lock, me_only):
    hold(lock)
    waiter = me_only("-v", "-w", "1m", lock, "true")
    waiter.stderr.readline()
    assert mapped(waiter.pid)[1] > 0


def test_every_source_that_the_layout_names_is_there():
    with open(os.path.join(ROOT, "src", "layout.ld"), encoding="utf-8") as f:
        named = re.findall(r"\*src_([\w-]+\.c)\.o\(", f.read())
    assert named
    for source in named:
        assert os.path.exists(os.path.join(ROOT, "src", source)), source
