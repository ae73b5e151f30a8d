"""
The documents match the program: the recipes of the README and of docs/ are run, and all lists of
options are compared.
"""
import configparser
import contextlib
import glob
import os
import re
import socket
import stat
import subprocess

import pytest

from conftest import DEADLINE, ME_ONLY, ROOT, address, children_of, is_bound, is_listed, queue_of, \
    release, user, wait_for

# The contract in short. The help, the manual page, the README and the completions are compared with
# it.
OPTIONS = {"-w": "DURATION", "--wait": "DURATION", "-n": None, "--nonblock": None, "-F": None, "--no-fork": None,
           "-o": None, "--close": None, "-E": "N", "--conflict-exit-code": "N", "--exit-base": "N", "-q": None,
           "--quiet": None, "-v": None, "--verbose": None, "--held": None, "-h": None,
           "--help": None, "--version": None,
           "--replace": None, "-k": "DURATION", "--kill-after": "DURATION", "--complain-after": "AGE", "--who": None,
           "--list": None, "--json": None, "-s": None, "--shared": None, "-j": "N", "--slots": "N", "--queue": "N", "--ttl": "DURATION",
           "--hold-for": "DURATION", "-x": None, "--exclusive": None, "-e": None, "--nb": None,
           "--timeout": "DURATION", "-V": None}
# Other forms, for users of flock: beside the first one in the manual, and in the help behind "also".
ALSO = {"-e": "-x", "--nb": "--nonblock", "--timeout": "--wait"}
# What only users of flock need.
OF_FLOCK = {*ALSO, "-x", "--exclusive", "-V"}
STATUSES = {1, 2, 3, 4, 5}
VARIABLES = {"ME_ONLY_LOCK", "ME_ONLY_SLOT", "ME_ONLY_TOKEN"}
OWN_VARIABLES = {"ME_ONLY_EXEC_PATH"}  # read by me-only itself
VERSION = "1.0.0"

OPTION = re.compile(r"(?<![-\w/.@])--?[a-zA-Z][-a-z]*\b")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


# The README and what it leads to; docs/design.md and others have no recipes.
DOCUMENTS = ["README.md"] + sorted(os.path.relpath(path, ROOT)
                                   for path in glob.glob(os.path.join(ROOT, "docs", "*.md")))


def recipes(path):
    """The blocks of a document that are marked with <!-- recipe: NAME -->: {NAME: (KIND, TEXT)}."""
    found = re.findall(r"<!-- recipe: ([\w-]+) -->\n```(\w+)\n(.*?)```\n", read(path), re.S)
    assert len(found) == len(dict.fromkeys(name for name, _, _ in found)) \
        == read(path).count("<!-- recipe: ")
    return {name: (kind, text) for name, kind, text in found}


def recipe(name):
    """The text of a recipe; where two documents have it, it is the same."""
    found = {recipes(path)[name][1] for path in DOCUMENTS if name in recipes(path)}
    assert len(found) == 1, f"one recipe named {name}"
    return found.pop()


PAGES = ["me-only.1", "me-only-messages.7", "me-only-etcd.7"]


def manual_text(page="me-only.1"):
    text = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=1000",
                           os.path.join(ROOT, "man", page)],
                          capture_output=True, check=True, timeout=DEADLINE, text=True).stdout
    return re.sub(".\b", "", text).replace("\u00a0", " ")


def manual(section, page="me-only.1"):
    """The plain text of one section of a manual page."""
    return re.search(rf"^{section}\n(.*?)(?=^\S)", manual_text(page), re.M | re.S)[1]


# --- lists that must agree ---

def test_options_in_the_help(run):
    text = run("--help").stdout.decode()
    rows = [line for line in text.split("\n") if re.match(r"  (-\w, |    )--", line)]
    shown = {}
    for row in rows:
        letter, name, argument = re.match(r"  (?:(-\w), |    )(--[a-z-]+)(?:=(\w+))?(?=\s)",
                                          row).groups()
        shown[name] = argument
        if letter:
            shown[letter] = argument
    for row in re.split(r"\n(?=  -|      --)", text.split("\n\n")[2]):
        for also in re.findall(r"; also (-\S+)", row):
            assert f"{ALSO[also]}," in row or f"{ALSO[also]}=" in row or f"{ALSO[also]} " in row
            shown[also] = shown[ALSO[also]]
    assert shown == OPTIONS


def test_options_in_the_manual():
    tags = re.findall(r"^ {5}(-.*)$",
                      manual("OPTIONS").split(
                          "\n     A duration is ")[0], re.M)
    shown = {}
    for tag in tags:
        # A short tag has its text on the same line.
        for form in re.split(", (?=-)", tag.split("  ")[0]):
            option, argument = re.match(r"(--?[a-zA-Z-]+)[ =]?(duration|status|number|age)?$",
                                        form).groups()
            shown[option] = argument
    assert shown.keys() == OPTIONS.keys()
    assert {o for o in shown if shown[o]} == {o for o in OPTIONS if OPTIONS[o]}
    synopsis = manual("SYNOPSIS")
    for option in OPTIONS:
        letters = re.search(r"\[-(\w+)\]", synopsis)[1]
        known_by_letter = {"--nonblock": "n", "--no-fork": "F", "--close": "o", "--quiet": "q",
                           "--verbose": "v", "--wait": "w",
                           "--conflict-exit-code": "E", "--kill-after": "k", "--shared": "s",
                           "--slots": "j", "--exclusive": "x", **{
                               also: ALSO[also].strip("-")[0] for also in ALSO if also[1] == "-"}}
        short = option if len(option) == 2 else "-" + known_by_letter.get(option, "")
        assert short[1:] and short[1:] in letters or option in synopsis \
            or f"[{short} " in synopsis, option


