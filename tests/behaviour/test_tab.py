"""
The completions as a person at a terminal gets them: each line is typed into an interactive shell,
with Tab at its end, or where the cursor was moved to.
"""
import os

import pytest

from conftest import ROOT, wait_for
# "held" is a fixture.
from test_completions import held  # noqa: F401

COMPLETIONS = os.path.join(ROOT, "completions")

# Each shell appends "#ready" to $OUT, and at each Ctrl-T its input line, between bars.
BASH = r"""
PS1= HISTFILE=
. /usr/share/bash-completion/bash_completion
. "$COMPLETIONS/me-only.bash"
_demo() { mapfile -t COMPREPLY < <(compgen -W '--first second' -- "${COMP_WORDS[COMP_CWORD]}"); }
complete -F _demo demo
bind 'set bell-style none'
bind -x '"\C-t": printf "|%s|\n" "$READLINE_LINE" >>"$OUT"'
PROMPT_COMMAND='echo "#ready" >>"$OUT"'
"""

ZSH = r"""
PS1= fpath=($COMPLETIONS $fpath)
autoload -Uz compinit && compinit -u -D
_demo() { compadd -- --first second }
compdef _demo demo
setopt no_beep
show() { print -r -- "|$BUFFER|" >>$OUT }
zle -N show
bindkey -e
bindkey '^T' show
precmd() { print -r -- '#ready' >>$OUT }
"""

FISH = r"""
fish_default_key_bindings
set fish_complete_path $__fish_data_dir/completions
complete -c demo -f -a '--first second'
source $COMPLETIONS/me-only.fish
bind \ct 'printf "|%s|\n" (commandline) >>$OUT'
function fish_prompt; echo '#ready' >>$OUT; end
"""


class Shell:
    def __init__(self, terminal, path, *argv, **env):
        self.out = path / "out"
        self.out.touch()
        self.terminal = terminal(*argv, cwd=path, env={
            **os.environ, "COMPLETIONS": COMPLETIONS, "OUT": str(self.out), "HOME": str(path),
            "TERM": "vt100", "INPUTRC": "/dev/null", **env})
        self.line_of_output("#ready")

    def line_of_output(self, beginning):
        """The next line with this beginning in $OUT."""
        def read():
            self.terminal.drain()
            for line in self.out.read_text(encoding="utf-8").splitlines(True):
                if line.startswith(beginning) and line.endswith("\n"):
                    return line[:-1]
            return None
        line = wait_for(read, f"the shell writes {beginning}")
        self.out.write_text("")
        return line

    def tab(self, line):
        """What LINE becomes when Tab is typed at its end, or at "^"."""
        before, _, after = line.partition("^")
        self.terminal.type(before + after + "\x02" * len(after) + "\t\x14")
        found = self.line_of_output("|")[1:-1]
        self.terminal.type("\x05\x15")
        return found


def bash(terminal, path):
    (path / "bashrc").write_text(BASH)
    return Shell(terminal, path, "bash", "--noprofile", "--rcfile", str(path / "bashrc"), "-i")


def zsh(terminal, path):
    (path / ".zshrc").write_text(ZSH)
    return Shell(terminal, path, "zsh", "-d", "-i", ZDOTDIR=str(path))


def fish(terminal, path):
    return Shell(terminal, path, "fish", "--no-config", "-i", "-C", FISH)


