#!/usr/bin/python3
"""Measures me-only beside its peers; started by scripts/bench, which builds what it needs. README.md says how.

Read straight down: the tools, the four measurements, the targets, the report. fleet.py measures etcd: locks, and fleet_report.py reports on them.
"""
import argparse
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

import fleet
import fleet_report
import picture

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DEADLINE = 60  # seconds after which something that ought to happen has failed
KEEPER = "me-only keeper"
SLOTS = "me-only -j2"

# A tool as it is started: `start` takes the lock or gives up, `wait` (where measured) waits for it. LOCK stands for
# its lock, "file:LOCK" for a lock on that file. `every`: measured in every how manyeth round.
Tool = namedtuple("Tool", "name start wait every")
Size = namedtuple("Size", "rounds handovers held waiters herds")
FULL = Size(rounds=3000, handovers=400, held=60, waiters=2000, herds=3)
QUICK = Size(rounds=300, handovers=40, held=10, waiters=200, herds=1)
GAP_US = 3000  # between two waiters of the herd
BATON = "no lock"  # baton.c
HELD_MS = 1200  # older than the second after which me-only adds its keeper


def progress(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"bench: {text}")


# The tools


def all_tools(me_only, floor):
    """Every tool in the order of the table; the bare command is the first."""

    def path(name):
        return shutil.which(name) or fail(f"{name} is not installed: run scripts/setup bench")

    def tool(name, program, *options, wait=None, every=1, lock="LOCK"):
        waiting = None if wait is None else [program, *wait, lock]
        return Tool(name, [program, *options, lock], waiting, every)

    flock = path("flock")
    return [
        Tool("bare command", [], ["-"], 1),
        tool("exec only", floor),
        tool("me-only", me_only, wait=["-q", "-winf"]),
        tool("me-only -F", me_only, "-F", wait=["-q", "-F", "-winf"]),
        tool("me-only -o", me_only, "-o", wait=["-q", "-o", "-winf"]),
        tool(SLOTS, me_only, "-j2", wait=["-q", "-j2", "-winf"]),
        tool("me-only file:", me_only, wait=["-q", "-winf"], lock="file:LOCK"),
        tool("flock -n", flock, "-n", wait=[]),
        tool("flock -n -F", flock, "-n", "-F", wait=["-F"]),
        tool("setlock -n", path("setlock"), "-n", wait=[]),
        tool("s6-setlock -n", path("s6-setlock"), "-n", wait=[]),
        tool("chpst -L", path("chpst"), "-L"),
        tool("lckdo", path("lckdo")),
        tool("with-lock-ex -q", path("with-lock-ex"), "-q"),
        tool("sem --fg", path("sem"), "--will-cite", "--fg", "--id", every=100),
    ]


class Bench:
    """Where everything is, and how the measuring programs are run."""

    def __init__(self, me_only, programs, size, directory):
        self.me_only, self.programs, self.size, self.directory = me_only, programs, size, directory
        self.stamps = os.path.join(directory, "stamps")
        floor = next(p for p in ("floor-asm", "floor-c") if os.path.exists(self.program(p)))
        self.floor = self.program(floor)
        self.tools = []
        # As cron has it: nothing that makes a tool look for translations.
        self.env = {"PATH": "/usr/bin:/bin", "HOME": directory, "SHELL": "/bin/sh"}

    def program(self, name):
        return os.path.join(self.programs, name)

    def lock(self, tool, suffix=""):
        return os.path.join(self.directory, tool.name.replace(" ", "")) + suffix

    def command(self, tool, words, suffix=""):
        return [word.replace("LOCK", self.lock(tool, suffix)) if word in ("LOCK", "file:LOCK") else word for word in words]

    def run(self, *argv):
        """The output of a measuring program: a list of lists of integers."""
        done = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            fail(f"{os.path.basename(argv[0])} failed")
        return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


# Start to end


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)]


def measure_start(bench):
    """Tool name: {"us": every sample, "faults": median}."""
    progress(f"start to end of {len(bench.tools)} tools, {bench.size.rounds} rounds")
    argv = [bench.program("spawn"), str(bench.size.rounds)]
    for tool in bench.tools:
        argv += [str(tool.every), *bench.command(tool, tool.start), bench.program("noop"), ";"]
    samples = [{"us": [], "faults": []} for _ in bench.tools]
    for index, ns, faults in bench.run(*argv):
        samples[index]["us"].append(ns / 1000)
        samples[index]["faults"].append(faults)
    return {t.name: {"us": s["us"], "faults": statistics.median(s["faults"])} for t, s in zip(bench.tools, samples)}