def test_the_readme_is_short():
    lines = read("README.md").splitlines()
    shown = recipes("README.md")
    assert len(lines) <= 150 and len(shown) == 10
    assert all(text.count("\n") <= 5 for _, text in shown.values())
    assert shown.items() <= recipes("docs/recipes.md").items(), "with more words"
    assert {"scripts/demo", "scripts/check"} <= {line.split("#")[0].strip() for line in lines}


# Options of etcd, etcdctl and openssl.
OF_THE_CLUSTER = {
    "--advertise-client-urls", "--auth-token", "--auto-compaction-retention", "--bump-revision", "--cert-file",
    "--client-cert-auth", "--data-dir", "--election-timeout",
    "--enable-grpc-gateway", "--experimental-enable-lease-checkpoint", "--key-file", "--keys",
    "--listen-client-http-urls",
    "--listen-client-urls", "--listen-peer-urls", "--trusted-ca-file", "-addext", "-days",
    "-keyout", "-newkey", "-nodes", "-out", "-pkeyopt", "-subj"}


@pytest.mark.parametrize("path", ["README.md", "docs/recipes.md", "docs/faq.md",
                                  "docs/moving-from-flock.md", "NEWS.md", "SECURITY.md",
                                  *(f"man/{page}" for page in PAGES)])
def test_no_other_option_is_mentioned(path):
    """An option in a document is one of me-only's, or one of a program that an example calls."""
    others = {"--command", "--unlock", "--full", "--ff-only", "-C", "-xl", "--prefix", "-c", "-eq", "-eu", "-TERM", "-u",
              "-a", "-d", "-r", "-U", "--map-root-user", "-e", "-x", "-f", "-l", "--strip-components", "-xf",
              "-I", "-P"}
    if path in ("man/me-only-etcd.7", "README.md", "docs/recipes.md"):
        others |= OF_THE_CLUSTER
    text = manual_text(path.removeprefix("man/")).replace("[-eFnoqsvx]",
                                                          "") if path.startswith("man/") else read(
                                                              path)
    assert set(OPTION.findall(text)) - set(OPTIONS) - others == set()


def test_statuses(run):
    in_help = {int(n) for n in re.findall(r"^  (\d+)  ", run("--help").stdout.decode(), re.M)}
    in_manual = {int(n) for n in re.findall(r"^ +(\d+)  ", manual("EXIT STATUS"), re.M)}
    in_readme = {int(n) for n in re.findall(r"^\| (\d+) \|", read("README.md"), re.M)}
    assert in_help == in_manual == in_readme == STATUSES


def test_variables(run, lock):
    in_help = set(re.findall(r"ME_ONLY_\w+", run("--help").stdout.decode()))
    in_manual = set(re.findall(r"ME_ONLY_\w+", manual("ENVIRONMENT")))
    before = {"PATH": os.environ["PATH"], "HOME": "/"}
    seen = dict(line.split("=", 1) for line in run(lock, "env",
                                                   env=before).stdout.decode().splitlines())
    assert {name: value for name, value in seen.items()
            if name not in before} == {"ME_ONLY_LOCK": lock}
    seen = dict(line.split("=", 1) for line in run("-j3", lock, "env",
                                                   env=before).stdout.decode().splitlines())
    assert {name: value for name, value in seen.items()
            if name not in before} == {"ME_ONLY_LOCK": lock, "ME_ONLY_SLOT": "0"}
    in_readme = set(re.findall(r"ME_ONLY_\w+", read("README.md")))
    assert in_help == in_readme == VARIABLES and in_manual == VARIABLES | OWN_VARIABLES


def test_version(run):
    assert run("--version").stdout.decode() == f"me-only {VERSION}\n"
    assert re.search(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", read("NEWS.md"), re.M)[1] == VERSION
    assert f"version: '{VERSION}'" in read("meson.build")


# Messages of the helper to me-only, which does not print them; and what cannot have more words.
THREE_WORDS = r"[a-z]+ [\w-]+ [\w-]+"
UNSAID = {"others have it", "out of memory"}


def strings_of(name):
    """The strings of a source with at least three words, without the marks around them."""
    text = re.sub(r"/\*.*?\*/|^#include.*?$", "", read("src", name), flags=re.S | re.M)
    # messages of others; not a string at all
    text = re.sub(r'strstr\(\w+, "[^"]*"\)', "", text).replace("'\"'", "")
    text = re.sub(r'\{ [A-Z_]+, "[^"]*"', "", text)
    text = re.sub(r'(?<!\\)"\s+"', "", text)  # one string, written as two
    found = [re.sub(r"\\.", "", s) for s in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]
    if name.startswith("etcd/"):
        # Text after a colon or in parentheses is advice, which the page gives in other words, or a
        # message of the server.
        found = [re.match(rf"(.*?{THREE_WORDS}.*?)(: | \(|$)", s, re.S)[1] for s in found
                 if re.search(THREE_WORDS, s)]
        found = [part for s in found for part in re.split(r"%[ls.*]*[a-zA-Z]|%$|\([^)]*\)?", s)]
    found = [s.strip(" .,:;()'") for s in found]
    return [s for s in found if re.search(THREE_WORDS, s) and s not in UNSAID]


# help.c, options.c and their table have the help and usage errors; lock.c has errors in names.
SILENT = {"help.c", "options.c", "option-rows.c", "lock.c"}
ROOMS = ["", "run/", "host/", "file/", "helper/", "base/", "etcd/"]
SPEAKING = ["list/main.c"] + [
    room + n for room in ROOMS for n in sorted(os.listdir(os.path.join(ROOT, "src", room)))
    if n.endswith(".c") and n not in SILENT]


@pytest.mark.parametrize("name", [n for n in SPEAKING if strings_of(n)])
def test_every_message_is_in_the_manual(name):
    pages = PAGES[1:] if name.startswith("etcd/") else PAGES[1:2]
    text = re.sub(r"\s+", " ", " ".join(manual("DIAGNOSTICS", page) for page in pages)).replace(
        "\u2018", "'").replace("\u2019", "'")
    assert [s for s in strings_of(name) if s not in text] == []


def test_messages_in_the_manual(run, hold, lock):
    """The manual quotes the program's messages word for word."""
    text = manual("DIAGNOSTICS", "me-only-messages.7")
    hold(lock)
    for options, begin in (((), "held by pid "), (("-w", "0.01"), "gave up after ")):
        said = run(*options, lock, "true").stderr.decode()
        assert begin in said and f"LOCK: {begin}" in text
    assert "COMMAND: not found" in text and run(lock + "2",
                                                "/nonexistent").stderr.endswith(b": not found\n")
    assert "COMMAND: cannot be run: REASON" in text \
        and b": cannot be run: " in run(lock + "3", "/").stderr
    assert "try 'me-only --help'" in text.replace("‘", "'").replace("’", "'")
    assert run("--no-such").stderr.endswith(b"; try 'me-only --help'\n")


def test_messages_about_other_shapes_of_locks_in_the_manual(run, hold, start, lock, tmp_path):
    text = re.sub(r"\s+", " ", manual("DIAGNOSTICS", "me-only-messages.7"))
    for _ in range(2):
        hold(lock, "-j2")
    said = run("-j2", lock, "true").stderr.decode()
    assert re.search(r": all 2 slots are in use, slot [01] held by pid \d+ ", said), said
    assert "LOCK: all N slots are in use, slot K held by pid N ..." in text
    hold(lock + "/queue")
    start(ME_ONLY, "-w", "inf", "--queue=1", lock + "/queue", "true")
    wait_for(lambda: is_listed(queue_of(lock + "/queue")), "it waits")
    said = run("-w", "inf", "--queue=1", lock + "/queue", "true").stderr.decode()
    assert re.search(r": the queue is full, pid \d+ \([^)]+\) waits; held by pid \d+ ", said), said
    assert "LOCK: the queue is full, pid N (USER) waits; held by pid N ..." in text
    said = run(f"file:{tmp_path}/missing/lock", "true").stderr.decode()
    assert said == \
        f"me-only: file:{tmp_path}/missing/lock: cannot create the file: No such file or directory\n"
    assert "LOCK: cannot create the file: REASON" in text


def what_goes_with_what():
    """The table of the manual, row by row: an option, and what it is good for with each shape of lock."""
    table = manual("LOCKS").split("Supported combinations\n")[1].split("Unsupported ")[0]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip()]
    assert rows[0] == ["option", "NAME", "-j N NAME", "file:PATH", "etcd:NAME"] and len(rows) > 10
    return {row[0]: row[1:] for row in rows[1:]}


