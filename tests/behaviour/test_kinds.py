"""
Kinds of locks that helpers keep: the program knows each from a row that the build generates
(src/helper/kinds.awk). me-only-toy has one more kind, "toy", whose helper is the stub.
"""
import glob
import os
import shutil
import socket
import subprocess

import pytest

from conftest import DEADLINE, ME_ONLY, ROOT, program

# Each option that a kind may support, as a caller gives it.
GIVEN = {"shared": ["-s"], "slots": ["-j2"], "queue": ["-w1", "--queue=1"], "ttl": ["--ttl=30"],
         "hold-for": ["--hold-for=1"], "list": ["--list"]}
ETCD = os.path.join(os.path.dirname(ME_ONLY), "libexec", "me-only", "etcd")
KINDS = [os.path.basename(os.path.dirname(path))
         for path in glob.glob(os.path.join(ROOT, "src", "*", "supports"))]


@pytest.fixture
def toy(tmp_path):
    """toy(ARGUMENT...) runs me-only-toy with a directory of helpers that has only toy."""
    shutil.copy(program("stub-helper"), tmp_path / "toy")
    tmp_path.chmod(0o755)
    env = {**os.environ, "ME_ONLY_EXEC_PATH": str(tmp_path)}
    return lambda *argv: subprocess.run([program("me-only-toy"), *argv], env=env, text=True,
                                        stdin=subprocess.DEVNULL, capture_output=True,
                                        timeout=DEADLINE)


@pytest.mark.parametrize("kind, helper", [("toy", program("stub-helper")), ("etcd", ETCD)])
def test_the_row_is_what_the_helper_supports(toy, kind, helper):
    """A helper's reply agrees with what the program refuses."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        subprocess.run([helper, "1", "supports", "x"], stdin=its, stdout=its, timeout=DEADLINE)
        word, *lines = ours.recv(4096).decode().split("\n")
    assert word == "supports"
    supports = dict(line.split(" ", 1) for line in lines)["options"].split()
    assert supports and GIVEN.keys() >= set(supports)
    for option, given in GIVEN.items():
        # If it is not refused, the lock is held or the helper is missing.
        r = toy(*given, f"{kind}:busy", *([] if option == "list" else ["true"]))
        refused = r.stderr.startswith(f"me-only: {given[-1].split('=')[0].rstrip('2')} is ")
        assert (r.returncode == 2) == refused == (option not in supports), (option, r)


def test_a_helper_and_a_row_are_enough(toy):
    assert toy("toy:free", "echo", "ran").stdout == "ran\n"
    r = toy("toy:busy", "echo", "ran")
    assert (r.returncode, r.stdout) == (4, "")
    assert r.stderr.startswith("me-only: toy:busy: held by ")
    assert "toy:NAME" in toy("--help").stdout
    r = toy("-s", "toy:free", "true")
    assert (r.returncode, r.stderr.split(";")[0]) == (
        2, "me-only: -s is for file and etcd locks: write file:PATH or etcd:NAME instead of "
        "'toy:free'")
    r = toy("--ttl=30", "free", "true")
    assert (r.returncode, r.stderr.split(";")[0]) == (
        2, "me-only: --ttl is for fleet locks, such as etcd:NAME, such as toy:NAME, not "
        "for 'free'")


@pytest.mark.parametrize("words", ["options shared bad", "option slots", "library",
                                   "options shared", "library libtoy"])
def test_a_mistake_in_a_row_fails_the_build(tmp_path, words):
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "supports").write_text(f"# A kind.\n{words}\n")
    awk = ["awk", "-f", os.path.join(ROOT, "src", "helper", "kinds.awk")]
    r = subprocess.run([*awk, "kind/supports"], cwd=tmp_path, capture_output=True, text=True,
                       timeout=DEADLINE)
    assert (r.returncode, r.stdout) == (1, "") and r.stderr.startswith("kind/supports: "), r


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_known_to_the_completions_and_has_a_manual(kind):
    assert os.path.exists(os.path.join(ROOT, "man", f"me-only-{kind}.7"))
    for name in ("_me-only", "me-only.bash", "me-only.fish"):
        with open(os.path.join(ROOT, "completions", name), encoding="utf-8") as f:
            assert f"{kind}:" in f.read()


def test_no_service_is_named_by_what_all_kinds_share():
    """A new kind is a new row, and changes none of these files."""
    found = []
    for room in ("", "base", "file", "helper", "host", "list", "run"):
        for path in glob.glob(os.path.join(ROOT, "src", room, "*.[ch]")):
            with open(path, encoding="utf-8") as f:
                found += [(path, line) for line in f if any(kind in line for kind in KINDS)]
    assert KINDS and found == []
