"""The experiments, one a column. Each gets a fresh laboratory and returns the cell; its docstring
says in the legend what it did. Bold is for what makes two jobs run, or none.
"""
import operator
import os
import re
import signal
import statistics
import subprocess
import time

from laboratory import DEADLINE, NOBODY, UNTIL_SURE, Unexpected, registry, state, wait_for
from tools import TOOLS

TABLES = {}
column = registry(TABLES)
TWO_RUN = "**two run**"


def exclusion(lab, **options):
    refused = not lab.second(**options)
    if not lab.jobs[0].lives():
        raise Unexpected("the first job has ended")
    return "refused" if refused else TWO_RUN


# --- what lets a second job run ---

SECOND = "Is a second job refused while the first one runs?"


@column(SECOND, "lock file deleted")
def deleted(lab):
    """Every file that the tool has created below its directory or its home is deleted."""
    lab.hold()
    found = lab.files()
    for path in found:
        os.unlink(path)
    return exclusion(lab) if found else "no file"


@column(SECOND, "job closed descriptors")
def closed(lab):
    """The job closes all its descriptors from 3 on, as daemons and `ssh` do."""
    _, job = lab.hold()
    job.ask("close")
    return exclusion(lab)


@column(SECOND, "tool killed")
def killed(lab):
    """SIGKILL ends the process that the caller started. "Ends the job": that was the job itself."""
    process, job = lab.hold()
    process.kill()
    process.wait()
    if process.pid == job.pid:
        return "ends the job"
    return exclusion(lab)


def closed_and_killed(lab, after):
    while True:
        start = time.monotonic()
        process, job = lab.hold()
        if process.pid == job.pid:
            return "–"
        time.sleep(after)
        job.ask("close")
        process.kill()
        if after or time.monotonic() < start + 0.5:
            process.wait()
            return exclusion(lab)
        # The machine was busy elsewhere: again, with another lock.
        job.end()
        lab.jobs.clear()
        lab.lock += "n"


@column(SECOND, "both, at once")
def both(lab):
    """The job closes its descriptors within half a second, and then SIGKILL ends the tool."""
    return closed_and_killed(lab, 0)


@column(SECOND, "both, after 2 s")
def both_later(lab):
    """The same, but the job has run for two seconds by then."""
    return closed_and_killed(lab, 2)


# --- what ends a lock ---

END = "When the lock is released"


@column(END, "tool and job killed")
def stale(lab):
    """SIGKILL ends the job and the tool. The next one tries for up to ten seconds."""
    process, job = lab.hold()
    for pid in (process.pid, job.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return "free" if wait_for(lab.second, 10) else "**held**"


@column(END, "child left behind")
def background(lab):
    """The job starts a child, which inherits its descriptors, and ends. Does the child hold the
    lock?
    """
    process, job = lab.hold()
    job.ask("background")
    child = lab.accept()
    job.end()
    wait_for(lambda: process.poll() is not None, UNTIL_SURE)
    free = lab.second()
    if not child.lives():
        raise Unexpected("the child is gone")
    return "free" if free else "held"


@column(END, "files left")
def left(lab):
    """What is left after the job and the tool have ended."""
    process, job = lab.hold()
    job.end()
    process.wait(DEADLINE)
    found = [os.path.relpath(path, lab.place) for path in lab.files()]
    return "none" if not found else "the file" if found == ["lock"] else "others"


@column(END, "SIGTERM to the tool")
def terminated(lab):
    """Does the job get the SIGTERM that the tool got? If not, what happens to the lock?"""
    process, job = lab.hold()
    process.terminate()
    if wait_for(lambda: job.ask("terms"), UNTIL_SURE):
        return "the job gets it"
    if not job.lives():
        return "kills the job"
    process.poll()
    return "not passed on" + (", " + TWO_RUN if lab.second() else "")


@column(END, "tool stopped")
def stopped(lab):
    """SIGSTOP stops the tool. After SIGCONT the job and the tool must end normally."""
    process, job = lab.hold()
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(process.pid) == "T")
    result = exclusion(lab)
    process.send_signal(signal.SIGCONT)
    job.end()
    return result if process.wait(DEADLINE) == 0 else "fails"


# --- statuses ---

STATUS = "Exit status"


@column(STATUS, "held")
def held(lab):
    """The tool's status if the lock is held and it is told not to wait."""
    lab.hold()
    return lab.status(lab.start())


@column(STATUS, "no directory")
def no_directory(lab):
    """Its status if the lock's directory does not exist."""
    process = lab.start(lock=os.path.join(lab.place, "none", "lock"))
    job = lab.outcome(process)
    if job:
        job.end()
        return "runs"
    return lab.status(process)


@column(STATUS, "no command")
def no_command(lab):
    """Its status if the command does not exist."""
    return lab.status(lab.start(command=["/nonexistent"]))


@column(STATUS, "job exits with 7")
def seven(lab):
    """Its status if the job exits with 7."""
    process, job = lab.hold()
    job.end(7)
    return lab.status(process)


