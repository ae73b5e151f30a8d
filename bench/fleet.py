"""The fleet part of the benchmark: me-only etcd: beside etcdctl lock, on the same server. README.md says how.

Read straight down: the server, the two tools, the measurements, the targets, the report.
"""
import base64
import contextlib
import ctypes
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections import namedtuple

DEADLINE = 60  # seconds after which something that ought to happen has failed
SETTLE = 0.4  # seconds for which nothing happens before a lock is handed over: a holder of me-only opens its stream after 0.1
IDLE_SETTLE = 2  # the same before the processor time of waiters is counted

# A tool as it is started for a lock: `start` takes it or gives up, `wait` waits for it. `lock`: what NAME is in an argument.
Tool = namedtuple("Tool", "name start wait")
Size = namedtuple("Size", "rounds handovers distant waiters idle ttl")
FULL = Size(rounds=400, handovers=60, distant=20, waiters=100, idle=60, ttl=None)
QUICK = Size(rounds=30, handovers=5, distant=2, waiters=20, idle=5, ttl="10s")
DISTANCES_MS = 2, 10  # there and back, between clients and the server: zones of a region, and regions that are near
OURS, THEIRS, TALKING = "me-only -q etcd:", "etcdctl lock", "me-only etcd:"
FLOOR = "the requests alone"  # requests.c


class Unavailable(Exception):
    """Why this part cannot be measured here."""


# The server


def die_with_us():
    """In a process just forked: nothing of ours outlives the benchmark, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def set_subreaper(on):
    """Whether we become the parent of orphans: helpers end a moment after the me-only that has started them."""
    ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def make_certificates(folder):
    """Creates a CA, and a certificate for 127.0.0.1. Returns the files of the CA, the certificate and its key."""
    ca, ca_key, cert, key, request, names = (os.path.join(folder, name) for name in ("ca", "ca.key", "cert", "key", "request", "names"))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with open(names, "w", encoding="ascii") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    for argv in (["req", "-x509", *new_key, "-subj", "/CN=bench", "-days", "2", "-keyout", ca_key, "-out", ca],
                 ["req", *new_key, "-subj", "/CN=etcd", "-keyout", key, "-out", request],
                 ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", names, "-out", cert]):
        subprocess.run(["openssl", *argv], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return ca, cert, key


JANITOR = """
trap '' INT TERM HUP
read end
for again in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$0" && exit
    sleep 0.2
