"""Makes the experiments and writes docs/comparison.md. See scripts/compare."""
import argparse
import concurrent.futures
import inspect
import os
import platform
import re
import subprocess
import sys

import experiments
import fleet
from laboratory import Laboratory, Unexpected
from tools import ME_ONLY, ROOT, TOOLS, with_unpacked

DOCUMENT = os.path.join(ROOT, "docs", "comparison.md")
WORKERS = 4
ALONE = "cost"  # its experiment measures time
# What --check repeats: what needs no waiting, no haste, no rights, and no
# tools that may be missing.
QUICK_TOOLS = ("me-only", "flock")
QUICK = (
    "lock file deleted",
    "job closed descriptors",
    "tool killed",
    "files left",
    "held",
    "job exits with 7",
    "job dies by SIGTERM",
    "0 to 2 closed",
    "nested, trying",
    "names it",
    "N at a time",
)

TEXT = """# Comparison with other tools

`scripts/compare` writes this page. Each cell is the result of one experiment, which is the same for
all tools; the list below each table explains the columns. Bold: two jobs run, or none can, or a job
gets the lock file as standard input or output.

{facts}

`lockfile` and `lockfile-create` run no command: they were tried in a script that takes the lock,
runs the command and, in an `EXIT` trap, deletes the lock. `flock --fcntl` is from the newer
util-linux. Tools that Debian does not have, such as run-one, solo and lockrun, were not tried.
{tables}
With `-F` me-only becomes the command, and shares the weakness of the other tools that do: a command
that closes its descriptors loses the lock. Deleting a `file:` lock's file lets a second job run,
with any tool that locks that file.

## On a fleet

Each experiment had its own etcd server, {etcd}, and leases of {ttl} seconds.
{fleet_tables}
[benchmarks.md](benchmarks.md) shows what a run costs; [moving-from-flock.md](moving-from-flock.md)
has a new line for each line of another tool.
"""


def wrapped(text, begin="", width=100):
    lines = [begin]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(" " * len(begin.rstrip() and "  "))
        lines[-1] += (" " if lines[-1].strip() and not lines[-1].endswith(" ") else "") + word
    return "\n".join(line.rstrip() for line in lines)


def render_tables(tables, rows, cells):
    """cells: {(row, column): text}"""
    out = []
    for heading, columns in tables.items():
        out += [
            "",
            f"### {heading}",
            "",
            " | ".join(["|", *columns]) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        out += [
            "| " + " | ".join([row, *(cells[heading, row, name] for name in columns)]) + " |"
            for row in rows
        ]
        out += [
            "",
            *(
                wrapped(f"*{name}*: {inspect.getdoc(experiment)}", "- ")
                for name, experiment in columns.items()
            ),
        ]
    return "\n".join(out) + "\n"


def render(facts, rows, cells, fleet_rows):
    return TEXT.format(
        facts=facts["facts"],
        etcd=facts["etcd"],
        ttl=fleet.TTL,
        tables=render_tables(experiments.TABLES, rows, cells),
        fleet_tables=render_tables(fleet.TABLES, fleet_rows, cells),
    )


def parse(text):
    """What a document says: {(heading, row, column): cell}, the rows of each heading."""
    cells, rows = {}, {}
    for heading, table in re.findall(r"^### (.*)\n\n((?:\|.*\n)+)", text, re.M):
        header, _, *lines = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()
        )
        rows[heading] = [line[0] for line in lines]
        cells.update(
            {
                (heading, line[0], name): cell
                for line in lines
                for name, cell in zip(header[1:], line[1:])
            }
        )
    return cells, rows


