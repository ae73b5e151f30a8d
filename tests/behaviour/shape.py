"""The one shape of all JSON, whatever kind of lock it is about: that of the manual's table."""

VERSION = 1
TEXT, NUMBER, COUNT, TRUTH = str, (int, float), int, bool
# What a value is if it is known; None where something is not known or does not apply.
MEMBERS = {"lock": TEXT, "role": TEXT, "state": TEXT, "process": TEXT, "mode": TEXT, "slot": COUNT,
           "slots": COUNT, "place": COUNT, "pid": COUNT, "user": TEXT, "uid": COUNT, "host": TEXT,
           "since": NUMBER, "age": NUMBER, "at_most": TRUTH, "left": NUMBER, "waiters": COUNT,
           "token": COUNT, "command": TEXT, "hidden": TEXT}
ALWAYS = {"lock", "state"}
VALUES = {"role": {"job", "child", "wrapper", "keeper", "waiter"},
          "state": {"held", "stopped", "inherited", "kept", "hidden", "waiting"},
          "process": {"running", "sleeping", "blocked", "stopped", "traced", "zombie", "dead",
                      "idle"},
          "mode": {"exclusive", "shared", "slots"}}


def rows_of(answer, name):
    """The rows of an answer to --who or --list (NAME "who" or "locks"), which has the shape."""
    assert list(answer) == ["version", name] and answer["version"] == VERSION, answer
    for row in answer[name]:
        assert list(row) == list(MEMBERS), row
        for key, value in row.items():
            assert value is not None or key not in ALWAYS, (key, row)
            if value is None:
                continue
            assert isinstance(value, MEMBERS[key]) and \
                isinstance(value, bool) == (MEMBERS[key] is TRUTH), (key, row)
            assert value in VALUES.get(key, {value}), (key, row)
        assert (row["age"] is None) == (row["since"] is None) == (row["at_most"] is None), row
    return answer[name]