@pytest.mark.parametrize("shell", [bash, zsh, fish])
def test_every_position(shell, terminal, held, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a lock").touch()
    (tmp_path / "dir" / "sub").mkdir()
    d = f"{tmp_path}/dir"
    part = held[:-3]
    cases = {
        # Options, and their arguments.
        "me-only --compl": "me-only --complain-after",
        "me-only -q --no-f": "me-only -q --no-fork",
        "me-only -w 10 --repl": "me-only -w 10 --replace",
        "me-only -w in": "me-only -w inf",
        "me-only -qw in": "me-only -qw inf",
        "me-only --wait in": "me-only --wait inf",
        "me-only --wait=in": "me-only --wait=inf",
        "me-only --ttl=6": "me-only --ttl=60s",
        "me-only --queue ": "me-only --queue 1",
        "me-only --who --js": "me-only --who --json",
        # Locks.
        f"me-only {part}": f"me-only {held}",
        f"me-only -w 10 -q {part}": f"me-only -w 10 -q {held}",
        f"me-only --wait=10 -E 7 {part}": f"me-only --wait=10 -E 7 {held}",
        f"me-only -- {part}": f"me-only -- {held}",
        f"me-only --held {part}": f"me-only --held {held}",
        f"me-only --who --json {part}": f"me-only --who --json {held}",
        f"me-only {part}^ demo second": f"me-only {held} demo second",
        f"X=1 me-only {part}": f"X=1 me-only {held}",
        f"true; me-only {part}": f"true; me-only {held}",
        f"true | me-only {part}": f"true | me-only {held}",
        f"sudo me-only {part}": f"sudo me-only {held}",
        f"sudo -u nobody me-only -q {part}": f"sudo -u nobody me-only -q {held}",
        f"nice me-only -w10 {part}": f"nice me-only -w10 {held}",
        f"/usr/local/bin/me-only {part}": f"/usr/local/bin/me-only {held}",
        f"./me-only {part}": f"./me-only {held}",
        "sudo me-only lock demo sec": "sudo me-only lock demo second",
        "me-only lock sudo demo sec": "me-only lock sudo demo second",
        "me-only lock git checko": "me-only lock git checkout",
        "me-only lock kill -TER": "me-only lock kill -TERM",
        "me-only 'my lock' demo sec": "me-only 'my lock' demo second",
        "me-only my\\ lock demo sec": "me-only my\\ lock demo second",
        "me-only lock demo 'a b' sec": "me-only lock demo 'a b' second",
        "me-only file:dir/a\\ lock demo sec": "me-only file:dir/a\\ lock demo second",
        "me-only -w 10 --^ lock demo": "me-only -w 10 -- lock demo",
        f"me-only \"{part}": f"me-only \"{held}\"",
        f"me-only other me-only -q {part}": f"me-only other me-only -q {held}",
        "me-only fil": "me-only file:",
        "me-only etc": "me-only etcd:",
        "me-only --list etc": "me-only --list etcd:",
        f"me-only file:{d}/a": f"me-only file:{d}/a\\ lock",
        "me-only file:dir/a": "me-only file:dir/a\\ lock",
        f"me-only -s file:{d}/su": f"me-only -s file:{d}/sub/",
        f"me-only --who file:{d}/su": f"me-only --who file:{d}/sub/",
        # Commands.
        "me-only lock setpri": "me-only lock setpriv",
        f"me-only {held} setpri": f"me-only {held} setpriv",
        "me-only -w inf host:a:b setpri": "me-only -w inf host:a:b setpriv",
        "me-only file:dir/x setpri": "me-only file:dir/x setpriv",
        "me-only lock -- setpri": "me-only lock -- setpriv",
        "me-only -- lock setpri": "me-only -- lock setpriv",
        "me-only lock ./dir/s": "me-only lock ./dir/sub/",
        "me-only lock setpri^ second": "me-only lock setpriv second",
        # The command's own.
        "me-only lock demo sec": "me-only lock demo second",
        "me-only lock demo --fi": "me-only lock demo --first",
        "me-only lock demo second --fi": "me-only lock demo second --first",
        "me-only -w 1m file:dir/x demo sec": "me-only -w 1m file:dir/x demo second",
        "me-only lock -- demo --fi": "me-only lock -- demo --first",
        "me-only -j4 a me-only -w inf b demo sec": "me-only -j4 a me-only -w inf b demo second",
        "me-only lock demo sec^ x": "me-only lock demo second x",
        # Nothing.
        "me-only --who lock setpri": "me-only --who lock setpri",
        "me-only --held lock setpri": "me-only --held lock setpri",
        "me-only --list etcd:a setpri": "me-only --list etcd:a setpri",
        "me-only etcd:dir/": "me-only etcd:dir/",
        f"me-only -E {part}": f"me-only -E {part}",
        f"me-only --exit-base {part}": f"me-only --exit-base {part}",
        f"me-only -j {part}": f"me-only -j {part}",
        f"me-only --list {part}": f"me-only --list {part}",
        "me-only --zzz": "me-only --zzz",
    }
    s = shell(terminal, tmp_path)
    found = {line: s.tab(line) for line in cases}
    # After a whole word comes a space, or = for its argument; in bash also before the next word.
    assert {line: text.rstrip(" =").replace("  ", " ") for line, text in found.items()} == cases