def test_what_goes_with_what(run, lock, tmp_path):
    """Where the manual's table says no the program names the alternative; otherwise it runs."""
    given = {"-w": ["-w", "1"], "-n": ["-n"], "-s": ["-s"], "-j": ["-j2"], "--queue": ["-w", "1", "--queue=1"],
             "--replace": ["--replace"], "-k": ["-k", "1"], "--ttl": ["--ttl=30"], "--hold-for": ["--hold-for=30"], "--held": ["--held"],
             "--who": ["--who"], "--list": ["--list"], "-F": ["-F"], "-o": ["-o"], "-E": ["-E", "9"]}
    shapes = [([], lock), (["-j2"], lock), ([], f"file:{tmp_path}/lock"), ([], "etcd:x")]
    table = what_goes_with_what()
    assert table.keys() == given.keys()
    for option, cells in table.items():
        assert len(cells) == len(shapes)
        for cell, (shape, name) in zip(cells, shapes):
            assert re.match(r"(yes|no)\b|if --replace$", cell)
            # Nobody listens there: a lock of etcd that makes sense is status 3, with or without its helper.
            nowhere = {**os.environ, "ETCDCTL_ENDPOINTS": "127.0.0.1:1", "ETCDCTL_COMMAND_TIMEOUT": "100ms"} if name == "etcd:x" else None
            if option in ("--held", "--who", "--list"):
                r = run(option, *([] if option == "--list" and not nowhere else [name]),
                        env=nowhere)
                assert r.returncode == (3 if nowhere else 1 if option == "--held" else 0) \
                    and cell.startswith("yes")
                continue
            r = run(*shape, *given[option], name, "echo", "ran", env=nowhere)
            if cell.startswith("yes") and nowhere:
                assert (r.returncode, r.stdout) == (3, b""), (option, shape, name)
            elif cell.startswith("yes"):
                assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b""), \
                    (option, shape, name)
            else:
                assert (r.returncode, r.stdout) == (2, b"") and option.encode() in r.stderr, (option, shape, name)
            if cell == "if --replace":
                assert run(*shape, *given[option], "--replace", name, "echo", "ran").stdout == b"ran\n"
    assert table["--replace"][1] == "no, but -j 1" and run("--replace", "-j1", lock, "echo", "ran").stdout == b"ran\n"


def test_what_is_left_behind(run, lock, tmp_path):
    """The README's table of locks."""
    rows = {row[1]: row[4] for row in (re.split(r" *\| *", line)
                                       for line in read("README.md").splitlines()) if len(row) == 6}
    assert rows["`NAME`, `host:NAME`"] == "nothing" and rows["`file:PATH`"] == "PATH, empty"
    assert run(str(tmp_path / "name"), "true").returncode == run("host:name", "true",
                                                                 cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []
    assert run(f"file:{tmp_path}/file", "true").returncode == 0
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("page", PAGES)
def test_manual_is_clean(page):
    out = subprocess.run(["mandoc", "-T", "lint", "-W", "all", os.path.join(ROOT, "man", page)],
                         capture_output=True, timeout=DEADLINE, text=True).stdout
    # Which other manual pages are installed does not matter.
    assert [line for line in out.splitlines() if "referenced manual not found" not in line] == []


@pytest.mark.parametrize("page", PAGES)
def test_manual_fits_a_terminal(page):
    text = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=80",
                           os.path.join(ROOT, "man", page)],
                          capture_output=True, check=True, timeout=DEADLINE, text=True).stdout
    assert [line for line in re.sub(".\b", "", text).splitlines() if len(line) > 80] == []