def overhead(start, name):
    return statistics.median(start[name]["us"]) - statistics.median(start["bare command"]["us"])


def overhead_ratio(start, name, peer, parts=10):
    """The ratio of two overheads, and the lowest and highest of it in so many consecutive parts of the run."""

    def part(which, tool):
        values = start[tool]["us"]
        return statistics.median(values[len(values) * which // parts:len(values) * (which + 1) // parts])

    over = [(part(i, name) - part(i, "bare command"), part(i, peer) - part(i, "bare command")) for i in range(parts)]
    ratios = [a / b for a, b in over if b > 0]
    return overhead(start, name) / overhead(start, peer), min(ratios), max(ratios)


# Memory


def memory(pid):
    """Resident and proportional size of a process in kB. (VmRSS in status may lag behind by pages: smaps_rollup counts.)"""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        text = f.read()
    rss, pss = (int(re.search(rf"^{field}: *(\d+) kB", text, re.M).group(1)) for field in ("Rss", "Pss"))
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        status = int(re.search(r"^VmRSS:\s*(\d+) kB", f.read(), re.M).group(1))
    return {"rss": rss, "pss": pss, "vmrss": status}


def processes():
    """pid: (parent, name) of everything."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                    head, tail = f.read().rsplit(")", 1)
            except OSError:
                continue
            found[int(entry)] = int(tail.split()[1]), head.split("(", 1)[1]
    return found


def family(pid):
    """pid: name of a process and all its descendants."""
    table = processes()
    members = [pid]
    for member in members:
        members += [child for child, (parent, _) in table.items() if parent == member]
    return {member: table[member][1] for member in members if member in table}


def wait_for(look, what):
    end = time.monotonic() + DEADLINE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            fail(f"did not happen: {what}")
        time.sleep(0.002)


class Held:
    """A tool that holds its lock until the end of the `with` block."""

    def __init__(self, bench, tool):
        self.bench, self.tool = bench, tool

    def __enter__(self):
        with open(self.bench.stamps, "wb") as f:
            f.truncate(16)
        argv = [*self.bench.command(self.tool, self.tool.start), self.bench.program("stamp"), self.bench.stamps, "0", "hold"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=self.bench.env)
        wait_for(self.job_runs, f"{self.tool.name}: its job runs")
        wait_for(lambda: all(map(asleep, family(self.process.pid))), f"{self.tool.name}: all is quiet")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(DEADLINE)

    def job_runs(self):
        with open(self.bench.stamps, "rb") as f:
            return any(f.read(8))

    def others(self):
        """What runs besides the job: {pid: name}."""
        return {pid: name for pid, name in family(self.process.pid).items() if name != "stamp"}

    def keeper(self):
        return next((pid for pid, name in self.others().items() if name == KEEPER), None)


def asleep(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "S"
    except OSError:
        return False


def measure_memory(bench):
    """Tool name: {process: sizes}, for what each tool keeps beside the job: "parent" is the process that was started."""
    progress("memory of what waits for the job")
    found = {}
    for tool in bench.tools[2:]:
        with Held(bench, tool) as held:
            found[tool.name] = {"parent" if pid == held.process.pid else name: memory(pid) for pid, name in held.others().items()}
            if tool.name == "me-only":
                keeper = wait_for(held.keeper, "the keeper of a job that has run for a second")
                wait_for(lambda: all(map(asleep, held.others())), "quiet after the keeper's start")
                found["me-only, after 1 s"] = {"parent": memory(held.process.pid), KEEPER: memory(keeper)}
                waiter = subprocess.Popen([bench.me_only, "-winf", bench.lock(tool), bench.program("noop")], env=bench.env)
                wait_for(lambda: asleep(waiter.pid), "a waiter that waits")
                found["me-only, waiting for the lock"] = {"waiter": memory(waiter.pid)}
        if tool.name == "me-only":
            waiter.wait(DEADLINE)
    return found


def text_size(program):
    """Of all code and constants, in bytes."""
    done = subprocess.run(["size", program], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[1].split()[0])


class SlotTaken:
    """One of the two slots of each lock of the hand-over is taken all the time: so what is handed over is the other one."""

    def __init__(self, bench, tool, numbers):
        self.commands = [[*bench.command(tool, tool.start, str(n)), "cat"] for n in range(numbers)]
        self.env = bench.env
        self.holders = []

    def __enter__(self):
        for command in self.commands:
            holder = subprocess.Popen(command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.holders.append(holder)
            holder.stdin.write(b"x")
            holder.stdin.flush()
            holder.stdout.read(1)

    def __exit__(self, *_):
        for holder in self.holders:
            holder.communicate()


# Hand-over


def measure_handover(bench, rounds, held_ms):
    """Tool name: microseconds from the end of one job to the start of the next."""
    progress(f"hand-over, {rounds} rounds, locks held for {'an instant' if held_ms == 0 else f'{held_ms} ms'}")
    # Locks that are held for long are many at a time: without slots.
    tools = [tool for tool in bench.tools if tool.wait is not None and (held_ms == 0 or tool.name != SLOTS)]
    argv = [bench.program("handover"), str(rounds), str(held_ms), bench.program("stamp"), bench.stamps]
    for tool in tools:
        argv += [*bench.command(tool, tool.wait, "@"), ";"]
    samples = {tool.name: [] for tool in tools}
    slots = [tool for tool in tools if tool.name == SLOTS]
    with SlotTaken(bench, slots[0], len(tools)) if slots else contextlib.nullcontext():
        for index, ns in bench.run(*argv):
            samples[tools[index].name].append(ns / 1000)
    return samples


def inversions(starts):
    """How many pairs ran in the wrong order."""
    return sum(a > b for i, a in enumerate(starts) for b in starts[i + 1:])


def measure_herd(bench):
    """Tool name: {"ms": of every run, "inversions": in all runs}."""
    size = bench.size
    found = {}
    tools = [tool for tool in bench.tools if tool.name in ("me-only", "flock -n")] + [Tool(BATON, [], [bench.program("baton"), "LOCK"], 1)]
    for run in range(size.herds):
        for tool in tools:
            progress(f"{size.waiters} waiters, {tool.name}, run {run + 1} of {size.herds}")
            times = bench.run(bench.program("herd"), str(size.waiters), str(GAP_US), bench.program("stamp"), bench.stamps,
                              *bench.command(tool, tool.wait, f"-{run}"))
            in_order = sorted(times)
            if any(end > start for (_, end), (start, _) in zip(in_order, in_order[1:])) or in_order[0][0] <= 0:
                fail(f"{tool.name}: two jobs ran at once")
            mine = found.setdefault(tool.name, {"ms": [], "inversions": 0})
            mine["ms"].append(max(end for _, end in times) / 1e6)
            mine["inversions"] += inversions([start for start, _ in times])
    return found


# System calls


STARTS = ("fork", "vfork", "clone", "clone3")


def calls_on_the_way(names, process, parent, command):
    """Of the names of one process' calls before the job's exec, those that the exec has to wait for: a parent's until it has
    started the last process, a keeper's until it has opened the gate, the command's all. The others are made beside it."""
    if process == command:
        return names
    last = [i for i, name in enumerate(names) if name in (STARTS if process == parent else ("write",))]
    return names[:last[-1] + 1] if last else []


def calls_until_exec(bench, tool):
    """Names of the system calls from the tool's start to the job's exec, process by process: the one that was started,
    helpers, the one that becomes the command."""
    trace = os.path.join(bench.directory, "trace")
    job = bench.program("noop")
    subprocess.run(["strace", "-f", "-q", "-o", trace, *bench.command(tool, tool.start), job], env=bench.env, check=True)
    with open(trace, encoding="utf-8", errors="replace") as f:
        calls = [call.groups() for call in (re.match(r"(\d+) +(\w+)\((.*)", line) for line in f) if call]
    end = next(i for i, (_, name, rest) in enumerate(calls) if name == "execve" and rest.startswith(f'"{job}"'))
    parent, command = calls[0][0], calls[end][0]
    processes = dict.fromkeys(pid for pid, _, _ in calls[:end])
    found = []
    for process in [p for p in processes if p != command] + [command]:
        names = [name for pid, name, _ in calls[1:end + 1] if pid == process]
        found += calls_on_the_way(names, process, parent, command)
    return found


def documented_calls():
    """Form: [(call, reason)] from the tables in README.md."""
    found, form = {}, None
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as f:
        for line in f:
            heading = re.match(r"### `(me-only.*?) LOCK", line)
            row = re.match(r"\| `(\w+)` \| (.*) \|", line)
            if line.startswith("#"):
                form = heading and found.setdefault(heading.group(1), [])
            elif row and form is not None:
                form.append(row.groups())
    return found


def measure_calls(bench):
    progress("system calls from start to exec")
    return {tool.name: calls_until_exec(bench, tool) for tool in bench.tools[1:] if tool.every == 1}


# The targets

Target = namedtuple("Target", "text value unit limit reached note")


def targets(result, start):
    found = []

    def add(text, value, limit, unit="", note=""):
        found.append(Target(text, round(value, 3), unit, limit, value <= limit, note))

    for name, peer, limit in (("me-only", "flock -n", 0.2), ("me-only -F", "flock -n -F", 0.2),
                              ("me-only -F", "setlock -n", 0.25), ("me-only -F", "s6-setlock -n", 0.25),
                              ("me-only -F", "exec only", 1.6)):
        ratio, low, high = overhead_ratio(start, name, peer)
        add(f"overhead of {name}, of {peer}'s", ratio, limit, note=f"parts of the run: {low:.2f} to {high:.2f}")
    sizes = result["memory"]
    for text, value in (("me-only, waiting for its job", sizes["me-only"]["parent"]),
                        ("the same after 1 s", sizes["me-only, after 1 s"]["parent"]),
                        ("its keeper", sizes["me-only, after 1 s"][KEEPER]),
                        ("me-only -o, waiting for its job", sizes["me-only -o"]["parent"]),
                        ("its keeper", sizes["me-only -o"][KEEPER])):
        add(f"resident: {text}", value["rss"], 104, "kB", note=f"proportional {value['pss']} kB")
    add("code and constants", result["text"] / 1024, 84, "kB")
    for key, text in (("handover", "hand-over"), ("handover_held", f"hand-over after {HELD_MS / 1000} s")):
        ours, theirs = result[key]["me-only"]["median"], result[key]["flock -n"]["median"]
        bare = result[key]["bare command"]["median"]
        add(f"{text}, of flock's", ours / theirs, 0.75, note=f"{ours:.0f} and {theirs:.0f} µs")
        add(f"{text}, without the command's own start", (ours - bare) / (theirs - bare), 0.6, note=f"that start: {bare:.0f} µs")
    ours, plain = (result["handover"][name]["median"] for name in (SLOTS, "me-only"))
    add("hand-over of a slot, of a plain lock's", ours / plain, 1, note=f"{ours:.0f} and {plain:.0f} µs")
    herd = result["herd"]
    ours, theirs, least = (statistics.median(herd[name]["ms"]) for name in ("me-only", "flock -n", BATON))
    add(f"{result['size']['waiters']} waiters, of flock's time", ours / theirs, 0.5,
        note=f"{ours:.0f} and {theirs:.0f} ms; with no lock at all {least:.0f} ms, which is {least / theirs:.2f}")
    add("waiters overtaken", herd["me-only"]["inversions"], 0, note=f"flock: {herd['flock -n']['inversions']}")
    return found


# The report

# What the part for etcd: locks needs of this one.
FleetTools = namedtuple("FleetTools", "progress summary family memory")


def summary(samples):
    return {"median": statistics.median(samples), "p5": percentile(samples, 5), "p95": percentile(samples, 95), "n": len(samples)}


def machine():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    return {"kernel": platform.release(), "processor": model.group(1) if model else platform.machine(),
            "processors": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}


class Others:
    """What share of the processors everybody else uses meanwhile."""

    def __init__(self):
        self.busy, self.total, self.own = self.read()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            ticks = [int(word) for word in f.readline().split()[1:9]]
        own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks), own * os.sysconf("SC_CLK_TCK")

    def share(self):
        busy, total, own = self.read()
        return max(0, busy - self.busy - (own - self.own)) / max(1, total - self.total)


def measure_tools(bench):
    """me-only beside its peers on one host."""
    bench.tools = all_tools(bench.me_only, bench.floor)
    start = measure_start(bench)
    result = {
        "size": bench.size._asdict(),
        "start": {name: {**summary(s["us"]), "over": overhead(start, name), "faults": s["faults"]} for name, s in start.items()},
        "memory": measure_memory(bench),
        "text": text_size(bench.me_only),
        "handover": {name: summary(us) for name, us in measure_handover(bench, bench.size.handovers, 0).items()},
        "handover_held": {name: summary(us) for name, us in measure_handover(bench, bench.size.held, HELD_MS).items()},
        "herd": measure_herd(bench),
        "calls": measure_calls(bench),
    }
    result["targets"] = [t._asdict() for t in targets(result, start)]
    return result


def measure(bench, args):
    others, result = Others(), {"machine": machine()}
    if args.tools:
        result |= measure_tools(bench)
    if args.fleet:
        tools = FleetTools(progress, summary, family, memory)
        result["fleet"] = fleet.measure(bench, fleet.QUICK if args.quick else fleet.FULL, args.fleet_data, tools)
        if "missing" not in result["fleet"]:
            result["fleet"]["targets"] = [t._asdict() for t in fleet_report.targets(result["fleet"], Target)]
    result["machine"]["others"] = round(others.share(), 3)
    return result


def print_columns(rows, left=1):
    """Columns as wide as they must be; the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [f"{c:<{w}}" if i < left else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    print()


def extra_memory(result, name):
    beside = result["memory"].get(name)
    return "" if beside is None else f"{sum(m['rss'] for m in beside.values())}"


def print_tools(result):
    start, ours = result["start"], {name: result["start"][name]["over"] for name in ("me-only", "me-only -F")}
    rows = [("", "start to end", "p5 to p95", "over bare", "me-only", "me-only -F", "page", "system", "resident", "hand-over", "after 1 s"),
            ("", "µs", "µs", "µs", "is … of it", "is … of it", "faults", "calls", "kB", "µs", "µs")]
    for name, s in start.items():
        bare = name == "bare command"
        rows.append((name, f"{s['median']:.0f}", f"{s['p5']:.0f} to {s['p95']:.0f}", "" if bare else f"{s['over']:.0f}",
                     *("" if bare else f"{o / s['over']:.2f}" for o in ours.values()), f"{s['faults']:.0f}",
                     str(len(result["calls"].get(name, ()))) if name in result["calls"] else "", extra_memory(result, name),
                     *(f"{result[k][name]['median']:.0f}" if name in result[k] else "" for k in ("handover", "handover_held"))))
    print_columns(rows)


def print_targets(targets_of_part):
    rows = [("target", "measured", "at most", "", "", "")]
    for t in targets_of_part:
        rows.append((t["text"], f"{t['value']:.4g}", f"{t['limit']:g}", t["unit"], "reached" if t["reached"] else "NOT REACHED", t["note"]))
    widths = [max(len(r[i]) for r in rows) for i in range(5)]
    for r in rows:
        print(f"{r[0]:<{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:>{widths[2]}} {r[3]:<{widths[3]}}  {r[4]:<{widths[4]}}  {r[5]}".rstrip())
    print()


def print_calls(result):
    """The calls with their reasons; false when README.md says otherwise."""
    documented, right = documented_calls(), True
    for form in ("me-only", "me-only -F", "me-only -o"):
        calls, rows = result["calls"][form], documented.get(form, [])
        print(f"{form}: {len(calls)} system calls from start to exec")
        if calls == [call for call, _ in rows]:
            for call, reason in rows:
                print(f"  {call:<18} {reason}")
        else:
            right = False
            print(f"  they are:              {' '.join(calls)}")
            print(f"  bench/README.md says:  {' '.join(call for call, _ in rows)}")
        print()
    return right


def print_report(result):
    m = result["machine"]
    print(f"{m['date']}, Linux {m['kernel']}, {m['processors']} × {m['processor']}")
    print(f"{m['others']:.0%} of the processors' time went to others meanwhile\n")
    if "start" in result:
        print_tools(result)
        print_targets(result["targets"])
    if "fleet" in result:
        fleet_report.print_report(result["fleet"], print_columns)
        if "targets" in result["fleet"]:
            print_targets(result["fleet"]["targets"])


def is_static(program):
    done = subprocess.run(["readelf", "-lW", program], stdout=subprocess.PIPE, text=True, check=True)
    return "INTERP" not in done.stdout


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure me-only beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: shows that it works, not how fast it is")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--fleet", dest="tools", action="store_false", help="only locks of etcd, beside etcdctl lock")
    part.add_argument("--no-fleet", dest="fleet", action="store_false", help="all but these")
    parser.add_argument("--fleet-data", metavar="DIRECTORY", help="where the etcd servers have their data (default: /dev/shm, in memory)")
    parser.add_argument("--json", metavar="FILE", default=os.path.join(ROOT, "build", "bench.json"))
    parser.add_argument("--svg", metavar="FILE", default=os.path.join(ROOT, "build", "bench.svg"))
    parser.add_argument("--programs", metavar="DIRECTORY", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = arguments()
    me_only = os.environ.get("ME_ONLY", os.path.join(ROOT, "build", "me-only"))
    # Servers and folders are cleaned up then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="me-only-bench-") as directory:
        bench = Bench(os.path.abspath(me_only), args.programs, QUICK if args.quick else FULL, directory)
        result = measure(bench, args)
    print_report(result)
    right = print_calls(result) if args.tools else True
    with open(args.json, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    progress(f"wrote {args.json}")
    if args.tools:
        with open(args.svg, "w", encoding="utf-8") as f:
            f.write(picture.draw(result))
        progress(f"wrote {args.svg}")
    if not right and is_static(bench.me_only) and platform.machine() == "x86_64":
        fail("the tables of system calls in bench/README.md are out of date")


if __name__ == "__main__":
    main()