@column(STATUS, "job dies by SIGTERM")
def dies(lab):
    """The same if SIGTERM ends the job; a name is the signal that then ends the tool."""
    process, job = lab.hold()
    job.die(signal.SIGTERM)
    return lab.status(process)


# --- descriptors and names ---

NAMES = "Descriptors and names"


@column(NAMES, "0 to 2 closed")
def standard_closed(lab):
    """The tool is started without descriptors 0 to 2. What are they in the job?"""
    process = lab.start(preexec_fn=lambda: os.closerange(0, 3))
    job = lab.outcome(process)
    if not job:
        return "**does not run**"
    here = [fd for fd, path in enumerate(job.standard) if path and path.startswith(lab.directory)]
    if here:
        return f"**{here[0]} is the lock**"
    return "closed" if not any(job.standard) else "others"


@column(NAMES, "1 closed")
def output_closed(lab):
    """The tool is started without descriptor 1, and the job writes to it. Where does it go?"""
    process = lab.start(preexec_fn=lambda: os.close(1))
    job = lab.outcome(process)
    if not job:
        return "**does not run**"
    written = job.ask("write", "some words")
    for path in lab.files():
        with open(path, encoding="latin-1") as f:
            if "some words" in f.read():
                return "**the lock file**"
    return "elsewhere" if written else "an error"


@column(NAMES, "longest name")
def longest(lab):
    """Two names of 255, 256, 4,000 and 100,000 bytes that differ only in the last byte: both must
    run.
    """
    best = "less than 255"
    for length in (255, 256, 4000, 100000):
        names = [os.path.basename(lab.directory).ljust(length - 1, "n") + last for last in "ab"]
        process = lab.start(lock=names[0])
        job = lab.outcome(process)
        if not job:
            return best
        if not lab.second(lock=names[1]):
            return f"**{length}: two are one**"
        best = f"{length:,}"
        job.end()
    return best


def nested(lab, form):
    if not getattr(lab.tool, form):
        return "–"
    process = lab.start(command=lab.tool.line(form, lab.lock, lab.job()))
    job = lab.outcome(process, 3 * DEADLINE if form == "try_" else 2 * UNTIL_SURE)
    if job:
        return "**runs**"
    return "refused" if process.poll() is not None else "**waits for itself**"


@column(NAMES, "nested, trying")
def nested_try(lab):
    """The command is the same tool again, with the same lock, and does not wait."""
    return nested(lab, "try_")


@column(NAMES, "nested, waiting")
def nested_wait(lab):
    """The same, but it waits."""
    return nested(lab, "wait")


# --- waiting and other users ---

OTHERS = "Waiters and other users"
WAITERS = 20


@column(OTHERS, f"{WAITERS} waiters")
def order(lab):
    """Each waiter is started when the one before it sleeps. Do they run in the order in which
    they were started?
    """
    if not lab.tool.wait:
        return "cannot wait"
    _, job = lab.hold()
    for number in range(WAITERS):
        process = lab.start("wait", command=lab.job(str(number)))
        time.sleep(0.05)
        wait_for(lambda pid=process.pid: state(pid) == "S")
    job.end()
    ran = []
    while len(ran) < WAITERS:
        job = lab.accept(60)
        if not job:
            raise Unexpected(f"only {len(ran)} of the waiters run")
        ran.append(int(job.name))
        job.end()
    return "in order" if ran == sorted(ran) else "in any order"


@column(OTHERS, "waiter stopped")
def stopped_waiter(lab):
    """SIGSTOP stops the first of two waiters. Does the second one run after the job?
    """
    if not lab.tool.wait:
        return "–"
    _, job = lab.hold()
    waiters = []
    for number in range(2):
        waiters.append(lab.start("wait", command=lab.job(str(number))))
        time.sleep(0.1)
        wait_for(lambda: state(waiters[-1].pid) == "S")
    waiters[0].send_signal(signal.SIGSTOP)
    wait_for(lambda: state(waiters[0].pid) == "T")
    job.end()
    job = lab.accept(15)
    return "the next runs" if job and job.name == "1" else "**all wait**"


# Ways to hold somebody's lock: with the tool itself, and by a lock on its file.
WAYS = ("the tool", "flock", "flock -s", "fcntl")
BY_FCNTL = """import fcntl, os, sys
with open(sys.argv[1]) as f:
    fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.set_inheritable(f.fileno(), True)
    os.execv(sys.argv[2], sys.argv[2:])"""


def start_stranger(lab, way):
    command = lab.job("stranger")
    if way == "the tool":
        return lab.start(user=NOBODY)
    account = {"user": NOBODY, "group": "nogroup", "extra_groups": []}
    line = {
        "flock": ["flock", "-n", lab.lock],
        "flock -s": ["flock", "-n", "-s", lab.lock],
        "fcntl": ["/usr/bin/python3", "-c", BY_FCNTL, lab.lock],
    }[way]
    if not os.path.exists(lab.lock):
        return None
    # An open descriptor passes the lock on: fcntl's belongs to the process, which stays the same.
    return subprocess.Popen([*line, *command], stderr=subprocess.DEVNULL, cwd="/", **account)