def test_examples_come_early():
    heads = re.findall(r"^[A-Z][A-Z ]+$", manual_text(), re.M)
    assert heads[:5] == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "OPTIONS"]
    assert len(manual("DESCRIPTION").splitlines()) < 20


def anchors(path):
    """The headings of a document, as links to them are written."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", read(path), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", [*DOCUMENTS, "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "NEWS.md",
                                  "bench/README.md"])
def test_links_within_the_tree(path):
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", read(path)):
        if link.startswith(("http:", "https:")):
            continue
        target = os.path.normpath(os.path.join(os.path.dirname(path), link)) if link else path
        assert os.path.exists(os.path.join(ROOT, target)), link
        assert not anchor or anchor in anchors(target), (link, anchor)


def test_scripts_are_clean():
    for options, path in (([], "examples/my-pid.sh"),
                          (["--shell=bash"], "completions/me-only.bash")):
        subprocess.run(["shellcheck", *options, os.path.join(ROOT, path)], check=True,
                       timeout=DEADLINE)
    for name, (kind, text) in (found for path in DOCUMENTS for found in recipes(path).items()):
        if kind != "sh":
            continue
        p = subprocess.run(["shellcheck", "--shell=sh", "--exclude=SC2312,SC2016", "-"], input=text,
                           text=True, capture_output=True,
                           timeout=DEADLINE)
        assert p.returncode == 0, f"{name}: {p.stdout}"


@pytest.mark.root
def test_digest_in_the_design(start):
    """Authors of a second implementation can trust the example."""
    letter, times, digest = re.search(r"\| `(.)`, (\d+) times \| `(\w+)` \|",
                                      read("docs", "design.md")).groups()
    name = letter * int(times)
    p = start("unshare", "--net", ME_ONLY, name, "cat", "/proc/net/unix")
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == 0, err
    assert f" @me-only#{name[:44]}#{digest}\n".encode() in out


def test_example_is_executable():
    assert os.stat(os.path.join(ROOT, "examples", "my-pid.sh")).st_mode & stat.S_IXOTH


NARROW = ["README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "NEWS.md", "docs/benchmarks.md",
          "docs/comparison.md", "docs/faq.md", "docs/moving-from-flock.md", "docs/protocol.md",
          "docs/recipes.md", "docs/stability.md"]


@pytest.mark.parametrize("path", NARROW)
def test_lines_are_short(path):
    assert [line for line in read(path).splitlines() if len(line) > 100] == []


@pytest.mark.root
def test_a_user_namespace_without_a_mapping(call, hold, lock):
    """As docs/faq.md says it: it excludes, and trusts nobody."""
    def in_namespace(*words):
        return call("unshare", "--user", ME_ONLY, *words, lock, "sh", "-c", "echo ran")

    assert in_namespace().stdout == b"ran\n"
    holder = hold(lock)
    for options in (), ("-q",), ("--replace",):
        r = in_namespace(*options)
        assert (r.returncode, r.stdout) == (4, b"") and b"where all users look the same" in r.stderr
    assert holder.poll() is None
    r = call("unshare", "--user", ME_ONLY, lock + "/held", ME_ONLY, "--held", lock + "/held")
    assert r.returncode == 1


# --- running the recipes ---

# A recipe's job: it logs its beginning, runs while $BLOCK exists, and logs its end.
JOB = """#!/bin/sh
echo "$0 $*: begin" >>"$LOG"
while [ -e "$BLOCK" ]; do sleep 0.01; done
echo "$0 $*: end" >>"$LOG"
exit "${JOB_STATUS:-0}"
"""


class Place:
    """
    A directory with the programs that the recipes name, and private names for their paths and
    locks.
    """

    def __init__(self, path, lock, start):
        self.path, self.lock, self.start = path, lock, start
        self.log, self.block, self.bin = path / "log", path / "block", path / "bin"
        self.bin.mkdir()
        self.log.touch()
        os.symlink(ME_ONLY, self.bin / "me-only")
        for name in ("backup.sh", "sync.sh", "deploy.sh", "report.sh", "import.sh", "git",
                     "systemctl", "make", "job", "indexer", "web-server"):
            self.program(name, JOB)
        self.env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "LOG": str(self.log),
                    "BLOCK": str(self.block)}

    def program(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def ours(self, text, *locks):
        """
        The recipe with this test's lock instead of its own, and this test's programs instead of
        those in /usr/local/bin.
        """
        for name in locks:
            assert name in text
            text = text.replace(name, self.lock)
        return text.replace("/usr/local/bin/", f"{self.bin}/")

    def shell(self, shell, text, **env):
        return self.start(*([shell, "-f"] if shell == "zsh" else [shell]), "-c", text,
                          env={**self.env, **env})

    def lines(self):
        return [re.sub(r"\S*/", "", line) for line in self.log.read_text().splitlines()]

    def running(self):
        wait_for(self.lines, "the job runs")


@pytest.fixture
def place(tmp_path, lock, start):
    return Place(tmp_path, lock, start)


def ended(p):
    out, err = p.communicate(timeout=DEADLINE)
    return p.returncode, out.decode(), err.decode()


SHELLS = ["dash", "bash", "zsh"]


def test_cron(place):
    line = recipe("cron").rstrip("\n")
    fields = re.fullmatch(r"(?:[-*/,\d]+\s+){5}(\S.*)", line)
    command = place.ours(fields[1], "/tmp/sync")
    assert "%" not in command, "cron ends the line there"
    place.block.touch()
    # As cron runs it: /bin/sh, a short PATH, output is mail.
    first = place.shell("/bin/sh", command, PATH="/usr/bin:/bin")
    place.running()
    assert ended(place.shell("/bin/sh", command, PATH="/usr/bin:/bin")) == (4, "", ""), "no mail"
    status, out, err = ended(place.shell("/bin/sh", command.replace(" -q ", " "),
                                         PATH="/usr/bin:/bin"))
    assert (status, out) == (4, "") and "held by pid" in err, "mail"
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert place.lines() == ["sync.sh --full: begin", "sync.sh --full: end"]


@pytest.mark.parametrize("shell", SHELLS)
def test_self_locking(shell, place):
    body = place.ours(recipe("self-locking"), "/tmp/backup")
    script = place.program("self", f"#!/usr/bin/env {shell}\n{body}" + JOB.split("\n", 1)[1])
    place.block.touch()
    first = place.start(script, "a b", "", "c", env=place.env)
    place.running()
    status, out, err = ended(place.start(script, env=place.env))
    assert (status, out) == (4, "") and "held by pid" in err
    # The script is killed in the middle of a step: the step holds the lock until it ends.
    assert is_bound(address(place.lock))
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert place.lines() == ["self a b  c: begin", "self a b  c: end"], \
        "its arguments are kept, and it ran once"
    assert ended(place.start(script, env={**place.env, "JOB_STATUS": "7"})) == (7, "", ""), \
        "its status is kept"
    assert not is_bound(address(place.lock))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_self_locking_started_by_a_shell(shell, place):
    """A script that cannot be executed, and is not in PATH; the shell is the one that is named."""
    line = place.ours(recipe("self-locking-sh"), "/tmp/backup")
    assert line.count(" sh ") == 1
    script = place.path / "self.sh"
    script.write_text(f"#!/bin/sh\n{line.replace(' sh ', f' {shell} ')}{JOB}")
    place.block.touch()
    first = place.start(shell, "self.sh", "a b", "", cwd=place.path, env=place.env)
    place.running()
    status, out, err = ended(place.start(shell, "./self.sh", cwd=place.path, env=place.env))
    assert (status, out) == (4, "") and "held by pid" in err
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert ended(place.start(shell, script, env={**place.env, "JOB_STATUS": "7"})) == (7, "", "")
    assert place.lines()[:2] == ["self.sh a b : begin", "self.sh a b : end"]
    script.chmod(0o755)
    assert ended(place.start("./self.sh", cwd=place.path, env=place.env))[0] == 0, "executable too"
    # What the document says of the other form, and of a pipe.
    script.write_text(place.ours(recipe("self-locking"), "/tmp/backup") + JOB)
    script.chmod(0o644)
    for name, reason in ("self.sh", "not found"), ("./self.sh", "cannot be run"):
        status, out, err = ended(place.start(shell, name, cwd=place.path, env=place.env))
        assert (status, out) == (1, "") and reason in err
    count = len(place.lines())
    piped = f"cat self.sh | {place.bin}/me-only {place.lock} {shell}"
    assert ended(place.start("sh", "-c", piped, cwd=place.path, env=place.env))[0] == 0
    assert len(place.lines()) == count + 2, "it runs, under the lock"


@pytest.mark.parametrize("shell", SHELLS)
def test_self_locking_killed_in_a_step(shell, place):
    body = place.ours(recipe("self-locking"), "/tmp/backup")
    script = place.program("self",
                           f"#!/usr/bin/env {shell}\n{body}{place.bin}/backup.sh\necho after\n")
    place.block.touch()
    first = place.start(script, env=place.env)
    place.running()
    step = place.start(ME_ONLY, place.lock, "true").stderr.read().decode()
    os.kill(int(re.search(r"held by pid (\d+) ", step)[1]), 9)
    assert first.wait(DEADLINE) == -9
    status, out, err = ended(place.start(script, env=place.env))
    assert status == 4 and "backup.sh" in err and "left running" in err
    place.block.unlink()
    wait_for(lambda: not is_bound(address(place.lock)), "the step has ended")
    assert place.lines() == ["backup.sh : begin", "backup.sh : end"]


@pytest.mark.parametrize("shell", SHELLS)
def test_or_stop(shell, place):
    text = place.ours(recipe("or-stop"), "/tmp/backup") + "echo after\n"
    assert ended(place.shell(shell, text)) == (0, "after\n", "")
    assert ended(place.shell(shell, text, JOB_STATUS="9")) == (1, "", "ERROR: no backup\n")
    place.block.touch()
    first = place.shell(shell, text)
    wait_for(lambda: len(place.lines()) == 5, "the job runs")
    status, out, err = ended(place.shell(shell, text))
    assert (status, out) == (1, "") and re.fullmatch(r"me-only: .*held by.*\nERROR: no backup\n",
                                                     err)
    place.block.unlink()
    assert ended(first) == (0, "after\n", "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("options", ["", "set -eu\n"])
def test_status(shell, options, place):
    text = options + place.ours(recipe("status"), "/tmp/backup") + "echo after\n"
    assert ended(place.shell(shell, text)) == (0, "done\nafter\n", "")
    for status in (4, 9):
        assert ended(place.shell(shell, text, JOB_STATUS=str(status))) == \
            (1, "", f"failed with status {status}\n"), "not taken for a held lock"
    place.block.touch()
    first = place.shell(shell, text)
    wait_for(lambda: len(place.lines()) == 7, "the job runs")
    status, out, err = ended(place.shell(shell, text))
    assert (status, out) == (0, "another one is running\nafter\n") and "held by pid" in err
    place.block.unlink()
    assert ended(first)[0] == 0


def test_deploy(place):
    script = place.program("deploy", place.ours(recipe("deploy"), "/srv/shop"))
    place.block.touch()
    first = place.start(script, env=place.env)
    place.running()
    second = place.start(script, env=place.env)
    wait_for(lambda: is_listed(queue_of(place.lock)), "the second one waits")
    place.block.unlink()
    assert ended(first)[0] == 0 and ended(second)[0] == 0
    name = place.lock.rsplit("/", 1)[1]
    once = [f"{name} pull --ff-only: begin", f"{name} pull --ff-only: end",
            "systemctl restart shop: begin", "systemctl restart shop: end"]
    assert [re.sub(r"^git -C ", "", line) for line in place.lines()] == once * 2


def test_deploy_once(place, run):
    text = place.ours(recipe("deploy-once"), "/srv/shop")
    place.block.touch()
    first = place.shell("dash", text)
    place.running()
    second = place.shell("dash", text)
    wait_for(lambda: is_listed(queue_of(place.lock)), "the second one waits")
    for _ in range(8):
        assert ended(place.shell("dash", text)) == (0, "", "")
    assert " -q -E 0 " in text
    status, out, err = ended(place.shell("dash", text.replace(" -q -E 0 ", " ")))
    named = re.search(r"the queue is full, pid (\d+) ", err)
    assert (status, out) == (4, "") and named, err
    assert int(named.group(1)) in [second.pid, *children_of(second.pid)], \
        "the shell, or what it has started"
    place.block.unlink()
    assert ended(first) == ended(second) == (0, "", "")
    assert place.lines() == ["deploy.sh : begin", "deploy.sh : end"] * 2, \
        "ten calls during a run make one more run"


# A job that shows its slot: no other job has the same directory.
ENCODER = """#!/bin/sh
mkdir "$SLOTS/$ME_ONLY_SLOT" || echo "slot $ME_ONLY_SLOT is another's" >>"$LOG"
while [ -e "$BLOCK" ]; do sleep 0.01; done
echo "$1" >>"$LOG"
rmdir "$SLOTS/$ME_ONLY_SLOT"
"""


@pytest.mark.parametrize("shell, jobs", [("dash", 500), ("bash", 40), ("zsh", 40)])
def test_four_at_a_time(shell, jobs, place, run):
    text = place.ours(recipe("four-at-a-time"), "encode")
    assert " -j4 " in text
    place.program("flac", ENCODER)
    slots, work = place.path / "slots", place.path / "work"
    slots.mkdir()
    work.mkdir()
    names = [f"{n} song.wav" for n in range(jobs)]
    for name in names:
        (work / name).touch()
    place.block.touch()
    p = place.shell(shell, f"cd '{work}'\n{text}", SLOTS=str(slots))
    wait_for(lambda: sorted(os.listdir(slots)) == ["0", "1", "2", "3"], "four run")
    wait_for(lambda: is_listed(address(place.lock, b"\0queue\0%d\0004" % os.geteuid())),
             "others wait")
    r = run("-j4", place.lock, "true")
    assert r.returncode == 4 and b": all 4 slots are in use, slot " in r.stderr
    r = run(place.lock, "true")
    assert r.returncode == 4 and b": held by pid " in r.stderr, "without -j it is slot 0"
    place.block.unlink()
    status, out, err = ended(p)
    assert (status, out) == (0, "")
    # A waiter prints a message after a second.
    assert [line for line in err.splitlines() if ": waiting for " not in line] == []
    assert sorted(place.log.read_text().splitlines()) == sorted(names)
    assert os.listdir(slots) == []


def waiters_for_file(path):
    """How many processes wait for an flock(2) on the file."""
    inode = os.stat(path).st_ino
    with open("/proc/locks") as f:
        return sum(" -> FLOCK " in line and f":{inode} " in line for line in f)


def test_flock(place):
    path = str(place.path / "lock")
    old, new = place.ours(recipe("flock")).replace("/srv/backup/lock", path).splitlines()
    assert path in old and f"file:{path}" in new
    for n, (first, second, status) in enumerate(((old, new, 4), (new, old, 1))):
        place.block.touch()
        p = place.shell("dash", first)
        wait_for(lambda n=n: len(place.lines()) == 2 * n + 1, "the job runs")
        assert ended(place.shell("dash", second))[0] == status, "it is excluded"
        place.block.unlink()
        assert ended(p) == (0, "", "")
    assert place.lines() == ["backup.sh : begin", "backup.sh : end"] * 2
    assert os.stat(path).st_size == 0


def test_shared(place):
    path = str(place.path / "lock")
    read_, write = place.ours(recipe("shared")).replace("/srv/data/lock", path).splitlines()
    assert f" -s file:{path} " in read_ and f" -w 10m file:{path} " in write
    place.block.touch()
    readers = [place.shell("dash", read_) for _ in range(2)]
    wait_for(lambda: place.lines() == ["report.sh : begin"] * 2, "both read")
    writer = place.shell("dash", write)
    wait_for(lambda: waiters_for_file(path) == 1, "the third one waits")
    place.block.unlink()
    assert [ended(p)[:2] for p in (*readers, writer)] == [(0, "")] * 3
    assert place.lines() == ["report.sh : begin"] * 2 + ["report.sh : end"] * 2 + [
        "import.sh : begin", "import.sh : end"]


@pytest.mark.root
def test_containers(place):
    """
    Two containers that share only the directory: they see neither the network nor the processes of
    each other.
    """
    path = str(place.path / "lock")
    text = place.ours(recipe("containers")).replace("/data/lock", path)
    assert f"file:{path}" in text

    def container():
        return place.start("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                           "--ipc", "--uts", "dash", "-c", text, env=place.env)

    place.block.touch()
    first = container()
    place.running()
    second = container()
    wait_for(lambda: waiters_for_file(path) == 1, "the second one waits")
    assert place.lines() == ["import.sh : begin"]
    place.block.unlink()
    assert [ended(p)[:2] for p in (first, second)] == [(0, "")] * 2
    assert place.lines() == ["import.sh : begin", "import.sh : end"] * 2


def test_wait_with_a_limit(place):
    text = recipe("wait")
    assert " -w 30s " in text
    text = place.ours(text, "/tmp/report")
    assert ended(place.shell("dash", text)) == (0, "", "")
    place.block.touch()
    first = place.shell("dash", text)
    wait_for(lambda: len(place.lines()) == 3, "the job runs")
    status, out, err = ended(place.shell("dash", text.replace("30s", "0.3s")))
    assert (status, out) == (0,
                             "") \
        and re.fullmatch(r"me-only: \S+: gave up after \S+: held by .*\nno report this time\n", err)
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert place.lines() == ["make report: begin", "make report: end"] * 2


def test_timeout(place):
    text = place.ours(recipe("timeout"), "/tmp/backup")
    assert ended(place.shell("dash", text))[0] == 0
    place.block.touch()
    assert ended(place.shell("dash", text.replace("2h", "0.2")))[0] == 124, "as timeout says it"
    wait_for(lambda: not is_bound(address(place.lock)), "the lock is free, since the job was ended")
    assert place.lines() == ["backup.sh : begin", "backup.sh : end", "backup.sh : begin"]


def test_cron_that_hangs(place, run):
    line = recipe("cron-hang").rstrip("\n")
    command = place.ours(re.fullmatch(r"(?:[-*/,\d]+\s+){5}(\S.*)", line)[1], "/tmp/sync")
    assert "%" not in command, "cron ends the line there"
    place.block.touch()
    first = place.shell("/bin/sh", command, PATH="/usr/bin:/bin")
    place.running()
    assert ended(place.shell("/bin/sh", command, PATH="/usr/bin:/bin")) == (0, "", ""), "no mail"
    assert "=1h " in command
    wait_for(lambda: not re.search(r" for \d+ms:", run(place.lock, "true").stderr.decode()),
             "it has run for a second")
    status, out, err = ended(place.shell("/bin/sh", command.replace("=1h ", "=1s "),
                                         PATH="/usr/bin:/bin"))
    assert (status, out) == (0, "") and "held by pid" in err, "mail"
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert ended(place.shell("/bin/sh", command, PATH="/usr/bin:/bin", JOB_STATUS="3"))[0] == 3


def test_replace(place):
    text = place.ours(recipe("replace"), "/tmp/sync")
    place.block.touch()
    first = place.shell("dash", text)
    place.running()
    second = place.shell("dash", text)
    assert ended(first)[0] in (-15, 128 + 15)
    place.block.unlink()
    assert ended(second)[0] == 0
    assert place.lines() == ["sync.sh --full: begin", "sync.sh --full: begin",
                             "sync.sh --full: end"]


def test_who(place, hold):
    text = place.ours(recipe("who"), "/tmp/backup")
    status, out, err = ended(place.shell("dash", text))
    assert (status, out, err) == (0, f"{place.lock}: free\n", "")
    holder = hold(place.lock)
    status, out, err = ended(place.shell("dash", text))
    assert (status, err) == (4, "") and f"held by pid {holder.job} " in out and ": cat" in out


def test_list(place, hold):
    holder = hold(place.lock)
    status, out, err = ended(place.shell("dash", recipe("list")))
    rows = [line.split() for line in out.splitlines()]
    assert (status, err) == (0, "") and rows[0][:3] == ["LOCK", "STATE", "PID"]
    assert [place.lock, "held", str(holder.job)] in [row[:3] for row in rows]


def test_list_as_json(place, hold):
    holder = hold(place.lock)
    text = recipe("list-json")
    assert ended(place.shell("dash", text)) == (0, "", ""), "nothing is that old"
    assert "> 86400" in text
    status, out, err = ended(place.shell("dash", text.replace("> 86400", ">= 0")))
    assert (status, err) == (0, "")
    assert f"{place.lock} {user()} {holder.job} cat" in out.splitlines()


# --- the units of systemd ---

SERVICE_KEYS = {"Type", "ExecStart", "SuccessExitStatus", "KillMode"}


def unit(name):
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",),
                                          comment_prefixes=("#", ";"))
    parser.optionxform = str
    parser.read_string(recipe(name))
    return parser


def test_service(place):
    service = unit("service")
    assert service.sections() == ["Unit", "Service"]
    assert set(service["Service"]) == SERVICE_KEYS
    assert service["Service"]["SuccessExitStatus"] == "204"
    assert service["Service"]["KillMode"] == "mixed"
    assert service["Service"]["Type"] == "oneshot"
    # systemd runs it without a shell, split at blanks, with an absolute path.
    words = place.ours(service["Service"]["ExecStart"], "/tmp/backup").split()
    assert os.path.isabs(words[0])
    place.block.touch()
    first = place.start(*words, env=place.env)
    place.running()
    assert ended(place.start(*words,
                             env=place.env))[0] == int(service["Service"]["SuccessExitStatus"])
    # KillMode=mixed: only me-only gets the signal, and passes it to the job.
    first.terminate()
    assert ended(first)[0] == -15
    wait_for(lambda: not is_bound(address(place.lock)), "the job has ended too")
    place.block.unlink()
    assert ended(place.start(*words, env={**place.env, "JOB_STATUS": "4"}))[0] == 4, \
        "a failure of the backup is none of the statuses that count as a success"


def test_timer():
    timer = unit("timer")
    assert timer.sections() == ["Unit", "Timer", "Install"]
    assert set(timer["Timer"]) == {"OnCalendar"}
    assert timer["Install"]["WantedBy"] == "timers.target"


def exec_start(name, place, lock):
    """The words of a unit's command, as systemd splits them."""
    return place.ours(unit(name)["Service"]["ExecStart"], lock).split()