done
"""


class Server:
    """An etcd server of one member, with a folder of its own, until the end of the `with` block, or until the benchmark is killed."""

    def __init__(self, data):
        self.data = data

    def __enter__(self):
        self.port, tls_port, peer_port = free_ports(3)
        self.folder = tempfile.mkdtemp(prefix="me-only-bench-etcd-", dir=self.data)
        # What is in memory would stay there until the next start of the machine.
        self.janitor = subprocess.Popen(["sh", "-c", JANITOR, self.folder], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        client, tls, peer = f"http://127.0.0.1:{self.port}", f"https://127.0.0.1:{tls_port}", f"http://127.0.0.1:{peer_port}"
        ca, cert, key = make_certificates(self.folder)
        self.variables = {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{self.port}"}
        self.tls_variables = {"ETCDCTL_ENDPOINTS": tls, "ETCDCTL_CACERT": ca}
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", os.path.join(self.folder, "data"), "--listen-client-urls", f"{client},{tls}",
                 "--cert-file", cert, "--key-file", key, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--logger", "zap", "--log-level", "warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us)
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.janitor.communicate()

    def wait_until_ready(self):
        end = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                if "header" in self.ask("/v3/kv/range", {"key": encoded("x")}):
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise Unavailable(f"etcd does not start: {log.read()[-300:].strip()}")
            time.sleep(0.02)

    def ask(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("POST", path, json.dumps(body))
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def entries(self, name):
        """The leases of those who hold or wait for a lock."""
        answer = self.ask("/v3/kv/range", {"key": encoded(f"{name}/"), "range_end": encoded(f"{name}0"), "keys_only": True})
        return [int(base64.b64decode(kv["key"]).decode().rsplit("/", 1)[1], 16) for kv in answer.get("kvs", ())]

    def seconds_left(self, lease):
        return int(self.ask("/v3/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))


class Distance:
    """The same server, farther away, until the end of the `with` block: distance.c. Questions of the benchmark's own take the short way."""

    def __init__(self, bench, server, milliseconds):
        self.argv = [bench.program("distance"), str(server.port), str(milliseconds * 1000 // 2)]
        self.entries = server.entries

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        self.variables = {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{int(self.process.stdout.readline())}"}
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def processor_time(pids):
    """Seconds for which these processes have had a processor, all threads together."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
    return total / 1e9


def wait_for(look, what, process=None):
    """Waits until it is true, while the process (if any) lives."""
    end = time.monotonic() + DEADLINE
    while not look():
        if time.monotonic() > end or (process and process.poll() is not None):
            raise SystemExit(f"bench: did not happen: {what}")
        time.sleep(0.002)


# The tools


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
        self.fifo = os.path.join(bench.directory, "hold")
        os.mkfifo(self.fifo)

    def env(self, variables):
        return {**self.bench.env, "ETCDCTL_API": "3", **variables}

    def start(self, server, words, name, *job):
        """A tool that runs a job under the lock NAME."""
        argv = [word.replace("NAME", name) for word in words]
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
    if os.path.exists(fleet.bench.program("requests")):
        commands[FLOOR] = [fleet.bench.program("requests"), "NAME"]
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


def measure_handover(fleet, server, rounds, what="handover"):
    """Tool name: microseconds from the end of the holder's job to the first instruction of the waiter's."""
    samples = {tool.name: [] for tool in fleet.tools}
    for number in range(rounds):
        for tool in fleet.tools[::-1 if number % 2 else 1]:
            name = f"bench/{what}-{tool.name.split()[0]}-{number}"
            stamps = Stamps(fleet, 2)
            holder = Holder(fleet, server, tool, name)
            waiter = fleet.start(server, tool.wait, name, *fleet.stamp(1))
            wait_for(lambda n=name: len(server.entries(n)) == 2, f"{tool.name}: the waiter is in line", waiter)
            time.sleep(SETTLE)
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


def measure_waiters(fleet, tool, family):
    """What so many waiters for one lock cost while nothing happens, and while each of them takes its turn."""
    count, name = fleet.size.waiters, "bench/waiters"
    with Server(fleet.data) as server:
        stamps = Stamps(fleet, count + 1)
        before, reaped = processor_time([server.process.pid]), children_time()
        holder = Holder(fleet, server, tool, name)
        waiters = []
        for number in range(1, count + 1):
            waiters.append(fleet.start(server, tool.wait, name, *fleet.stamp(number)))
            wait_for(lambda n=number: len(server.entries(name)) == n + 1, f"{tool.name}: waiter {number} is in line", waiters[-1])
        time.sleep(IDLE_SETTLE)
        clients = [pid for process in (holder.process, *waiters) for pid, word in family(process.pid).items() if word != "stamp"]
        lined_up = {"server": processor_time([server.process.pid]), "clients": processor_time(clients)}
        time.sleep(fleet.size.idle)
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


# All of it


def versions():
    """Of the server and of etcdctl, or why there are none."""
    for program in ("etcd", "etcdctl", "openssl"):
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed (Debian: etcd-server, etcd-client, openssl)")
    done = subprocess.run(["etcd", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.split("\n", 1)[0].rsplit(" ", 1)[-1]


def place(data):
    """Where the servers have their data: the folder, and what it is on."""
    if data is None:
        data = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    done = subprocess.run(["stat", "-f", "-c", "%T", data], stdout=subprocess.PIPE, text=True, check=False)
    return data, done.stdout.strip() or "unknown"


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
        distant = {}
        for ms in DISTANCES_MS:
            tools.progress(f"etcd: locks, hand-over {ms} ms away, {size.distant} rounds")
            with Distance(fleet.bench, server, ms) as distance:
                distant[ms] = measure_handover(fleet, distance, size.distant, f"distant-{ms}")
        tools.progress("etcd: locks, memory of what waits for the job")
        sizes = measure_memory(fleet, server, tools.family, tools.memory)
    waiters = {}
    set_subreaper(True)
    for tool in fleet.tools:
        tools.progress(f"etcd: locks, {size.waiters} waiters for one lock, {tool.name}, {size.idle} s")
        waiters[tool.name] = measure_waiters(fleet, tool, tools.family)
    set_subreaper(False)
    return start, tls, handover, distant, sizes, waiters


def measure(bench, size, data, tools):
    """The section "fleet" of the result. `tools`: what is used of bench.py."""
    try:
        version = versions()
        data, kind = place(data)
        start, tls, handover, distant, sizes, waiters = measure_all(Fleet(bench, data, size), tools)
    except Unavailable as reason:
        return {"missing": str(reason)}
    result = {
        "server": version, "data": kind, "size": size._asdict(),
        "start": {name: {**tools.summary(s["us"]), "faults": statistics.median(s["faults"])} for name, s in start.items()},
        "tls": {name: tools.summary(s["us"]) for name, s in tls.items()},
        "handover": {name: tools.summary(us) for name, us in handover.items()},
        "distant": {ms: {name: tools.summary(us) for name, us in samples.items()} for ms, samples in distant.items()},
        "memory": sizes,
        "waiters": waiters,
    }
    notes = parts_of_run({name: s["us"] for name, s in start.items()}), parts_of_run(handover)
    result["targets"] = [t._asdict() for t in targets(result, tools.target, *notes)]
    return result


# The targets


def kilobytes(sizes, field="rss"):
    return sum(process[field] for process in sizes.values())


def targets(result, target, start_note, handover_note):
    found = []

    def add(text, ours, theirs, limit, unit, note=""):
        ratio = round(ours / theirs, 3) if theirs else float("inf")
        words = f"{ours:.4g} and {theirs:.4g} {unit}{'; ' if note else ''}{note}"
        found.append(target(f"etcd: {text}, of etcdctl's", ratio, "", limit, ratio <= limit, words))

    def add_medians(text, samples, limit, note=""):
        ours, theirs = (samples[name]["median"] / 1000 for name in (OURS, THEIRS))
        if FLOOR in samples:
            note = f"{FLOOR}: {samples[FLOOR]['median'] / 1000 / theirs:.2f}{'; ' if note else ''}{note}"
        add(text, ours, theirs, limit, "ms", note)

    sizes, waiters = result["memory"], result["waiters"]
    add_medians("start to end", result["start"], 0.3, start_note)
    add_medians("start to end over TLS", result["tls"], 0.5)
    add_medians("hand-over", result["handover"], 0.7, handover_note)
    for ms, samples in result["distant"].items():
        add_medians(f"hand-over {ms} ms away", samples, 0.5)
    pss = ", ".join(f"{kilobytes(sizes[name], 'pss')}" for name in (OURS, THEIRS))
    add("resident", kilobytes(sizes[OURS]), kilobytes(sizes[THEIRS]), 0.08, "kB", f"proportional {pss} kB")
    ours, theirs = (sum(waiters[name]["idle"].values()) * 1000 for name in (OURS, THEIRS))
    add(f"{result['size']['waiters']} waiters, processor time", ours, theirs, 0.3, f"ms in {result['size']['idle']} s")
    add("each in turn, with empty jobs", waiters[OURS]["drain_ms"], waiters[THEIRS]["drain_ms"], 1, "ms")
    overtaken = waiters[OURS]["inversions"]
    found.append(target("etcd: waiters overtaken", overtaken, "", 0, overtaken == 0, f"etcdctl: {waiters[THEIRS]['inversions']}"))
    return found


# The report


def print_report(result, print_columns):
    if "missing" in result:
        print(f"etcd: locks are not measured: {result['missing']}\n")
        return
    print(f"etcd: locks beside etcdctl lock; etcd {result['server']}, one member on loopback, its data on {result['data']}")
    rows = [("", "start to end", "p5 to p95", "page", "hand-over", "p5 to p95", "resident", "proportional"),
            ("", "ms", "ms", "faults", "ms", "ms", "kB", "kB")]
    for name, s in result["start"].items():
        spread = [f"{v['median'] / 1000:.2f}" if v else "" for v in (s, result["handover"].get(name))]
        ends = [f"{v['p5'] / 1000:.1f} to {v['p95'] / 1000:.1f}" if v else "" for v in (s, result["handover"].get(name))]
        sizes = [str(kilobytes(result["memory"][name], field)) if name in result["memory"] else "" for field in ("rss", "pss")]
        rows.append((name, spread[0], ends[0], f"{s['faults']:.0f}", spread[1], ends[1], *sizes))
    print_columns(rows)
    print("start to end over TLS, with a file of CAs, in ms")
    print_columns([("", "median", "p5 to p95"), *((name, f"{t['median'] / 1000:.2f}", f"{t['p5'] / 1000:.1f} to {t['p95'] / 1000:.1f}")
                                                  for name, t in result["tls"].items())])
    print("hand-over, by the time that a network takes there and back, in ms")
    rows = [("", *(f"{ms}" for ms in result["distant"]))]
    for name in (OURS, THEIRS):
        rows.append((name, *(f"{samples[name]['median'] / 1000:.2f}" for samples in result["distant"].values())))
    rows.append(("ratio", *(f"{samples[OURS]['median'] / samples[THEIRS]['median']:.2f}" for samples in result["distant"].values())))
    print_columns(rows)
    print(f"{result['size']['waiters']} waiters for one lock: processor time in ms, of the server and of the clients")
    rows = [("", "to line up", "", f"idle, {result['size']['idle']} s", "", "every one in turn", "", "that takes", "overtaken"),
            ("", "server", "clients", "server", "clients", "server", "clients", "ms", "pairs")]
    for name, w in result["waiters"].items():
        cells = [f"{w[key][who] * 1000:.0f}" for key in ("line up", "idle", "drain") for who in ("server", "clients")]
        rows.append((name, *cells, f"{w['drain_ms']:.0f}", str(w["inversions"])))
    print_columns(rows)
