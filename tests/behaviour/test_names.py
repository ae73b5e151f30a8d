"""
A name is any non-empty string of bytes without NUL, compared byte for byte, never cut, and
displayed safely (rule 1).
"""
import hashlib
import os
import re
import socket
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, forms, is_bound, refusal, release, wait_for

LONGEST_PLAIN = 77  # a longer name is told apart by its digest, after its first bytes
READABLE = 44
# All lengths around which an address could change: readable, plain, a socket address, a path.
LENGTHS = [1, 2, 20, *range(READABLE - 2, READABLE + 3),
           *range(LONGEST_PLAIN - 2, LONGEST_PLAIN + 4), 86, 87, 88,
           *range(96, 111), 255, 256, 257, 4095, 4096, 4097, 65_536, 100_000]
lengths = pytest.mark.parametrize("length", LENGTHS)


def expected_address(name):
    """The address by its specification, which all versions of the program must agree on."""
    if len(name) <= LONGEST_PLAIN:
        return b"\0me-only:" + name
    return b"\0me-only#" + name[:READABLE] + b"#" + hashlib.sha256(name).hexdigest()[:32].encode()


def expected_queue(name):
    return expected_address(name) + b"\0queue\0%d" % os.geteuid()


def unused(length):
    """A name of that length that no other test has."""
    while True:
        name = os.urandom(length // 2 + 1).hex().encode()[:length]
        # A short name of letters might be used by another program on this machine.
        name = bytes(b | 0x80 for b in name) if length < 20 else name
        if not is_bound(expected_address(name)):
            return name


# --- every length ---

@forms
@lengths
def test_every_length_is_a_lock_at_the_specified_address(hold, run, length, form):
    name = unused(length)
    holder = hold(name, *form)
    assert is_bound(expected_address(name))
    refusal(run, name)
    refusal(run, b"host:" + name)
    assert release(holder) == 0
    assert not is_bound(expected_address(name))
    assert run(name, "true").returncode == 0


@lengths
def test_names_that_differ_anywhere_are_different_locks(hold, run, length):
    name = unused(length)
    hold(name)
    others = {name[:-1] + bytes([name[-1] ^ 1]), name[:-1] + b" ", name[:-1] + b"\n",
              name[:-1] + b"\xff", b"/" + name[1:],
              name.swapcase(), name + b" ", name + b"\n", name + b"\t", name + b"\xff",
              name + b"\xc3", name + b"/",
              b" " + name, (name + name)[:100_001], name + b"\\0", name + b"\\n", b"./" + name,
              name[::-1]}
    if length > 1:
        middle = length // 2
        others |= {name[:-1], name[1:], name[:middle] + bytes([name[middle] ^ 1])
                   + name[middle + 1:]}
    if length > LONGEST_PLAIN:
        others |= {name[:LONGEST_PLAIN], name[:READABLE], expected_address(name)[9:],
                   expected_address(name)[1:]}
    others -= {name}
    seen = {other: run("--", other, "echo", "ran").stdout for other in others
            if not other.startswith(b"host:")}
    assert seen == {other: b"ran\n" for other in seen}
    refusal(run, name)


@lengths
def test_one_can_wait_for_every_length(hold, start, run, length):
    name = unused(length)
    holder = hold(name)
    waiter = start(ME_ONLY, "-w", "inf", name, "echo", "ran")
    wait_for(lambda: is_bound_quietly(expected_queue(name)),
             "it waits in the queue at the specified address")
    refusal(run, name)
    assert release(holder) == 0
    assert (waiter.communicate(timeout=DEADLINE), waiter.returncode) == ((b"ran\n", b""), 0)


@lengths
def test_slots_and_places_are_at_the_specified_addresses(hold, start, run, length):
    """docs/design.md: other versions, and other programs, must agree on them."""
    name = unused(length)
    holders = [hold(name, "-j3") for _ in range(3)]
    names = [b"", b"\0slot\0001", b"\0slot\0002"]
    assert all(is_bound(expected_address(name) + suffix) for suffix in names)
    waiter = start(ME_ONLY, "-w", "inf", "-j3", "--queue=2", name, "echo", "ran")
    wait_for(lambda: is_bound_quietly(expected_queue(name) + b"\0003"),
             "it waits in the queue of three slots")
    assert is_bound_quietly(expected_address(name) + b"\0place\0000")
    refusal(run, "-j3", name)
    refusal(run, name)
    assert release(holders[1]) == 0
    assert (waiter.communicate(timeout=DEADLINE), waiter.returncode) == ((b"ran\n", b""), 0)
    assert [is_bound(expected_address(name) + suffix) for suffix in names] == [True, False, True]
    refusal(run, name)
    assert run("-j3", name, "printenv", "ME_ONLY_SLOT").stdout == b"1\n"


def test_places_of_a_file_are_at_the_specified_address(hold, start, tmp_path):
    holder = hold("file:lock", cwd=tmp_path)
    waiter = start(ME_ONLY, "-w", "inf", "--queue=1", f"file:{tmp_path}/lock", "echo", "ran")
    status = os.stat(tmp_path / "lock")
    place = b"\0me-only@%d:%d:%d\0place\0000" % (os.major(status.st_dev), os.minor(status.st_dev),
                                                 status.st_ino)
    wait_for(lambda: is_bound_quietly(place), "it waits in the first place")
    assert release(holder) == 0
    assert (waiter.communicate(timeout=DEADLINE), waiter.returncode) == ((b"ran\n", b""), 0)
    assert not is_bound_quietly(place)


def is_bound_quietly(address):
    """
    As is_listed(), for addresses that may contain newlines; the queue must not be bound, not even
    for an instant.
    """
    with open("/proc/net/unix", "rb") as f:
        return b" " + address.replace(b"\0", b"@") + b"\n" in f.read()


@pytest.mark.root
@pytest.mark.parametrize("length", [LONGEST_PLAIN, 100_000])
def test_the_longest_user_id_has_a_queue_too(hold, start, public_me_only, length):
    name = unused(length)
    holder = hold(name)
    user = 4_294_967_294
    waiter = start("setpriv", f"--reuid={user}", "--clear-groups", public_me_only, "-w", "inf",
                   name, "echo", "ran")
    wait_for(lambda: is_bound_quietly(expected_address(name) + b"\0queue\0%d" % user), "it waits")
    assert release(holder) == 0
    assert waiter.communicate(timeout=DEADLINE)[0] == b"ran\n"


def test_many_long_names_with_one_beginning(hold, run):
    """All of them are held at once."""
    beginning = unused(99_000)
    names = [beginning + b"%d" % i for i in range(20)]
    holders = [hold(name) for name in names]
    assert len({expected_address(name) for name in names}) == 20
    for name in names:
        refusal(run, name)
    for holder in holders:
        assert release(holder) == 0


# --- any bytes ---

def test_every_byte_is_itself(hold, run, lock):
    name = lock.encode() + bytes(range(1, 50))
    hold(name)
    for byte in range(1, 256):
        changed = name[:-1] + bytes([byte])
        assert run(changed, "true").returncode == (4 if changed == name else 0)
    for byte in range(1, 256):
        assert run(lock.encode() + bytes([byte]), "printenv",
                   "ME_ONLY_LOCK").stdout == lock.encode() + bytes([byte, 10])


def test_all_bytes_in_one_name(hold, run, lock):
    name = lock.encode() + bytes(range(1, 256))
    holder = hold(name)
    assert is_bound(expected_address(name))
    refusal(run, name)
    assert release(holder) == 0


def test_no_file_is_made(run, tmp_path):
    assert run(str(tmp_path / "lock"), "true").returncode == 0
    assert run("./lock", "true", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []


def test_a_name_is_no_path(hold, run, lock, tmp_path):
    """
    The same file by another path is another lock; the same path in another directory is the same
    lock.
    """
    hold("." + lock, cwd=tmp_path)
    assert run("./" + lock, "true", cwd=tmp_path).returncode == 0
    refusal(run, "." + lock)


def test_the_type_of_the_socket_is_seqpacket(hold, lock):
    """The kernel keeps names of different types apart: another type would be another lock."""
    hold(lock)
    address = expected_address(lock.encode())
    for kind, held in ((socket.SOCK_STREAM, False), (socket.SOCK_DGRAM, False),
                       (socket.SOCK_SEQPACKET, True)):
        with socket.socket(socket.AF_UNIX, kind) as s:
            if held:
                pytest.raises(OSError, s.bind, address)
            else:
                s.bind(address)


def test_a_name_that_begins_with_a_dash(run, lock):
    name = "-" + lock
    inner = run("--", name, ME_ONLY, "--held", "--", name)
    assert (inner.returncode, inner.stderr) == (0, b"")
    assert run(name, "true").returncode == 2


# --- engines ---

def test_host_is_the_engine_of_a_plain_name(hold, run, lock):
    hold("host:" + lock)
    refusal(run, lock)
    assert run("host:host:" + lock, "true").returncode == 0


def test_a_file_and_the_name_that_looks_like_it_are_two_locks(hold, run, tmp_path):
    path = str(tmp_path / "lock")
    hold("file:" + path)
    assert run(path, "echo", "ran").stdout == b"ran\n"
    assert run("host:file:" + path, "echo", "ran").stdout == b"ran\n"
    refusal(run, "file:" + path)


def test_a_path_is_from_the_working_directory(hold, run, tmp_path):
    hold("file:lock", cwd=tmp_path)
    refusal(run, f"file:{tmp_path}/lock")
    refusal(run, f"file:{tmp_path}/./lock")
    assert os.listdir(tmp_path) == ["lock"]


@forms
@pytest.mark.parametrize("name", ["", "host:", "file:", "etcd:"])
def test_the_empty_name_is_refused(run, name, form):
    r = run(*form, name, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert re.fullmatch(r"me-only: [^\n]*empty[^\n]*; try 'me-only --help'\n", r.stderr.decode()), \
        r.stderr


@pytest.mark.parametrize("beginning", ["etdc:", "db:", "a:", "hosts:", "hos:", "a-b:", "a+b:",
                                       "s3:", "z0-9+-:", "http:",
                                       "files:", "fil:", "etc:", "etcds:", "x" * 300 + ":"])
def test_a_beginning_that_looks_like_an_engine_is_refused(run, lock, beginning):
    for name in (beginning + lock[1:], beginning + lock, beginning):
        r = run(name, "echo", "ran")
        assert (r.returncode, r.stdout) == (2, b"")
        text = r.stderr.decode()
        assert text.startswith("me-only: ") and text.endswith("; try 'me-only --help'\n") \
            and text.count("\n") == 1
        assert f"host:{name}" in text
    assert run("host:" + beginning + lock, "echo", "ran").stdout == b"ran\n"


@pytest.mark.parametrize("beginning", ["/etdc:", ".etdc:", "Etdc:", "ETDC:", "0etdc:", "+a:",
                                       "et dc:", "et_dc:", "et.dc:",
                                       "é:", ":", "etdc", "HOST:", "et\n:", "FILE:", "/file:",
                                       "./file:"])
def test_any_other_beginning_is_part_of_the_name(hold, run, lock, beginning):
    name = beginning + lock[1:]
    hold(name)
    assert is_bound(expected_address(name.encode()))
    refusal(run, name)
    refusal(run, "host:" + name)


# --- how names are shown ---

SHOWN = {
    "plain": (b"abc DEF 123 ~!@#$%^&*()'\"", "abc DEF 123 ~!@#$%^&*()'\""),
    "backslash": (rb"a\nb\\c", r"a\\nb\\\\c"),
    "newline": (b"a\nb\r\n", r"a\x0ab\x0d\x0a"),
    "every C0 but those": (bytes(range(1, 10)), "".join(rf"\x{n:02x}" for n in range(1, 10))),
    "escape sequence": (b"\x1b[2J\x1b]0;x\x07", r"\x1b[2J\x1b]0;x\x07"),
    "DEL": (b"\x7f", r"\x7f"),
    "C1 in UTF-8": ("\u0080\u0085\u009b31m\u009f".encode(), r"\xc2\x80\xc2\x85\xc2\x9b31m\xc2\x9f"),
    "C1 bytes": (b"\x9b31m", r"\x9b31m"),
    "letters beyond ASCII": ("é ß 漢字 Ω 🔒".encode(), "é ß 漢字 Ω 🔒"),
    "no-break space, soft hyphen": ("\u00a0\u00ad".encode(), "\u00a0\u00ad"),
    "bidi marks": ("\u061c\u200e\u200f".encode(), r"\xd8\x9c\xe2\x80\x8e\xe2\x80\x8f"),
    "bidi embeddings": ("\u202a\u202b\u202c\u202d\u202e".encode(),
                        "".join(rf"\xe2\x80\xa{c}" for c in "abcde")),
    "bidi isolates": ("\u2066\u2067\u2068\u2069".encode(),
                      "".join(rf"\xe2\x81\xa{c}" for c in "6789")),
    "invalid byte": (b"a\xffb\xfe", r"a\xffb\xfe"),
    "continuation alone": (b"a\x80b\xbf", r"a\x80b\xbf"),
    "cut off": ("漢".encode()[:2], r"\xe6\xbc"),
    "cut off by a letter": (b"\xe6\xbcx", r"\xe6\xbcx"),
    "overlong": (b"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf", r"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf"),
    "surrogate": (b"\xed\xa0\x80", r"\xed\xa0\x80"),
    "beyond Unicode": (b"\xf4\x90\x80\x80\xf8\x88\x80\x80\x80",
                       r"\xf4\x90\x80\x80\xf8\x88\x80\x80\x80"),
    "looks escaped": (rb"\x0a", r"\\x0a"),
}


@pytest.mark.parametrize("given, shown", SHOWN.values(), ids=SHOWN.keys())
def test_what_could_harm_is_shown_escaped(hold, run, lock, given, shown):
    name = lock.encode() + given
    hold(name)
    message = refusal(run, name)
    assert message.startswith(f"me-only: {lock}{shown}: held by pid ")
    assert message.count("\n") == 1 and message.endswith("\n")


@pytest.mark.parametrize("given, shown", SHOWN.values(), ids=SHOWN.keys())
def test_so_are_commands_and_arguments_of_ours(run, lock, given, shown):
    text = run(lock, b"/nowhere/" + given).stderr.decode()
    assert text == f"me-only: /nowhere/{shown}: not found\n"
    text = run(b"db:" + given, "true").stderr.decode()
    assert f"db:{shown}" in text and text.count("\n") == 1
    text = run(b"--" + given, lock, "true").stderr.decode()
    assert shown in text and text.count("\n") == 1
    text = run("-w", b"?" + given, lock, "true").stderr.decode()
    assert shown in text and text.count("\n") == 1


@pytest.mark.parametrize("given, shown", SHOWN.values(), ids=SHOWN.keys())
def test_so_is_the_command_line_of_the_holder(start, run, lock, given, shown):
    p = start(ME_ONLY, lock, "sh", "-c", "echo; cat", b"x" + given, stdin=subprocess.PIPE)
    assert p.stdout.readline()
    message = refusal(run, lock)
    assert f"x{shown}" in message and message.count("\n") == 1


def test_an_argument_of_the_holder_with_newlines_stays_on_the_line(start, run, lock):
    p = start(ME_ONLY, lock, sys.executable, "-c",
              "print(flush=True)\nimport sys\nsys.stdin.read()", stdin=subprocess.PIPE)
    assert p.stdout.readline()
    message = refusal(run, lock)
    assert r"-c print(flush=True)\x0aimport sys\x0asys.stdin.read()" in message \
        and message.count("\n") == 1


@pytest.mark.parametrize("length", [256, 1024, 4096, 100_000])
@pytest.mark.parametrize("byte", [b"a", b"\n", b"\\", b"\xff", "漢".encode()])
def test_a_long_name_is_shown_on_one_line_of_valid_text(hold, run, length, byte):
    name = unused(length)
    name = name[:40] + (byte * length)[:length - 40]
    hold(name)
    message = refusal(run, name)
    assert message.startswith(f"me-only: {name[:40].decode()}")
    assert ": held by pid " in message
    assert message.count("\n") == 1 and message.endswith("\n")
    assert message[:-1].isprintable()


def test_a_long_command_line_of_the_holder_stays_on_the_line(start, run, lock):
    p = start(ME_ONLY, lock, "sh", "-c", "echo; cat", "sh", *["argument\n"] * 5000,
              stdin=subprocess.PIPE)
    assert p.stdout.readline()
    message = refusal(run, lock)
    assert r"sh -c echo; cat sh argument\x0a argument\x0a" in message
    assert message.count("\n") == 1 and message.endswith("\n")