def test_a_service_that_says_when_it_is_ready(place):
    """The message comes from the command, which systemd accepts with NotifyAccess=all."""
    service = unit("service-notify")["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "all")
    place.program("indexer", """#!/usr/bin/python3
import os, socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
""")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place.path / "notify"))
        manager.settimeout(DEADLINE)
        p = place.start(*exec_start("service-notify", place, "/run/indexer"),
                        env={**place.env, "NOTIFY_SOCKET": str(place.path / "notify")})
        assert manager.recv(100) == b"READY=1"
    assert ended(p) == (0, "", "")


def test_a_service_that_is_passed_sockets(place):
    """sd_listen_fds(3) accepts them only in the process that LISTEN_PID names."""
    assert unit("socket").sections() == ["Socket", "Install"]
    place.program("web-server", """#!/bin/sh
[ "$LISTEN_PID" = $$ ] && [ "$LISTEN_FDS" = 1 ] && head -n 1 <&3
""")
    words = exec_start("service-socket", place, "/run/web")
    passed = place.path / "passed"
    passed.write_text("from systemd\n")
    # As systemd starts it.
    p = place.start("sh", "-c", 'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3<"$0"', passed, *words,
                    env=place.env)
    assert ended(p) == (0, "from systemd\n", "")


def test_units_as_systemd_sees_them(place):
    """systemd's own reading of the units; it need not run."""
    assert recipe("service").startswith("# /etc/systemd/system/backup.service\n")
    assert recipe("timer").startswith("# /etc/systemd/system/backup.timer\n"), \
        "the timer starts the service of its name"
    units = []
    for name in ("service", "timer", "service-notify", "socket", "service-socket"):
        text = place.ours(recipe(name))
        units.append(place.path / re.match(r"# /etc/systemd/system/([\w.]+)\n", text)[1])
        units[-1].write_text(text)
    p = place.start("systemd-analyze", "verify", "--man=no", *units)
    assert ended(p) == (0, "", "")


