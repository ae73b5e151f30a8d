"""
In real shells, the completions offer what they promise: options before LOCK, held locks, then the
command's own.
"""
import os
import pty
import socket
import subprocess

import pytest

from conftest import DEADLINE, ROOT, address, wait_for
from test_documents import OPTIONS

COMPLETIONS = os.path.join(ROOT, "completions")

# Completes the line in its first argument as bash does on Tab, and prints what it found.
BASH = r"""
. /usr/share/bash-completion/bash_completion && . "$COMPLETIONS/me-only.bash" || exit
_demo() { local IFS=,; COMPREPLY=("demo:${COMP_WORDS[*]}"); }
complete -F _demo demo
# bash does not split into words for us: as in readline, = and : are words of their own.
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
mapfile -t COMP_WORDS < <(grep -oE '[^ =:]+|[=:]' <<<"$1")
case $1 in *[\ =:]) COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; } # works only inside a completion that readline has started
_me_only
printf '%s\n' "${COMPREPLY[@]}"
"""

# Writes what a completion offers to $OUT: every match goes through compadd.
ZSH = r"""
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit && compinit -u -D
_demo() { compadd -- "demo:${(j:,:)words}" }
compdef _demo demo
compadd() {
    local -a hits
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        builtin compadd -A hits "$@"
        print -rl -- $hits >>$OUT
    fi
    builtin compadd "$@"
}
finish() { zle list-choices; print -r -- '#end' >>$OUT }
zle -N finish
bindkey '^T' finish
print -r -- '#ready' >>$OUT
"""


def complete_bash(line, tmp_path):
    p = subprocess.run(["bash", "--norc", "-c", BASH, "bash", line],
                       env={**os.environ, "COMPLETIONS": COMPLETIONS},
                       capture_output=True, text=True, timeout=DEADLINE,
                       errors="replace")
    assert p.returncode == 0 and not p.stderr, p.stderr
    return {w.rstrip("=") for w in p.stdout.split("\n") if w}


def complete_zsh(line, tmp_path):
    out, rc = tmp_path / "out", tmp_path / ".zshrc"
    out.write_text("")
    rc.write_text(ZSH)
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-d", "-i"], {**os.environ, "ZDOTDIR": str(tmp_path),
                                                "OUT": str(out), "TERM": "dumb",
                                               "HOME": str(tmp_path), "COMPLETIONS": COMPLETIONS})

    def said(what):
        os.set_blocking(fd, False)
        try:
            os.read(fd, 65536)  # so that zsh never waits for its terminal
        except BlockingIOError:
            pass
        return what in out.read_text().split("\n")

    try:
        wait_for(lambda: said("#ready"), "zsh has read its start file")
        out.write_text("")
        os.write(fd, line.encode() + b"\x14")
        wait_for(lambda: said("#end"), "zsh has completed")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)
    return {w.rstrip("=") for w in out.read_text().split("\n") if w and w != "#end"}


def complete_fish(line, tmp_path):
    p = subprocess.run(["fish", "--no-config", "-c",
                        "complete -c demo -f -a '(echo demo:(string join -- , (commandline -o)))'; "
                        "source $COMPLETIONS/me-only.fish; complete -C $argv[1]", line],
                       env={**os.environ, "COMPLETIONS": COMPLETIONS, "HOME": str(tmp_path)},
                       capture_output=True, text=True, timeout=DEADLINE,
                       errors="replace")
    assert p.returncode == 0 and not p.stderr, p.stderr
    return {w.split("\t")[0].rstrip("=") for w in p.stdout.split("\n") if w}


SHELLS = [complete_bash, complete_zsh, complete_fish]


