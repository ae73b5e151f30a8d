"""The fleet part of the benchmark: me-only etcd: beside etcdctl lock, on the same server. README.md says how.

Read straight down: the tools, the measurements. etcd.py has the server, fleet_report.py the targets and the report.
"""
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import namedtuple

from etcd import DEADLINE, Distance, Server, Unavailable, die_with_us, place, processor_time, set_subreaper, versions, wait_for

SETTLE = 0.4  # seconds for which nothing happens before a lock is handed over: a holder of me-only opens its stream after 0.1
JUST_COME = 0.005  # the same, for a waiter that has come just before
IDLE_SETTLE = 2  # the same before the processor time of waiters is counted

# A tool as it is started for the lock NAME: `start` takes it or gives up, `wait` waits for it. THIS is its number in line, NEXT that of the next one.
Tool = namedtuple("Tool", "name start wait")
Size = namedtuple("Size", "rounds handovers distant waiters idle turns ttl")
FULL = Size(rounds=400, handovers=60, distant=40, waiters=100, idle=60, turns=5, ttl=None)
QUICK = Size(rounds=30, handovers=5, distant=2, waiters=20, idle=5, turns=1, ttl="10s")
DISTANCES_MS = 2, 10  # there and back, between clients and the server: zones of a region, and regions that are near
OURS, THEIRS, TALKING = "me-only -q etcd:", "etcdctl lock", "me-only etcd:"
FLOOR = "the requests alone"  # requests.c


# The tools


def floor(bench):
    """What makes only the same requests, in a list; none if it was not built."""
    program = bench.program("requests")
    hands_over = ["-n", "NAME/NEXT", "NAME/THIS"]
    return [Tool(FLOOR, [program, *hands_over], [program, "-w", *hands_over])] if os.path.exists(program) else []


def all_tools(me_only, size):
    ttl = [] if size.ttl is None else [f"--ttl={size.ttl}"]
    theirs = [shutil.which("etcdctl"), "lock", "NAME", "--"]
    return [Tool(OURS, [me_only, "-q", *ttl, "etcd:NAME"], [me_only, "-q", *ttl, "-winf", "etcd:NAME"]),
            Tool(THEIRS, theirs, theirs)]


class Fleet:
    """What is measured, with what, and where."""

    def __init__(self, bench, data, size):
        self.bench, self.data, self.size = bench, data, size
        self.tools = all_tools(bench.me_only, size)
        self.with_floor = [*self.tools, *floor(bench)]
        self.fifo = os.path.join(bench.directory, "hold")
        os.mkfifo(self.fifo)

    def env(self, variables):
        return {**self.bench.env, "ETCDCTL_API": "3", **variables}

    def start(self, server, words, name, *job, number=1):
        """A tool that runs a job under the lock NAME."""
        argv = [word.replace("NAME", name).replace("THIS", f"{number:x}").replace("NEXT", f"{number + 1:x}") for word in words]
        return subprocess.Popen([*argv, *job], env=self.env(server.variables), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=die_with_us)

    def stamp(self, slot, *hold):
        """A job that notes its times; see stamp.c. etcdctl gives its command no input, so what it waits for has a name."""
        return [self.bench.program("stamp"), self.bench.stamps, str(slot), *hold]


class Stamps:
    """The times that jobs have noted: pairs of CLOCK_MONOTONIC nanoseconds."""

    def __init__(self, fleet, count):
        self.path = fleet.bench.stamps
        with open(self.path, "wb") as f:
            f.truncate(16 * count)

    def __getitem__(self, slot):
        with open(self.path, "rb") as f:
            f.seek(16 * slot)
            pair = f.read(16)
        return int.from_bytes(pair[:8], "little"), int.from_bytes(pair[8:], "little")


class Holder:
    """A tool whose job holds the lock until release(); its job's times are in slot 0."""

    def __init__(self, fleet, server, tool, name):
        self.process = fleet.start(server, tool.start, name, *fleet.stamp(0, "hold", fleet.fifo))
        self.input = None
        wait_for(lambda: self.open_input(fleet.fifo), f"{tool.name}: its job runs", self.process)

    def open_input(self, fifo):
        """Whether the job reads from it: it has noted its start before that."""
        with contextlib.suppress(OSError):
            self.input = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        return self.input is not None

    def release(self):
        os.close(self.input)


def end_well(process, name):
    if process.wait(DEADLINE) != 0:
        raise SystemExit(f"bench: {name}: exit status {process.returncode}")


# Start to end