# --- other tools' lines, and those that replace them ---

def moves():
    """The rows of the table: the old line and the new one."""
    found = re.findall(r"^\| `(.*?)` \| `(me-only .*?)` \|$", read("docs/moving-from-flock.md"), re.M)
    assert len(found) >= 12
    return found


@contextlib.contextmanager
def locked(place, path):
    """The file is locked, as flock(1) does it."""
    holder = place.start("flock", path, "sh", "-c", "echo; exec cat", stdin=subprocess.PIPE)
    assert holder.stdout.readline() == b"\n"
    yield
    holder.stdin.close()
    assert holder.wait(DEADLINE) == 0


@pytest.mark.parametrize("old, new", moves())
def test_a_new_line_does_what_the_old_one_did(old, new, place, hold):
    path = str(place.path / "lock")
    jobs = ["job : begin", "job : end"] * (2 if "&&" in new else 1)
    if old.startswith("flock "):
        assert ended(place.shell("sh", old.replace("/run/x.lock", path)))[0] == 0
        assert place.lines() == jobs
        place.log.write_text("")
    text = new.replace("file:/run/x.lock", f"file:{path}").replace("job job", f"{place.lock} job")
    if place.lock in text:
        held = contextlib.ExitStack()
        held.callback(release, hold(place.lock))
    else:
        assert f"file:{path} " in text
        held = locked(place, path)
    with held:
        p = place.shell("sh", text)
        if " -w " in text:
            wait_for(lambda: waiters_for_file(path) == 1, "it waits")
        else:
            assert ended(p)[0] == (0 if " -E 0 " in text else 4)
            p = None
        assert place.lines() == []
    assert ended(p or place.shell("sh", text))[:2] == (0, "")
    assert place.lines() == jobs


