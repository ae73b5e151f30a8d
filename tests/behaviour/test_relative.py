"""File locks whose path is relative: one lock, wherever one of those who know it stands."""
import json
import os
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, forms, read_line

# A job that leaves its directory, prints its lock and ends with its standard input.
LEAVING = ("sh", "-c", 'cd / && echo "$ME_ONLY_LOCK"; exec cat >/dev/null')

NAMES = {"lock": "lock", "./lock": "lock", ".//./lock": "lock", "../up": "../up", "a/../lock": "a/../lock",
         "...": "...", "link": "link", ".": "."}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work/a").mkdir(parents=True)
    (tmp_path / "work/link").symlink_to("target")
    return str(tmp_path / "work")


@pytest.mark.parametrize("name", NAMES)
def test_the_command_gets_the_path_whole_and_no_link_is_followed(run, folder, name):
    r = run(f"file:{name}", "printenv", "ME_ONLY_LOCK", cwd=folder)
    assert r.stdout.decode() == f"file:{folder}/{NAMES[name]}\n"


def test_in_the_root_directory(run, tmp_path):
    name = f"{tmp_path}/lock".lstrip("/")
    assert run(f"file:{name}", "printenv", "ME_ONLY_LOCK", cwd="/").stdout.decode() == f"file:/{name}\n"


def test_a_path_that_is_whole_stays_as_given(run, folder):
    name = f"file:{folder}//a/.././lock"
    assert run(name, "printenv", "ME_ONLY_LOCK", cwd=folder).stdout.decode() == name + "\n"


def test_the_name_of_a_host_lock_is_never_relative(run, lock, folder):
    for name in (lock, "host:" + lock, "." + lock):
        assert run(name, "printenv", "ME_ONLY_LOCK", cwd=folder).stdout.decode() == name + "\n"


@forms
def test_it_is_the_same_lock_from_another_directory(run, folder, form):
    script = 'cd / && "$0" -w inf "$ME_ONLY_LOCK" echo ran; echo $?; exec "$0" --held "$ME_ONLY_LOCK"'
    r = run(*form, "file:lock", "sh", "-c", script, ME_ONLY, cwd=folder, preexec_fn=lambda: os.umask(0o077))
    assert (r.returncode, r.stdout) == (0, b"4\n") and b": this job already holds it: " in r.stderr


@forms
def test_a_job_that_has_changed_its_directory_is_listed(me_only, run, folder, form):
    p = me_only(*form, "file:./lock", *LEAVING, cwd=folder, stdin=subprocess.PIPE)
    spec = read_line(p.stdout).decode().rstrip("\n")
    rows = [row for row in json.loads(run("--list", "--json").stdout)["locks"] if row["lock"] == spec]
    assert spec == f"file:{folder}/lock" and len(rows) == 1


def test_heirs_in_another_directory_are_replaced(run, folder):
    """What they were started with proves that they belong to the lock."""
    run("-F", "file:lock", "sh", "-c", "(cd / && exec setsid sleep 1000) >/dev/null 2>&1 &", cwd=folder)
    r = run("--replace", "-k", "0", "-w", "60", "file:./lock", "echo", "ran", cwd=folder)
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


def test_the_keepers_directory_is_not_the_jobs(start, run, folder):
    """It is "/": a file there is another one."""
    p = start(ME_ONLY, "-o", "file:lock", "env", "-i", "/bin/sh", "-c", "echo; exec cat >/dev/null", cwd=folder,
              stdin=subprocess.PIPE)
    read_line(p.stdout)
    listed = [row["lock"] for row in json.loads(run("--list", "--json", cwd="/").stdout)["locks"]]
    assert listed.count(f"file:{folder}/lock") == 1 and "file:/lock" not in listed


GONE = """
import os, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


@forms
@pytest.mark.parametrize("options", [(), ("-w", "inf"), ("-q",)], ids=" ".join)
def test_a_directory_that_is_gone_names_nothing(start, folder, form, options):
    p = start(sys.executable, "-c", GONE, folder + "/gone", ME_ONLY, *form, *options, "file:../lock", "echo", "ran")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (3, b"")
    assert err == b"me-only: file:../lock: cannot make the path absolute: No such file or directory\n"
    assert not os.path.exists(folder + "/lock")


def test_a_path_that_is_too_long_when_it_is_whole(start, folder):
    deep = "import os, sys\nfor i in range(20):\n    os.mkdir('d' * 250); os.chdir('d' * 250)\nos.execv(sys.argv[1], sys.argv[1:])"
    p = start(sys.executable, "-c", deep, ME_ONLY, "file:lock", "echo", "ran", cwd=folder)
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (3, b"") and b": cannot make the path absolute: " in err
