"""The tools, and how each is asked for the same thing. LOCK stands for the lock's name or path."""
import dataclasses
import glob
import os

LOCK = "{lock}"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ME_ONLY = os.path.abspath(os.environ.get("ME_ONLY", os.path.join(ROOT, "build", "me-only")))


@dataclasses.dataclass(frozen=True)
class Tool:
    name: str
    package: str
    try_: tuple  # take the lock without waiting
    wait: tuple = ()  # wait for it
    shared: tuple = ()  # share it with others of this form
    slots: tuple = ()  # one of two slots
    queue: tuple = ()  # wait only if nobody else waits
    replace: tuple = ()  # end the holder first
    between: tuple = ()  # what comes between the command and its arguments

    def who(self, lock):
        """The command that shows who holds the lock and who waits for it."""
        if self.package != "me-only":
            return ["lslocks", "--noheadings", "--output", "PID,MODE,PATH"]
        return [self.try_[0], "--who", self.try_[-1].replace(LOCK, lock)]

    def line(self, form, lock, command):
        """The command line of one of the forms above."""
        program, *arguments = command
        if self.between:
            arguments = [*self.between, *arguments]
        return [word.replace(LOCK, lock) for word in getattr(self, form)] + [program, *arguments]


def ours(name, *options, lock=LOCK, **forms):
    def form(*more):
        return (ME_ONLY, *more, *options, lock)

    return Tool(
        name,
        "me-only",
        form(),
        form("-w", "inf"),
        queue=form("-w", "inf", "--queue=1"),
        replace=form("--replace", "-k", "1s"),
        **{k: form(*v) for k, v in forms.items()},
    )


def flock(name, *options, program=("flock",), package="util-linux"):
    def form(*more):
        return (*program, *more, *options, LOCK)

    return Tool(name, package, form("-n"), form(), shared=form("-n", "-s"))


def wrapped(take, release):
    """A tool that runs no command, in the lines of shell that its users write around it."""
    return (
        "sh",
        "-c",
        f"""lock=$1; shift
{take} || exit
trap '{release}' EXIT
"$@\"""",
        "sh",
        LOCK,
    )


TOOLS = (
    ours("me-only", slots=("-j", "2")),
    ours("me-only -F", "-F", slots=("-j", "2")),
    ours("me-only file:", lock="file:" + LOCK, shared=("-s",)),
    flock("flock"),
    flock("flock -F", "-F"),
    flock("flock -o", "-o"),
    Tool("setlock", "daemontools", ("setlock", "-n", LOCK), ("setlock", LOCK)),
    Tool("chpst -L", "runit", ("chpst", "-L", LOCK), ("chpst", "-l", LOCK)),
    Tool(
        "s6-setlock",
        "s6",
        ("s6-setlock", "-n", LOCK),
        ("s6-setlock", LOCK),
        shared=("s6-setlock", "-n", "-r", LOCK),
    ),
    Tool(
        "lckdo", "moreutils", ("lckdo", LOCK), ("lckdo", "-w", LOCK), shared=("lckdo", "-s", LOCK)
    ),
    Tool(
        "with-lock-ex",
        "chiark-utils-bin",
        ("with-lock-ex", "-f", LOCK),
        ("with-lock-ex", "-w", LOCK),
    ),
    Tool(
        "dotlockfile -p",
        "liblockfile-bin",
        ("dotlockfile", "-r", "0", "-p", "-P", LOCK),
        ("dotlockfile", "-r", "-1", "-i", "1", "-p", "-P", LOCK),
    ),
    Tool(
        "lockfile-create",
        "lockfile-progs",
        wrapped(
            'lockfile-create -q --use-pid --retry 0 --lock-name "$lock"',
            'lockfile-remove --lock-name "$lock"',
        ),
        wrapped(
            'lockfile-create -q --use-pid --retry 99 --lock-name "$lock"',
            'lockfile-remove --lock-name "$lock"',
        ),
    ),
    Tool(
        "lockfile",
        "procmail",
        wrapped('lockfile -r0 "$lock"', 'rm -f "$lock"'),
        wrapped('lockfile -1 "$lock"', 'rm -f "$lock"'),
    ),
    Tool(
        "sem --fg",
        "parallel",
        ("sem", "--fg", "--st", "-1", "--id", LOCK),
        ("sem", "--fg", "--id", LOCK),
        slots=("sem", "--fg", "--st", "-1", "-j", "2", "--id", LOCK),
    ),
    Tool(
        "start-stop-daemon",
        "dpkg",
        (
            "start-stop-daemon",
            "--start",
            "--quiet",
            "--make-pidfile",
            "--pidfile",
            LOCK,
            "--startas",
        ),
        between=("--",),
    ),
)


def with_unpacked(directory):
    """TOOLS and the flock of a newer release, unpacked with the libc and the loader that it
    needs.
    """
    loader = glob.glob(os.path.join(directory, "usr/lib*/**/ld-linux*"), recursive=True)
    libraries = glob.glob(os.path.join(directory, "usr/lib/*-linux-gnu"))
    if not loader or not libraries:
        return TOOLS
    program = (loader[0], "--library-path", libraries[0], os.path.join(directory, "usr/bin/flock"))
    newer = flock("flock --fcntl", "--fcntl", program=program, package="util-linux-sid")
    place = 1 + max(i for i, tool in enumerate(TOOLS) if tool.package == "util-linux")
    return (*TOOLS[:place], newer, *TOOLS[place:])