@pytest.fixture
def held(lock):
    """A lock that is held, for the completions to offer; the suite's other locks are there too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(lock))
        s.listen()
        yield lock


@pytest.mark.parametrize("complete", SHELLS)
def test_all_options(complete, tmp_path):
    offered = complete("me-only -", tmp_path) | complete("me-only --", tmp_path)
    assert {o for o in offered if o.startswith("-")} == set(OPTIONS)


@pytest.mark.parametrize("complete", SHELLS)
@pytest.mark.parametrize("before", ["", "-w 10 ", "-w10 -q ", "--wait=10 ", "-qE 7 ", "-- ",
                                    "--held ", "--who ", "--who --json ",
                                    "-j 4 ", "-qj4 -w inf ", "--slots 4 ", "--queue 1 -w 10 ",
                                    "--queue=1 -w10 ",
                                    "--timeout 10 -x ", "--timeout=10 --nb ", "-xew 5 ",
                                    "--replace -k 5 ", "-qk5 --replace ", "--kill-after 5 ",
                                    "--complain-after 1h ", "--complain-after=1h ",
                                    "-k 5 --ttl 30 --hold-for 60 ", "--ttl=30 --hold-for=60 "])
def test_held_locks(complete, before, held, tmp_path):
    assert held in complete(f"me-only {before}{held[:-3]}", tmp_path)


@pytest.mark.parametrize("complete", SHELLS)
def test_a_lock_whose_name_looks_like_an_engine(complete, lock, tmp_path):
    name = "db:" + lock[-20:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(name))
        s.listen()
        offered = complete(f"me-only host:db:{lock[-20:-3]}", tmp_path)
    # bash replaces only what follows the last colon.
    assert offered & {"host:" + name, lock[-20:]}


@pytest.mark.parametrize("complete", SHELLS)
def test_no_queue_no_slot_no_place_and_no_strange_name(complete, lock, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as queue, \
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as slot, \
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as place, \
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as strange:
        queue.bind(address(lock, b"\0queue\0000"))
        slot.bind(address(lock, b"\0slot\0001"))
        slot.listen()
        place.bind(address(lock, b"\0place\0000"))
        place.listen()
        queue.listen()
        strange.bind(address(lock + " $(x)"))
        strange.listen()
        assert not any(lock in o for o in complete(f"me-only {lock[:-3]}", tmp_path))


@pytest.mark.parametrize("complete", SHELLS)
@pytest.mark.parametrize("before", ["", "-s ", "-w 10 -s ", "--held ", "--who "])
def test_a_lock_on_a_file(complete, before, tmp_path):
    (tmp_path / "files" / "fonts").mkdir(parents=True)
    (tmp_path / "files" / "flock").touch()
    (tmp_path / "files" / "other").touch()
    path = f"{tmp_path}/files/"
    assert "file:" in complete(f"me-only {before}fil", tmp_path)
    # Not every shell repeats what precedes the last colon, or the last slash.
    offered = {o.rstrip("/").removeprefix("file:").removeprefix(path)
               for o in complete(f"me-only {before}file:{path}f", tmp_path)}
    assert offered == {"flock", "fonts"}


@pytest.mark.parametrize("complete", SHELLS)
def test_duration(complete, tmp_path):
    assert "inf" in complete("me-only -w i", tmp_path)
    assert "inf" in complete("me-only -qw i", tmp_path)
    assert "inf" in complete("me-only --timeout i", tmp_path)
    assert "inf" in complete("me-only --wait=i", tmp_path) | {
        o.removeprefix("--wait=") for o in complete("me-only --wait=i", tmp_path)}


@pytest.mark.parametrize("complete", SHELLS)
def test_other_arguments_of_options(complete, tmp_path):
    assert "30s" in complete("me-only --replace -k 3", tmp_path)
    assert "4" in complete("me-only -w inf -j ", tmp_path)
    assert "4" in complete("me-only --slots ", tmp_path)
    assert "1" in complete("me-only -w inf --queue ", tmp_path)
    assert "30s" in complete("me-only --ttl 3", tmp_path)
    assert "2m" in complete("me-only --hold-for ", tmp_path)
    assert "1h" in complete("me-only --complain-after 1", tmp_path)
    assert "1h" in {o.removeprefix("--complain-after=")
                    for o in complete("me-only --complain-after=1", tmp_path)}


@pytest.mark.parametrize("complete", SHELLS)
def test_command(complete, tmp_path):
    assert "setpriv" in complete("me-only -w 10 LOCK setpr", tmp_path)
    assert "setpriv" in complete("me-only -w inf --exit-base=9 host:a:b setpr", tmp_path)
    assert "setpriv" in complete("me-only LOCK -- setpr", tmp_path)


@pytest.mark.parametrize("complete", SHELLS)
@pytest.mark.parametrize("before", ["LOCK", "-w 10 -q host:a:b", "--wait=5 --exit-base 9 /tmp/a",
                                    "-- LOCK", "LOCK --", "-w inf -j 4 --queue 9 LOCK",
                                    "-s file:/tmp/a", "--ttl 60 -k9 etcd:a/b"])
def test_arguments_of_the_command(complete, before, tmp_path):
    assert {w.rstrip(",") for w in complete(f"me-only {before} demo -x ",
                                            tmp_path)} == {"demo:demo,-x"}


@pytest.mark.parametrize("complete", SHELLS)
def test_questions_take_no_command(complete, tmp_path):
    for question in ("--held", "--who", "--who --json", "--json --who"):
        assert not complete(f"me-only {question} LOCK setpr", tmp_path)


@pytest.mark.parametrize("complete", SHELLS)
@pytest.mark.parametrize("before", ["", "--ttl 30 -w inf ", "--held ", "--who --json "])
def test_a_lock_of_etcd(complete, before, tmp_path):
    """Only its prefix is offered: no cluster is asked, and there is no file."""
    assert "etcd:" in complete(f"me-only {before}etc", tmp_path)
    (tmp_path / "name").touch()
    assert not complete(f"me-only {before}etcd:{tmp_path}/na", tmp_path)


@pytest.mark.parametrize("complete", SHELLS)
def test_a_list_takes_no_lock_but_the_beginning_of_etcds(complete, held, tmp_path):
    assert not complete(f"me-only --list {held[:-3]}", tmp_path)
    assert not complete("me-only --list fil", tmp_path)
    assert complete("me-only --list etc", tmp_path) == complete("me-only --list --json etc",
                                                                tmp_path) == {"etcd:"}
    assert not complete("me-only --list etcd:a setpr", tmp_path)
    assert "--json" in complete("me-only --list --j", tmp_path)


def test_fish_shows_the_paths_of_files_whole(tmp_path):
    """Of a long word fish's list shows only the end."""
    (tmp_path / "alpha.lock").touch()
    p = subprocess.run(["fish", "--no-config", "-c",
                        "source $COMPLETIONS/me-only.fish; complete -C $argv[1]",
                        f"me-only file:{tmp_path}/al"],
                       env={**os.environ, "COMPLETIONS": COMPLETIONS, "HOME": str(tmp_path)},
                       capture_output=True, text=True, timeout=DEADLINE,
                       errors="replace")
    assert p.stdout == f"file:{tmp_path}/alpha.lock\t{tmp_path}/alpha.lock\n", p