def test_new_lines_in_the_readme():
    """The README has the most frequent ones, in general words."""
    rows = re.findall(r"^\| `(flock .*?)` \| `(me-only .*?)` \|$", read("README.md"), re.M)
    words = {"FILE": "/run/x.lock", "CMD": "job", "A && B": "job && job"}
    shown = set(moves())
    for row in rows:
        for word, ours in words.items():
            row = tuple(line.replace(word, ours) for line in row)
        assert row in shown
    assert len(rows) == 4


def test_new_lines_in_the_manual():
    """The manual has some of the table, with a shorter path."""
    rows = re.findall(r"^ {5}(\w.*?) {2,}(me-only .*?)$",
                      manual("EXAMPLES").replace("\u2018", "'").replace("\u2019", "'"), re.M)
    shown = {(old.replace("/run/x.lock", "/x"), new.replace("/run/x.lock", "/x"))
             for old, new in moves()}
    same = [(old, new.replace("'a && b'", "'job && job'")) for old, new in rows
            if old.split()[0] in ("flock", "setlock", "run-one")]
    assert len(same) == 7 and {(old.replace("'a && b'", "'job && job'"), new)
                               for old, new in same} <= shown


@pytest.mark.parametrize("name, lock", [("moving-descriptor", "file:/run/x.lock"),
                                        ("moving-pid-file", "/run/job")])
