"""
The recipes of docs/recipes.md with the real programs that start jobs (cron, git, make, xargs), and
with the parser of Prometheus, which watches them.
"""
import email
import json
import os
import re
import select
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import DEADLINE, ROOT, children_of, forms, is_listed, program, queue_of, wait_for, \
    waiters_of
# "place" is a fixture.
from test_documents import JOB, ended, place, read, recipe


def direct(pid):
    """The living children of PID, without their own."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [kid for kid in map(int, f.read().split()) if kid in children_of(pid)]


# --- cron ---

# Becomes cron with the crontabs in $0, and nothing else of this host's cron. Mail goes to
# $0/sbin/sendmail.
CRON = """
set -e
mount -t tmpfs tmpfs /run
mount --bind "$0/crontabs" /var/spool/cron/crontabs
mount --bind "$0/cron.d" /etc/cron.d
mount --bind "$0/crontab" /etc/crontab
mount --bind "$0/pam" /etc/pam.d/cron
mount --bind "$0/sbin" /usr/sbin
LD_PRELOAD=$1 exec cron -f -L 0
"""

MAILER = """#!/bin/sh
cat >"{0}/new.$$" && mv "{0}/new.$$" "{0}/mail.$$"
"""


class Cron:
    """Debian's cron, in its own mount namespace. A minute passes when the test lets it."""

    def __init__(self, place, of_root, of_system):
        self.path = place.path / "cron"
        for name in ("crontabs", "cron.d", "sbin", "mail"):
            (self.path / name).mkdir(parents=True)
        pam = "account required pam_permit.so\nsession required pam_permit.so\n"
        for name, text in (("crontabs/root", of_root), ("cron.d/test", of_system), ("crontab", ""),
                           ("pam", pam), ("sbin/sendmail", MAILER.format(self.path / "mail"))):
            (self.path / name).write_text(text)
            (self.path / name).chmod(0o700 if name == "sbin/sendmail" else 0o600)
        shutil.copy("/usr/sbin/cron", self.path / "sbin")
        self.process = place.start("unshare", "--mount", "sh", "-c", CRON, self.path,
                                   program("minutes.so"), stdin=subprocess.PIPE,
                                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TZ": "UTC"})
        self.has_started_all()

    def has_started_all(self):
        """All jobs of this minute: cron sleeps again."""
        assert select.select([self.process.stdout], [], [], DEADLINE)[0]
        assert os.read(self.process.stdout.fileno(), 1), self.process.stderr.read()

    def minutes(self, count):
        for _ in range(count):
            self.process.stdin.write(b"\0")
            self.process.stdin.flush()
            self.has_started_all()

    def jobs(self):
        """How many jobs it waits for, to mail their output."""
        return len(direct(self.process.pid))

    def mails(self):
        return [email.message_from_bytes(path.read_bytes())
                for path in (self.path / "mail").glob("mail.*")]


@pytest.mark.root
def test_cron_mails_the_skip_and_only_it(place):
    """Four jobs that overlap themselves; one of them is to report it."""
    variables = f"LOG={place.log}\nBLOCK={place.block}\n"

    def line(text, name):
        ours = place.ours(text, "/tmp/sync").replace("me-only ", f"{place.bin}/me-only ", 1) \
            if "bin/me-only" not in text else place.ours(text, "/tmp/sync")
        assert ours.startswith("*/5 * * * * ") and ours.count("--full") == 1
        return ours.replace(place.lock, f"{place.lock}/{name}").replace("--full", name)

    cron = recipe("cron")
    example = read("examples", "cron.d")
    of_system = example[:example.index("*/5 ")] + variables \
        + line(example[example.index("*/5 "):], "system")
    p = Cron(place, variables + line(cron, "quiet") + line(recipe("cron-hang"), "hang")
             + line(cron.replace(" -q ", " "), "loud"), of_system)
    place.block.touch()
    p.minutes(5)
    names = ["hang", "loud", "quiet", "system"]
    begun = [f"sync.sh {name}: begin" for name in names]
    wait_for(lambda: sorted(place.lines()) == begun, "four jobs run")
    p.minutes(5)
    wait_for(lambda: p.jobs() == 4, "the second run of each is over")
    place.block.unlink()
    wait_for(lambda: p.jobs() == 0, "the first run of each is over")
    p.minutes(5)
    wait_for(lambda: p.jobs() == 0, "the third run of each is over")
    assert sorted(place.lines()) == sorted(
        2 * (begun + [line.replace("begin", "end") for line in begun]))
    mail, = p.mails()
    assert mail["To"] == "root"
    assert re.fullmatch(rf"me-only: {place.lock}/loud: held by pid \d+ \(root\) for \S+: "
                        rf"/bin/sh {place.bin}/sync.sh loud\n",
                        mail.get_payload(decode=True).decode())


# --- git ---

def git(place, *words, **kw):
    env = {**place.env, "HOME": str(place.path), "GIT_CONFIG_NOSYSTEM": "1",
           "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b", "GIT_TERMINAL_PROMPT": "0"}
    return place.start("git", *words, env=env, **kw)


DEPLOY = """#!/bin/sh
set -e
git -C {0} pull -q --ff-only
echo "deployed $(git -C {0} log -1 --format=%s)"
while [ -e "$BLOCK" ]; do sleep 0.01; done
"""


def test_a_git_hook(place):
    """Three pushes at a time cause two deployments, of which the second has everything."""
    (place.bin / "git").unlink()
    server, shop = place.path / "server", place.path / "shop"
    hook = place.ours(recipe("git-hook"), "/srv/shop")
    assert hook.startswith("#!/bin/sh\n# hooks/post-receive,")
    place.program("deploy.sh", DEPLOY.format(shop))
    (place.path / ".gitconfig").write_text("[init]\ndefaultBranch = main\n[gc]\nauto = 0\n")
    assert ended(git(place, "init", "-q", "--bare", str(server)))[0] == 0
    (server / "hooks" / "post-receive").write_text(hook)
    (server / "hooks" / "post-receive").chmod(0o755)

    def push(name, *more):
        assert ended(git(place, "-C", str(work), "commit", "-q", "--allow-empty", "-m", name)) \
            == (0, "", "")
        return git(place, "-C", str(work), "push", "-q", *more, "origin", "main")

    work = place.path / "work"
    assert ended(git(place, "clone", "-q", str(server), str(work)))[0] == 0
    (server / "hooks" / "post-receive").rename(place.path / "hook")
    assert ended(push("start"))[0] == 0
    (place.path / "hook").rename(server / "hooks" / "post-receive")
    assert ended(git(place, "clone", "-q", str(server), str(shop)))[0] == 0

    place.block.touch()
    first = push("first")
    # git pads what the other side prints, to erase what the line showed before.
    assert first.stderr.readline().rstrip() == b"remote: deployed first"
    second = push("second")
    wait_for(lambda: is_listed(queue_of(place.lock)), "the second one waits")
    assert ended(push("third")) == (0, "", "")
    place.block.unlink()
    assert ended(first)[0] == 0
    status, out, err = ended(second)
    assert (status, out) == (0, "") and err.rstrip() == "remote: deployed third"


# --- make and xargs ---

def waiters_listed(run, lock):
    """As me-only reports them: how many sockets they have depends on the order they came in."""
    rows = json.loads(run("--list", "--json").stdout)["locks"]
    return sum(row["waiters"] for row in rows if row["lock"] == lock)


def test_make_runs_jobs_in_parallel_and_one_under_the_lock(place, run):
    (place.bin / "make").unlink()
    text = place.ours(recipe("make"), " link ").replace(place.lock, f" {place.lock} ")
    (place.path / "Makefile").write_text(text)
    for name in "abcd":
        (place.path / f"{name}.o").touch()
    place.block.touch()
    p = place.start("make", "-j4", "CC=job", "a.bin", "b.bin", "c.bin", "d.bin", env=place.env,
                    cwd=place.path)
    wait_for(lambda: waiters_listed(run, place.lock) == 3, "one links and three wait")
    place.running()
    assert len(place.lines()) == 1
    place.block.unlink()
    status, _, err = ended(p)
    assert (status, err) == (0, "")
    lines = place.lines()
    assert len(lines) == 8
    assert all(end == begin.replace("begin", "end") for begin, end in zip(lines[::2], lines[1::2]))


# Each of two jobs waits until the other one runs.
BOTH = """
all: x y
x y:
	@touch $@.runs
	@while [ ! -e x.runs ] || [ ! -e y.runs ]; do sleep 0.01; done
"""


@forms
def test_a_make_under_a_lock_shares_the_slots_of_the_one_above(place, form):
    (place.bin / "make").unlink()
    text = place.ours(recipe("make"), "$(CURDIR)/vendor").replace("me-only ", "me-only $(FORM) ")
    (place.path / "Makefile").write_text(text)
    (place.path / "vendor").mkdir()
    (place.path / "vendor" / "Makefile").write_text(BOTH)
    p = place.start("make", "-j2", "FORM=" + " ".join(form), "vendor", env=place.env,
                    cwd=place.path)
    status, _, err = ended(p)
    assert (status, err) == (0, ""), "a make that has lost the slots warns, and runs one job"


def test_xargs(place):
    text = place.ours(recipe("xargs")).replace("fetch/", f"{place.lock}/")
    assert " -q -E 0 " in text and "-P8 " in text
    place.program("fetch.sh", JOB)
    hosts = place.path / "hosts"
    hosts.write_text("a\nb\na\nc\n")
    place.block.touch()
    p = place.shell("sh", f"cd {place.path}; exec {text}")
    wait_for(lambda: len(place.lines()) == 3, "three run")
    wait_for(lambda: len(direct(p.pid)) == 3, "one is skipped")
    place.block.unlink()
    assert ended(p) == (0, "", "")
    names = [f"fetch.sh {name}: {what}" for name in "abc" for what in ("begin", "end")]
    assert sorted(place.lines()) == names
    # The other forms that the document mentions.
    place.block.touch()
    p = place.shell("sh", f"cd {place.path}; exec {text.replace(' -q -E 0 ', ' -q ')}")
    wait_for(lambda: len(place.lines()) == 9, "three run")
    wait_for(lambda: len(direct(p.pid)) == 3, "one is skipped")
    place.block.unlink()
    assert ended(p)[0] == 123
    place.log.write_text("")
    p = place.shell("sh", f"cd {place.path}; exec {text.replace(' -q -E 0 ', ' -q -w inf ')}")
    assert ended(p) == (0, "", "")
    assert place.lines().count("fetch.sh a: begin") == 2


# --- Prometheus ---

def metrics(text):
    """{(NAME, LABELS): VALUE}, as Prometheus reads it; no sample is there twice."""
    samples = [(sample.name, tuple(sorted(sample.labels.items())), sample.value)
               for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(name, labels): value for name, labels, value in samples}
    assert len(found) == len(samples)
    return found


def age(lock, slot=0):
    return "me_only_lock_age_seconds", (("lock", lock), ("slot", str(slot)))


def waiting(lock):
    return "me_only_lock_waiters", (("lock", lock),)


def test_metrics_of_locks_that_are_held(place, hold, me_only):
    directory = place.path / "node-exporter"
    directory.mkdir()
    os.symlink(os.path.join(ROOT, "examples", "prometheus.py"), place.bin / "prometheus.py")
    text = place.ours(recipe("prometheus"))
    assert "/var/lib/prometheus/node-exporter\n" in text
    text = text.replace("/var/lib/prometheus/node-exporter", str(directory))
    strange = place.lock + '"\\ {},='
    slots = place.lock + "/slots"
    hold(place.lock)
    hold(strange)
    hold(slots, "-j3")
    hold(slots, "-j3")
    me_only("-w", "inf", place.lock, "true")
    wait_for(lambda: waiters_of(place.lock) == 1, "one waits")
    assert ended(place.shell("dash", text)) == (0, "", "")
    assert os.listdir(directory) == ["locks.prom"]
    found = metrics((directory / "locks.prom").read_text())
    ours = {(name, labels): value for (name, labels), value in found.items()
            if dict(labels)["lock"].startswith(place.lock)}
    # As me-only itself escapes it.
    strange = strange.replace("\\", "\\\\")
    assert set(ours) == {age(place.lock), age(strange), age(slots), age(slots, 1),
                         waiting(place.lock), waiting(strange), waiting(slots)}
    assert {key: value for key, value in ours.items() if key[0] == "me_only_lock_waiters"} == \
        {waiting(place.lock): 1, waiting(strange): 0, waiting(slots): 0}
    assert all(0 <= ours[key] < 3600 for key in ours)


def test_no_metrics_without_a_list(place):
    """A file that is not replaced gets old, and that is noticed. An empty one would mean that all
    locks are free."""
    os.symlink(os.path.join(ROOT, "examples", "prometheus.py"), place.bin / "prometheus.py")
    (place.bin / "me-only").unlink()
    place.program("me-only", "#!/bin/sh\nexit 3\n")
    (place.path / "locks.prom").write_text("old\n")
    text = place.ours(recipe("prometheus"))
    text = text.replace("/var/lib/prometheus/node-exporter", str(place.path))
    assert ended(place.shell("dash", text))[0] == 1
    assert (place.path / "locks.prom").read_text() == "old\n"


def test_metrics_of_hidden_and_of_fleet_locks(place):
    def row(lock, role, slot=0, seconds=None, waiters=None):
        return {"lock": lock, "role": role, "slot": slot, "age": seconds, "waiters": waiters}

    locks = [row("a", None, None), row("etcd:b", "wrapper", 0, 5.5, 1),
             row("etcd:b", "wrapper", 0, 7.5, 1), row("etcd:b", "waiter", None, 9),
             row("c\n", "job", 2, 3.5, 4)]
    p = place.start("/usr/bin/python3", os.path.join(ROOT, "examples", "prometheus.py"),
                    stdin=subprocess.PIPE)
    out, err = p.communicate(json.dumps({"version": 1, "locks": locks}).encode(), timeout=DEADLINE)
    assert (p.returncode, err) == (0, b"")
    assert metrics(out.decode()) == {age("etcd:b"): 7.5, age("c\n", 2): 3.5, waiting("a"): 0,
                                     waiting("etcd:b"): 1, waiting("c\n"): 4}
