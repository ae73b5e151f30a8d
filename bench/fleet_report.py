"""What is said of the fleet part of the benchmark: the targets and the report."""
from fleet import FLOOR, OURS, THEIRS

# The targets


def kilobytes(sizes, field="rss"):
    return sum(process[field] for process in sizes.values())


def targets(result, target):
    found, notes = [], result["notes"]

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
    add_medians("start to end", result["start"], 0.3, notes["start"])
    add_medians("start to end over TLS", result["tls"], 0.5)
    add_medians("hand-over", result["handover"], 0.7, notes["handover"])
    for where, samples in result["distant"].items():
        if where.endswith("away"):
            add_medians(f"hand-over {where}", samples, 0.5)
    pss = ", ".join(f"{kilobytes(sizes[name], 'pss')}" for name in (OURS, THEIRS))
    add("resident", kilobytes(sizes[OURS]), kilobytes(sizes[THEIRS]), 0.08, "kB", f"proportional {pss} kB")
    ours, theirs = (sum(waiters[name]["idle"].values()) * 1000 for name in (OURS, THEIRS))
    add(f"{result['size']['waiters']} waiters, processor time", ours, theirs, 0.3, f"ms in {result['size']['idle']} s")
    turns = result["turns"]
    note = f"{FLOOR}: {turns[FLOOR] / turns[THEIRS]:.2f}" if FLOOR in turns else ""
    add("each in turn, with empty jobs", turns[OURS], turns[THEIRS], 1, "ms", note)
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
    print("hand-over to a waiter that has just come; and by the time that a network takes there and back, in ms")
    rows = [("", *result["distant"])]
    for name in result["handover"]:
        rows.append((name, *(f"{samples[name]['median'] / 1000:.2f}" for samples in result["distant"].values())))
    rows.append(("ratio", *(f"{samples[OURS]['median'] / samples[THEIRS]['median']:.2f}" for samples in result["distant"].values())))
    print_columns(rows)
    print(f"{result['size']['waiters']} waiters for one lock: processor time in ms, of the server and of the clients")
    rows = [("", "to line up", "", f"idle, {result['size']['idle']} s", "", "every one in turn", "", "that takes", "overtaken"),
            ("", "server", "clients", "server", "clients", "server", "clients", "ms", "pairs")]
    for name, w in result["waiters"].items():
        cells = [f"{w[key][who] * 1000:.0f}" for key in ("line up", "idle", "drain") for who in ("server", "clients")]
        rows.append((name, *cells, f"{result['turns'][name]:.0f}", str(w["inversions"])))
    if FLOOR in result["turns"]:
        rows.append((FLOOR, *[""] * 6, f"{result['turns'][FLOOR]:.0f}", ""))
    print_columns(rows)