def test_a_script_that_locked_a_file_itself(name, lock, place):
    ours = f"file:{place.path}/lock" if lock.startswith("file:") else place.lock
    text = recipe(name)
    assert text.count(lock) == 2
    script = place.program("self", "#!/bin/sh\n" + text.replace(lock, ours))
    place.block.touch()
    first = place.start(script, env=place.env)
    place.running()
    status, out, err = ended(place.start(script, env=place.env))
    assert (status, out) == (4, "") and "held by pid" in err
    place.block.unlink()
    assert ended(first) == (0, "", "")
    assert place.lines() == ["job : begin", "job : end"]


def test_a_part_of_a_script_that_locked_a_file(place):
    path = str(place.path / "lock")
    text = recipe("moving-part").replace("/run/x.lock", path)
    with locked(place, path):
        p = place.shell("sh", text)
        wait_for(lambda: waiters_for_file(path) == 1, "it waits")
    assert ended(p)[:2] == (0, "")
    assert place.lines() == ["job : begin", "job : end"]


def test_a_script_that_made_a_file(place):
    text = place.ours(recipe("moving-lockfile"), "/run/x.lock")
    assert ended(place.shell("sh", text)) == (0, "", "")
    place.block.touch()
    first = place.shell("sh", text)
    wait_for(lambda: len(place.lines()) == 3, "the job runs")
    status, out, err = ended(place.shell("sh", text))
    assert (status, out) == (1, "") and "held by pid" in err
    place.block.unlink()
    assert ended(first) == (0, "", "")