def can_be_held(lab):
    for way in WAYS:
        process = start_stranger(lab, way)
        job = process and lab.outcome(process)
        if job:
            refused = not lab.second()
            job.end()
            process.wait(DEADLINE)
            if refused:
                return "yes" if way == "the tool" else f"yes, by `{way}`"
    return "no"


@column(OTHERS, "root's directory")
def strangers(lab):
    """Root has used the lock before, in a directory that only root can write. Can another user hold
    it?
    """
    process, job = lab.hold()
    job.end()
    process.wait(DEADLINE)
    return can_be_held(lab)


@column(OTHERS, "private directory")
def strangers_in_closed(lab):
    """The same, in a directory that nobody else can enter."""
    os.chmod(lab.place, 0o700)
    return strangers(lab)


@column(OTHERS, "like /tmp")
def strangers_in_tmp(lab):
    """Can another user take the lock before root does, in a directory that anyone can write?"""
    os.chmod(lab.place, 0o1777)
    return can_be_held(lab)


@column(OTHERS, "held by root")
def one_lock(lab):
    """Root holds it, in a directory that anyone can write. Is another user's job refused?"""
    os.chmod(lab.place, 0o1777)
    lab.hold()
    return exclusion(lab, user=NOBODY)


# --- features ---

FEATURES = "Other features"


@column(FEATURES, "names it")
def names_holder(lab):
    """Does a refused tool print the PID of the first tool or of its job?"""
    first, job = lab.hold()
    process = lab.start(stderr=subprocess.PIPE)
    said = process.communicate(timeout=DEADLINE)[1].decode().split()
    return "yes" if {str(first.pid), str(job.pid)} & set(said) else "no"


@column(FEATURES, "shows both")
def shows(lab):
    """Does `lslocks`, or `me-only --who`, show the PIDs of a holder and a waiter (or of their
    jobs)?
    """
    first, job = lab.hold()
    if not lab.tool.wait:
        return "cannot wait"
    waiter = lab.start("wait")

    def shown(pids):
        said = subprocess.run(
            lab.tool.who(lab.lock), capture_output=True, check=False, text=True, timeout=DEADLINE
        ).stdout
        return pids & set(re.findall(r"\d+", said))

    if wait_for(lambda: shown({str(waiter.pid)}), UNTIL_SURE) and shown(
        {str(first.pid), str(job.pid)}
    ):
        return "yes"
    return "holder" if shown({str(first.pid), str(job.pid)}) else "no"


@column(FEATURES, "shared")
def shared(lab):
    """Two jobs share the lock, and one that wants it alone is refused."""
    if not lab.tool.shared:
        return "no"
    lab.hold("shared")
    return "yes" if lab.second("shared") and not lab.second() else "fails"


@column(FEATURES, "N at a time")
def slots(lab):
    """With N = 2, two jobs run at a time, and a third is refused."""
    if not lab.tool.slots:
        return "no"
    lab.hold("slots")
    lab.hold("slots")
    return "yes" if not lab.second("slots") else "fails"


@column(FEATURES, "one more run")
def one_more(lab):
    """Five calls during a run cause exactly one more run."""
    if not lab.tool.queue:
        return "no"
    process, job = lab.hold("queue")
    calls = [lab.start("queue") for _ in range(5)]
    wait_for(lambda: sum(call.poll() is not None for call in calls) == 4)
    job.end()
    process.wait(DEADLINE)
    more = lab.accept()
    if more:
        more.end()
    for call in calls:
        call.wait(DEADLINE)
    return "yes" if more and not lab.accept(0) else "fails"


@column(FEATURES, "replaces")
def replaces(lab):
    """The second tool ends the first job, which ignores SIGTERM, and runs when that is gone."""
    if not lab.tool.replace:
        return "no"
    _, first = lab.hold()
    _, job = lab.hold("replace")
    return "yes" if not first.lives() and job.lives() else "fails"


@column(FEATURES, "cost")
def cost(lab):
    """The time to run `true`, divided by that with `flock -n`. The two take turns, 300 runs each
    (slow tools fewer); the fastest quarters count."""
    flock = next(tool for tool in TOOLS if tool.name == "flock")
    times = ([], [])
    end = time.monotonic() + 10
    while len(times[0]) < 300 and (time.monotonic() < end or len(times[0]) < 8):
        for some, tool in zip(times, (lab.tool, flock)):
            line = tool.line("try_", lab.lock + tool.package, ["/bin/true"])
            start = time.monotonic()
            pid = os.posix_spawn(lab.program(line[0]), line, lab.environment)
            status = os.waitpid(pid, 0)[1]
            some.append(time.monotonic() - start)
            if status:
                raise Unexpected(f"{line}: {status}")
    ratio = operator.truediv(*(statistics.mean(sorted(some)[: len(some) // 4]) for some in times))
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
