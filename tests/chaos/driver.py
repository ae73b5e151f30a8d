"""scripts/chaos: me-only on a cluster of three etcd members while everything goes wrong, and a judgement of what came of it."""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import checker
import namespace
import selftest
from faults import KINDS
from world import Trial, World, table

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NEEDED = ("etcd", "nft", "strace", "ip", "mount")
CHECK_SECONDS = 100  # of faults in the bounded run


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run jobs under etcd: locks of a cluster of three real members while members and clients are killed,\n"
                    "stopped, frozen and cut off, then judge by the jobs' own ticks and a fenced register whether the locks\n"
                    "were kept.\n"
                    "Needs root. Everything runs in namespaces of its own and leaves nothing behind.",
        epilog="faults:\n" + textwrap.fill(", ".join(KINDS), 100, break_on_hyphens=False) + "\n\n"
               "exit status: 0 if all was as it must be, 1 if not, 2 if it could not be tried.\n"
               "environment: ME_ONLY_BUILD is the build directory (build). SIGINT and SIGTERM end the faults early.")
    parser.add_argument("--seconds", type=float,
                        help=f"how long faults happen (300; --check: {CHECK_SECONDS})")
    parser.add_argument("--seed", type=int, help="what happens to whom, as far as time allows (random)")
    parser.add_argument("--rule", choices=("me-only", "right", "naive", "receive"), default="me-only",
                        help="the program, or a model of a client: the right rule, or one of two bad ones (me-only)")
    parser.add_argument("--ttl", type=int, default=10, help="lifetime of the leases in seconds (10)")
    parser.add_argument("--kill-after", type=int, default=2, help="seconds from SIGTERM to SIGKILL (2)")
    parser.add_argument("--auth-token-ttl", type=int, metavar="N",
                        help="users and passwords, with tokens that live for N seconds (0: none; --check: 2)")
    parser.add_argument("--faults", metavar="KIND,...", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--short-jobs", action="store_true", help="many short jobs: it is the hand-overs that are hit")
    parser.add_argument("--keep", metavar="DIRECTORY", help="copy all logs there")
    parser.add_argument("--scenes", action="store_true", help="only what --check does before the faults")
    parser.add_argument("--check", action="store_true",
                        help=f"the bounded run for test suites: the checker, the models, all faults")
    options = parser.parse_args(arguments)
    unknown = set(options.faults or ()) - set(KINDS)
    if unknown:
        parser.error("no such fault: " + ", ".join(sorted(unknown)))
    if options.seed is None:
        options.seed = random.randrange(1 << 32)
    if options.seconds is None:
        options.seconds = CHECK_SECONDS if options.check else 300
    if options.auth_token_ttl is None:
        options.auth_token_ttl = 2 if options.check else 0
    if options.keep:
        options.keep = os.path.abspath(options.keep)
    return options


def lacking(build, rule):
    """Why it cannot be tried here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for name in NEEDED:
        if not shutil.which(name):
            return f"{name} is not installed"
    files = ["tests/chaos/chaos-job"] + ["me-only", "libexec/me-only/etcd"] * (rule == "me-only")
    for name in files:
        if not os.path.exists(os.path.join(build, name)):
            return f"{os.path.join(build, name)} is not built"
    return None


def install(build, rule, directory):
    """Copies of what is run, where every user reaches them, whatever is built meanwhile."""
    shutil.copy(os.path.join(build, "tests/chaos/chaos-job"), directory)
    if rule == "me-only":
        os.makedirs(os.path.join(directory, "libexec/me-only"))
        shutil.copy(os.path.join(build, "me-only"), directory)
        shutil.copy(os.path.join(build, "libexec/me-only/etcd"), os.path.join(directory, "libexec/me-only"))


class Count:
    """Tests as they pass and fail."""

    def __init__(self):
        self.passed = self.failed = 0
        self.mutex = threading.Lock()

    def __call__(self, name, good, why=""):
        with self.mutex:
            print(f"  {'ok     ' if good else 'FAILED '} {name}", flush=True)
            if good:
                self.passed += 1
            else:
                self.failed += 1
                print("\n".join("    | " + line for line in why.splitlines()), flush=True)


def suffer(world, options, **more):
    """The run itself: returns its history and what was wrong."""
    trial = Trial(world, options.rule, options.seed, options.ttl, options.kill_after, quiet=options.check)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: trial.faults_end.set())
    trial.short_jobs = options.short_jobs
    trial.contend()
    try:
        trial.afflict(options.seconds, options.faults, **more)
        trial.settle()
    finally:
        history = trial.collect()
        if options.keep:
            trial.keep(options.keep)
    return history, checker.check(history)


def chaos(options, directory):
    """As long as asked."""
    print(f"seed {options.seed}, rule {options.rule}, lifetime {options.ttl} s, {options.seconds:g} s of faults", flush=True)
    history, violations = suffer(World(directory, options.auth_token_ttl), options)
    if violations:
        print("\nVIOLATIONS\n" + checker.describe_all(history, violations))
    table(history, violations)
    return 1 if violations else 0


def check(options, directory):
    """The bounded run: everything is a test that passes or fails."""
    count = Count()
    unit = subprocess.run([sys.executable, "-B", "-m", "unittest", "discover", "-s", HERE], capture_output=True, text=True)
    count("the checker on logs made by hand, and the network", unit.returncode == 0, unit.stdout + unit.stderr)
    world = World(directory, options.auth_token_ttl)
    selftest.run(world, count, options.rule == "me-only")
    if options.check:
        check_faults(world, options, count)
    print(f"{count.passed} passed, {count.failed} failed", flush=True)
    return 1 if count.failed else 0


def check_faults(world, options, count):
    """Each property of the run is a test."""
    print(f"  {options.seconds:g} s of faults, seed {options.seed}", flush=True)
    history, violations = suffer(world, options, calm=2, in_order=0.5)
    for judge in checker.PROPERTIES:
        wrong = [v for v in violations if v.property == judge.__name__]
        count(judge.__name__, not wrong, checker.describe_all(history, wrong))
    table(history, violations)


def main():
    options = parse(sys.argv[1:])
    build = os.path.abspath(os.environ.get("ME_ONLY_BUILD", os.path.join(ROOT, "build")))
    why = lacking(build, options.rule)
    if why:
        print("scripts/chaos: " + why, file=sys.stderr)
        return 2
    point = namespace.mount_point(build, ROOT, options.keep or "/")

    def inside():
        install(build, options.rule, point)
        return (check if options.check or options.scenes else chaos)(options, point)

    return namespace.run_inside(inside, point)


if __name__ == "__main__":
    sys.exit(main())