def version(package, directory):
    """The version of a Debian package that is installed, or unpacked in DIRECTORY."""
    if package == "me-only":
        return subprocess.run(
            [ME_ONLY, "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[1]
    try:
        with open(os.path.join(directory, package, "version"), encoding="ascii") as f:
            full = f.read().strip()
    except FileNotFoundError:
        full = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return re.sub(r"^\d+:|-[^-]*$|[+~]ds.*$", "", full)


def facts_of_this_machine(tools, directory):
    with open("/etc/os-release", encoding="utf-8") as f:
        system = re.search(r'^PRETTY_NAME="?([^"\n]*)', f.read(), re.M)[1]
    versions = {}
    for tool in tools:
        if tool.package not in versions:
            name = tool.package.replace("-sid", " of sid").replace("-trixie", " of trixie")
            versions[tool.package] = f"{name} {version(tool.package, directory)}"
    kernel = re.match(r"\d+\.\d+", platform.release())[0]
    return {
        "facts": wrapped(f"As root on {system}, Linux {kernel}: {', '.join(versions.values())}."),
        "etcd": version("etcd-server", directory),
    }


def experiment(place, tool, heading, name):
    tables = experiments.TABLES if place is Laboratory else fleet.TABLES
    try:
        with place(tool) as laboratory:
            return tables[heading][name](laboratory)
    except (Unexpected, OSError, ValueError, subprocess.SubprocessError) as error:
        return f"FAILED: {error!r}"


def all_results(tasks, shown):
    """{(heading, tool, column): cell}. What measures time comes last, and alone."""
    cells = {}
    for workers, alone in ((WORKERS, False), (1, True)):
        with concurrent.futures.ProcessPoolExecutor(workers) as pool:
            futures = {
                pool.submit(experiment, *task): task
                for task in tasks
                if (task[3] == ALONE) == alone
            }
            for future in concurrent.futures.as_completed(futures):
                _, tool, heading, name = futures[future]
                cells[heading, tool.name, name] = future.result()
                if shown:
                    print(f"{tool.name}: {name}: {future.result()}", flush=True)
    return cells


def check():
    """Compare the document with its form, and with the experiments that are quick."""
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    cells, rows = parse(text)
    facts = {"facts": r"As root on [^|#]+", "etcd": r"\S+"}
    names = rows[next(iter(experiments.TABLES))]
    fleet_names = rows[next(iter(fleet.TABLES))]
    try:
        pattern = re.escape(render({key: f"<{key}>" for key in facts}, names, cells, fleet_names))
    except KeyError as error:
        return [f"there is no cell for {error}"]
    for key, value in facts.items():
        pattern = pattern.replace(f"<{key}>", value)
    if not re.fullmatch(pattern, text):
        return ["its form is not that of scripts/compare"]
    tasks = [
        (Laboratory, tool, heading, name)
        for tool in TOOLS
        if tool.name in QUICK_TOOLS
        for heading, columns in experiments.TABLES.items()
        for name in columns
        if name in QUICK
    ]
    found = all_results(tasks, False)
    return [
        f"{tool}: {name}: {cells[heading, tool, name]} is now {cell}"
        for (heading, tool, name), cell in found.items()
        if cell != cells[heading, tool, name]
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--unpacked", required=True)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tool", action="append")
    parser.add_argument("--column", action="append")
    options = parser.parse_args()
    if options.check:
        wrong = check()
        for line in wrong:
            print(f"docs/comparison.md: {line}", file=sys.stderr)
        return 1 if wrong else 0

    tools = with_unpacked(os.path.join(options.unpacked, "util-linux-sid"))
    fleet_tools = fleet.tools(options.unpacked)
    tasks = [
        (place, tool, heading, name)
        for place, some, tables in (
            (Laboratory, tools, experiments.TABLES),
            (fleet.Fleet, fleet_tools, fleet.TABLES),
        )
        for heading, columns in tables.items()
        for name in columns
        for tool in some
        if (not options.tool or tool.name in options.tool)
        and (not options.column or name in options.column)
    ]
    cells = all_results(tasks, True)
    failed = [key for key, cell in cells.items() if cell.startswith("FAILED") or cell == "fails"]
    for key in failed:
        print(key, cells[key], file=sys.stderr)
    if not failed and not options.tool and not options.column:
        facts = facts_of_this_machine([*tools, *fleet_tools], options.unpacked)
        with open(DOCUMENT, "w", encoding="utf-8") as f:
            f.write(
                render(
                    facts, [tool.name for tool in tools], cells, [tool.name for tool in fleet_tools]
                )
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