def measure_start(fleet, variables, what="start"):
    """Tool name: {"us": every sample, "faults": every sample}."""
    argv = [fleet.bench.program("spawn"), "-a", str(fleet.size.rounds)]
    commands = {"bare command": [], **{tool.name: tool.start for tool in fleet.tools}}
    commands[TALKING] = [word for word in commands[OURS] if word != "-q"]
    for tool in floor(fleet.bench):
        commands[tool.name] = [tool.start[0], "NAME"]
    for number, words in enumerate(commands.values()):
        argv += ["1", *(word.replace("NAME", f"bench/{what}{number}") for word in words), fleet.bench.program("noop"), ";"]
    # What me-only says of an old server is not to be read four hundred times; but if something fails it is to be seen.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(argv, env=fleet.env(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True, check=False)
        if done.returncode != 0:
            said.seek(0)
            raise SystemExit(f"bench: spawn failed: {said.read().decode(errors='replace')[-1000:]}")
    names = list(commands)
    samples = {name: {"us": [], "faults": []} for name in names}
    for line in done.stdout.splitlines():
        index, ns, faults = (int(word) for word in line.split())
        samples[names[index]]["us"].append(ns / 1000)
        samples[names[index]]["faults"].append(faults)
    return samples


def parts_of_run(samples, parts=10):
    """The lowest and highest ratio of our median and etcdctl's in so many consecutive parts of the run."""

    def part(which, values):
        return statistics.median(values[len(values) * which // parts:len(values) * (which + 1) // parts])

    if len(samples[OURS]) < parts:
        return ""
    ratios = [part(i, samples[OURS]) / part(i, samples[THEIRS]) for i in range(parts)]
    return f"parts of the run: {min(ratios):.2f} to {max(ratios):.2f}"


# Hand-over


def measure_handover(fleet, server, rounds, what="handover", settle=SETTLE):
    """Tool name: microseconds from the end of the holder's job to the first instruction of the waiter's."""
    samples = {tool.name: [] for tool in fleet.with_floor}
    for number in range(rounds):
        for tool in fleet.with_floor[::-1 if number % 2 else 1]:
            name = f"bench/{what}-{tool.name.split()[0]}-{number}"
            stamps = Stamps(fleet, 2)
            holder = Holder(fleet, server, tool, name)
            waiter = fleet.start(server, tool.wait, name, *fleet.stamp(1), number=2)
            wait_for(lambda n=name: len(server.entries(n)) == 2, f"{tool.name}: the waiter is in line", waiter)
            time.sleep(settle)
            holder.release()
            for process in (waiter, holder.process):
                end_well(process, tool.name)
            gap = stamps[1][0] - stamps[0][1]
            if gap <= 0:
                raise SystemExit(f"bench: {tool.name}: the second job started before the first had ended")
            samples[tool.name].append(gap / 1000)
    return samples


# Memory


def measure_memory(fleet, server, family, memory):
    """Tool name: {process: sizes}, for what each keeps beside a job that sleeps, once its lease has been renewed."""
    found = {}
    for tool in fleet.tools:
        Stamps(fleet, 1)
        name = f"bench/memory-{tool.name.split()[0]}"
        holder = Holder(fleet, server, tool, name)
        lease, = server.entries(name)
        least = [server.seconds_left(lease)]

        def renewed(lease=lease, least=least):
            left = server.seconds_left(lease)
            least[0] = min(least[0], left)
            return left > least[0]

        wait_for(renewed, f"{tool.name}: its lease is renewed")
        time.sleep(SETTLE)
        others = {pid: word for pid, word in family(holder.process.pid).items() if word != "stamp"}
        found[tool.name] = {word: memory(pid) for pid, word in others.items()}
        holder.release()
        end_well(holder.process, tool.name)
    return found


# Many waiters


def finish_orphans(server):
    """Waits for the helpers that are ending, whose parents have gone before them."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as f:
            left = {int(pid) for pid in f.read().split()} - {server.process.pid, server.janitor.pid}
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def children_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_waiters(fleet, tool, family, idle_for):
    """What so many waiters for one lock cost while nothing happens, and while each of them takes its turn."""
    count, name = fleet.size.waiters, "bench/waiters"
    with Server(fleet.data) as server:
        stamps = Stamps(fleet, count + 1)
        before, reaped = processor_time([server.process.pid]), children_time()
        holder = Holder(fleet, server, tool, name)
        waiters = []
        for number in range(1, count + 1):
            waiters.append(fleet.start(server, tool.wait, name, *fleet.stamp(number), number=number + 1))
            wait_for(lambda n=number: len(server.entries(name)) == n + 1, f"{tool.name}: waiter {number} is in line", waiters[-1])
        time.sleep(IDLE_SETTLE if idle_for else SETTLE)
        clients = [pid for process in (holder.process, *waiters) for pid, word in family(process.pid).items() if word != "stamp"]
        lined_up = {"server": processor_time([server.process.pid]), "clients": processor_time(clients)}
        time.sleep(idle_for)
        idle = {"server": processor_time([server.process.pid]), "clients": processor_time(clients)}
        holder.release()
        for process in (*waiters[::-1], holder.process):  # the last first: the others then end without waking us
            end_well(process, tool.name)
        finish_orphans(server)
        drained = {"server": processor_time([server.process.pid]), "clients": children_time() - reaped}
        times = [stamps[i] for i in range(count + 1)]
    in_order = sorted(times)
    if any(end > start for (_, end), (start, _) in zip(in_order, in_order[1:])):
        raise SystemExit(f"bench: {tool.name}: two jobs ran at once")
    starts = [start for start, _ in times]
    return {
        "line up": {"server": lined_up["server"] - before, "clients": lined_up["clients"]},
        "idle": {who: idle[who] - lined_up[who] for who in idle},
        "drain": {who: drained[who] - idle[who] for who in drained},
        "drain_ms": (max(end for _, end in times) - times[0][1]) / 1e6,
        "inversions": sum(a > b for i, a in enumerate(starts) for b in starts[i + 1:]),
    }


def measure_turns(fleet, rounds):
    """Tool name: milliseconds until each waiter has had its turn."""
    samples = {tool.name: [] for tool in fleet.with_floor}
    for number in range(rounds):
        for tool in fleet.with_floor[::-1 if number % 2 else 1]:
            samples[tool.name].append(measure_waiters(fleet, tool, lambda pid: {}, 0)["drain_ms"])
    return samples


# All of it


def check_that_it_works(fleet, server):
    done = subprocess.run([fleet.bench.me_only, "-q", "etcd:bench/check", fleet.bench.program("noop")], env=fleet.env(server.variables),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"me-only takes no lock of etcd: {done.stdout.strip()}")


def measure_all(fleet, tools):
    """Everything that takes time."""
    size = fleet.size
    with Server(fleet.data) as server:
        check_that_it_works(fleet, server)
        tools.progress(f"etcd: locks, start to end, {size.rounds} rounds")
        start = measure_start(fleet, server.variables)
        tools.progress(f"etcd: locks over TLS, start to end, {size.rounds} rounds")
        tls = measure_start(fleet, server.tls_variables, "tls")
        tools.progress(f"etcd: locks, hand-over, {size.handovers} rounds")
        handover = measure_handover(fleet, server, size.handovers)
        tools.progress(f"etcd: locks, hand-over to a waiter that has just come, {size.distant} rounds")
        distant = {"just come": measure_handover(fleet, server, size.distant, "soon", JUST_COME)}
        for ms in DISTANCES_MS:
            tools.progress(f"etcd: locks, hand-over {ms} ms away, {size.distant} rounds")
            with Distance(fleet.bench, server, ms) as distance:
                distant[f"{ms} ms away"] = measure_handover(fleet, distance, size.distant, f"distant-{ms}")
        tools.progress("etcd: locks, memory of what waits for the job")
        sizes = measure_memory(fleet, server, tools.family, tools.memory)
    waiters = {}
    set_subreaper(True)
    for tool in fleet.tools:
        tools.progress(f"etcd: locks, {size.waiters} waiters for one lock, {tool.name}, {size.idle} s")
        waiters[tool.name] = measure_waiters(fleet, tool, tools.family, size.idle)
    tools.progress(f"etcd: locks, {size.waiters} waiters in turn, {size.turns} rounds")
    turns = measure_turns(fleet, size.turns)
    set_subreaper(False)
    return start, tls, handover, distant, sizes, waiters, turns


def measure(bench, size, data, tools):
    """The section "fleet" of the result. `tools`: what is used of bench.py."""
    try:
        version = versions()
        data, kind = place(data)
        start, tls, handover, distant, sizes, waiters, turns = measure_all(Fleet(bench, data, size), tools)
    except Unavailable as reason:
        return {"missing": str(reason)}
    return {
        "server": version, "data": kind, "size": size._asdict(),
        "start": {name: {**tools.summary(s["us"]), "faults": statistics.median(s["faults"])} for name, s in start.items()},
        "tls": {name: tools.summary(s["us"]) for name, s in tls.items()},
        "handover": {name: tools.summary(us) for name, us in handover.items()},
        "distant": {ms: {name: tools.summary(us) for name, us in samples.items()} for ms, samples in distant.items()},
        "memory": sizes,
        "waiters": waiters,
        "turns": {name: statistics.median(ms) for name, ms in turns.items()},
        "notes": {"start": parts_of_run({name: s["us"] for name, s in start.items()}), "handover": parts_of_run(handover)},
    }
