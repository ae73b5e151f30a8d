"""The examples of stores that refuse an old token: examples/fenced-file.sh, fenced-sqlite.sh and fenced-etcd.sh.

Each is run with the real thing (flock, sqlite3, an etcd server), by a writer whose token is new and one whose token is old, one
after the other, one in the middle of the other, and both at once.
"""
import base64
import json
import os
import sqlite3
import stat
import subprocess
import uuid

import pytest

from conftest import DEADLINE, EXAMPLES, wait_for

WRITTEN, FAILED, USAGE, REFUSED = 0, 1, 2, 10
SCRIPTS = ["fenced-file.sh", "fenced-sqlite.sh", "fenced-etcd.sh"]
shells = pytest.mark.parametrize("shell", ["dash", "bash"])


def ended(p, data=None):
    out, err = p.communicate(data, timeout=DEADLINE)
    return p.returncode, out.decode(), err.decode()


def job(token, lock="etcd:job"):
    """The environment of a job under an etcd: lock."""
    return {**os.environ, "ME_ONLY_LOCK": lock, "ME_ONLY_TOKEN": str(token)}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_clean(name):
    path = os.path.join(EXAMPLES, name)
    assert os.stat(path).st_mode & stat.S_IXOTH
    p = subprocess.run(["shellcheck", path], capture_output=True, timeout=DEADLINE, text=True)
    assert (p.returncode, p.stdout) == (0, "")


@shells
@pytest.mark.parametrize("name", SCRIPTS)
def test_without_a_token(name, shell, start, tmp_path):
    """Not run under an etcd: lock: nothing is written, and the reason is said."""
    words = [os.path.join(EXAMPLES, name), tmp_path / "store", *(["value"] if name == "fenced-etcd.sh" else [])]
    for token in ("", "x", "-1", "1x"):
        status, _, err = ended(start(shell, *words, env={**job(token), "ETCD_LOCK_KEY": "job/1"}), b"")
        assert (status, err) == (USAGE, f"{name}: ME_ONLY_TOKEN has no token: run this under an etcd: lock\n")
    for wrong in ([shell, words[0]], [shell, *words, "more"]):
        status, _, err = ended(start(*wrong, env=job(1)), b"")
        assert status == USAGE and err.startswith(f"{name}: usage: {name} ")
    assert os.listdir(tmp_path) == []


# --- a file ---

class File:
    def __init__(self, directory, start, shell):
        self.path, self.start, self.shell = directory / "report.csv", start, shell

    def writer(self, token, **options):
        return self.start(self.shell, os.path.join(EXAMPLES, "fenced-file.sh"), self.path, env=job(token), **options)

    def write(self, token, data):
        return ended(self.writer(token), data)

    def left(self):
        return sorted(os.listdir(self.path.parent))

    def waiting(self):
        """How many wait for the lock."""
        inode = os.stat(f"{self.path}.lock").st_ino
        with open("/proc/locks") as f:
            return sum(" -> FLOCK " in line and f":{inode} " in line for line in f)


@pytest.fixture
def file(tmp_path, start, request):
    return File(tmp_path, start, getattr(request, "param", "dash"))


in_both_shells = pytest.mark.parametrize("file", ["dash", "bash"], indirect=True)


@in_both_shells
def test_file_takes_tokens_that_are_not_older(file):
    data = bytes(range(256)) * 500 + b"\n\n"
    for token in (5, 5, 9, 10, 123456789012345678):
        assert file.write(token, data + b"%d" % token) == (WRITTEN, "", "")
        assert file.path.read_bytes() == data + b"%d" % token
    assert file.left() == ["report.csv", "report.csv.lock", "report.csv.token"], "nothing else is left behind"


@in_both_shells
def test_file_refuses_an_older_token(file):
    assert file.write(10, b"new")[0] == WRITTEN
    for token in (9, 2, 0):
        assert file.write(token, b"old") == (REFUSED, "", f"fenced-file.sh: {file.path}: refused: token {token} is older than 10\n")
    assert file.path.read_bytes() == b"new" and file.left() == ["report.csv", "report.csv.lock", "report.csv.token"]


def test_file_refuses_a_token_that_grows_old_while_the_data_comes(file):
    """The one that is frozen in the middle of its work: it has begun before the other, and ends behind it."""
    late = file.writer(5)
    late.stdin.write(b"half ")
    late.stdin.flush()
    assert file.write(6, b"new")[0] == WRITTEN, "it need not wait for the slow one"
    status, _, err = ended(late, b"and the rest")
    assert (status, err) == (REFUSED, f"fenced-file.sh: {file.path}: refused: token 5 is older than 6\n")
    assert file.path.read_bytes() == b"new"


@pytest.mark.parametrize("old_first", [True, False])
def test_file_with_two_writers_in_a_race(file, old_first, start):
    """Both stand before the lock when it is let go: whoever comes first, the newer one's data are there in the end."""
    assert file.write(1, b"first")[0] == WRITTEN
    holder = start("flock", f"{file.path}.lock", "sh", "-c", "echo locked; exec cat")
    assert holder.stdout.readline() == b"locked\n"
    writers = {}
    for n, token in enumerate((5, 6) if old_first else (6, 5)):
        writers[token] = file.writer(token)
        writers[token].stdin.write(b"data of %d" % token)
        writers[token].stdin.close()
        writers[token].stdin = None
        wait_for(lambda n=n: file.waiting() == n + 1, "it waits for the lock")
    assert file.path.read_bytes() == b"first"
    holder.stdin.close()
    holder.stdin = None
    old, new = ended(writers[5]), ended(writers[6])
    assert new == (WRITTEN, "", "") and old[0] in (WRITTEN, REFUSED)
    assert old_first or old[0] == REFUSED, "the kernel serves who came first"
    assert file.path.read_bytes() == b"data of 6" and (file.path.parent / "report.csv.token").read_text() == "6\n"


def test_file_with_many_writers_in_a_race(file):
    """In any order: who was written had no newer one before him, and the newest is there in the end."""
    writers = {token: file.writer(token) for token in (3, 1, 8, 5, 2, 7, 4, 6)}
    for token, p in writers.items():
        p.stdin.write(b"data of %d" % token)
        p.stdin.close()
        p.stdin = None
    statuses = {token: ended(p)[0] for token, p in writers.items()}
    assert set(statuses.values()) <= {WRITTEN, REFUSED} and statuses[8] == WRITTEN
    assert file.path.read_bytes() == b"data of 8"


def test_file_after_a_writer_was_killed(file):
    """What a killed writer has left is neither read nor in the way."""
    assert file.write(4, b"before")[0] == WRITTEN
    (file.path.parent / "report.csv.new").write_bytes(b"a rest, longer than what comes")
    (file.path.parent / "report.csv.token.new").write_bytes(b"99")
    assert file.write(5, b"after") == (WRITTEN, "", "")
    assert file.path.read_bytes() == b"after" and file.left() == ["report.csv", "report.csv.lock", "report.csv.token"]


def test_file_keeps_its_mode(file):
    os.umask(0o027)
    try:
        assert file.write(1, b"x")[0] == WRITTEN and file.path.stat().st_mode & 0o777 == 0o640
        file.path.chmod(0o604)
        assert file.write(2, b"x")[0] == WRITTEN and file.path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(0o022)


def test_file_tells_failed_from_refused(file, start):
    (file.path.parent / "report.csv.token").write_text("")
    status, _, err = file.write(5, b"x")
    assert status == FAILED and err.endswith("report.csv.token: cannot be read, or is damaged\n") and not file.path.exists()
    elsewhere = start("dash", os.path.join(EXAMPLES, "fenced-file.sh"), file.path.parent / "missing" / "file", env=job(5))
    assert ended(elsewhere, b"x")[0] == FAILED
    assert ended(start("dash", os.path.join(EXAMPLES, "fenced-file.sh"), file.path.parent, env=job(5)), b"x")[0] == USAGE


# --- SQL ---

class Database:
    def __init__(self, directory, start, shell):
        self.path, self.start, self.shell = directory / "shop.db", start, shell
        self.ask("CREATE TABLE stock(name TEXT PRIMARY KEY, number INTEGER)")
        self.ask("INSERT INTO stock VALUES ('apples', 10), ('pears', 10)")

    def ask(self, sql):
        connection = sqlite3.connect(self.path, timeout=DEADLINE)
        try:
            with connection:
                return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def writer(self, token, lock="etcd:job"):
        return self.start(self.shell, os.path.join(EXAMPLES, "fenced-sqlite.sh"), self.path, env=job(token, lock))

    def write(self, token, sql, lock="etcd:job"):
        return ended(self.writer(token, lock), sql.encode())

    def stock(self):
        return dict(self.ask("SELECT name, number FROM stock"))


@pytest.fixture
def database(tmp_path, start, request):
    return Database(tmp_path, start, getattr(request, "param", "dash"))


MOVE = "UPDATE stock SET number = number - 1 WHERE name = 'apples'; UPDATE stock SET number = number + 1 WHERE name = 'pears';"


@pytest.mark.parametrize("database", ["dash", "bash"], indirect=True)
def test_database(database):
    for token in (5, 5, 9, 10):
        assert database.write(token, MOVE) == (WRITTEN, "", "")
    assert database.stock() == {"apples": 6, "pears": 14}
    status, out, err = database.write(9, MOVE)
    assert (status, out) == (REFUSED, "")
    assert err.endswith(f"fenced-sqlite.sh: {database.path}: refused: token 9 is older than 10\n")
    assert database.stock() == {"apples": 6, "pears": 14}
    assert database.ask("SELECT lock, token FROM me_only_fence") == [("etcd:job", 10)]


def test_database_has_a_fence_for_each_lock(database):
    names = ["etcd:job", "etcd:other's; DROP TABLE stock; --", 'etcd:"x"\nSELECT 1;', "etcd:\u00fc"]
    for n, name in enumerate(names):
        assert database.write(10 - n, MOVE, lock=name) == (WRITTEN, "", "")
        assert database.write(9 - n, MOVE, lock=name)[0] == REFUSED
    assert database.stock() == {"apples": 6, "pears": 14}
    assert database.ask("SELECT lock, token FROM me_only_fence ORDER BY token") == [(name, 10 - n) for n, name in enumerate(names)][::-1]


def test_database_answers(database):
    status, out, err = database.write(3, "SELECT number FROM stock ORDER BY name;\nSELECT 'ready'")
    assert (status, out, err) == (WRITTEN, "10\n10\nready\n", "")


@pytest.mark.parametrize("sql", [
    MOVE + "INSERT INTO stock VALUES ('apples', 1);",  # breaks a rule
    MOVE + "UPDATE stock SET number = 1 WHERE name = 'app",  # breaks off
    MOVE + "SELECT * FROM missing;",
])
def test_database_when_the_sql_fails(database, sql):
    """All is undone, the token too: the next one with an older token is not kept out by one that has changed nothing."""
    assert database.write(5, MOVE)[0] == WRITTEN
    status, _, err = database.write(9, sql)
    assert status == FAILED and err.endswith(f"fenced-sqlite.sh: {database.path}: failed\n")
    assert database.stock() == {"apples": 9, "pears": 11} and database.ask("SELECT token FROM me_only_fence") == [(5,)]


def test_database_refuses_a_token_that_grows_old_while_the_sql_comes(database):
    late = database.writer(5)
    late.stdin.write(b"UPDATE stock SET number = 0;")
    late.stdin.flush()
    assert database.write(6, MOVE)[0] == WRITTEN, "it need not wait for the slow one"
    status, _, err = ended(late, b"SELECT 1;")
    assert status == REFUSED and err.endswith("refused: token 5 is older than 6\n")
    assert database.stock() == {"apples": 9, "pears": 11}


def test_database_with_writers_in_a_race(database):
    """All stand before the database when it is let go. The last one that was let in is the newest."""
    assert database.write(1, "CREATE TABLE log(token INTEGER, n INTEGER PRIMARY KEY AUTOINCREMENT);")[0] == WRITTEN
    holder = sqlite3.connect(database.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    writers = {token: database.writer(token) for token in (5, 6, 3, 4)}
    for token, p in writers.items():
        p.stdin.write(b"INSERT INTO log(token) VALUES (%d); UPDATE stock SET number = %d;" % (token, token))
        p.stdin.close()
        p.stdin = None
    wait_for(lambda: all(waits_for_database(p.pid) for p in writers.values()), "all four are at the database")
    holder.execute("ROLLBACK")
    holder.close()
    statuses = {token: ended(p)[0] for token, p in writers.items()}
    assert set(statuses.values()) <= {WRITTEN, REFUSED} and statuses[6] == WRITTEN
    log = [token for token, in database.ask("SELECT token FROM log ORDER BY n")]
    assert log == sorted(log) and set(log) == {token for token in statuses if statuses[token] == WRITTEN}
    assert database.stock() == {"apples": 6, "pears": 6}


def waits_for_database(shell):
    """Whether the shell has started a sqlite3."""
    try:
        with open(f"/proc/{shell}/task/{shell}/children") as f:
            for pid in f.read().split():
                with open(f"/proc/{pid}/comm") as name:
                    if name.read() == "sqlite3\n":
                        return True
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


# --- etcd ---

class Lock:
    """The key of a lock as me-only has it: below NAME/, with a lease. The token is the revision of its last write."""

    def __init__(self, etcd, name):
        self.etcd = etcd
        self.lease = etcd.run("lease", "grant", "300").stdout.split()[1]
        self.key = f"{name}/{self.lease}"
        self.put("waits")
        self.token = self.put("has it")

    def put(self, value):
        return json.loads(self.etcd.run("put", self.key, value, f"--lease={self.lease}", "-w", "json").stdout)["header"]["revision"]

    def lose(self):
        """The lease ends. Returns the revision at which the key has gone."""
        self.etcd.run("lease", "revoke", self.lease)
        return json.loads(self.etcd.run("get", "x", "-w", "json").stdout)["header"]["revision"]


class Key:
    """A key of a test's own, in a lock's name of its own."""

    def __init__(self, etcd, start, shell):
        self.etcd, self.start, self.shell = etcd, start, shell
        self.name = f"test-{uuid.uuid4().hex}"
        self.key = f"{self.name}-value"

    def lock(self):
        return Lock(self.etcd, self.name)

    def writer(self, lock, value, key=None, **env):
        return self.start(self.shell, os.path.join(EXAMPLES, "fenced-etcd.sh"), key or self.key, value, stdin=subprocess.DEVNULL,
                          env={**self.etcd.environment(), "ME_ONLY_TOKEN": str(lock.token), "ETCD_LOCK_KEY": lock.key, **env})

    def write(self, lock, value, key=None, **env):
        return ended(self.writer(lock, value, key, **env))

    def value(self, key=None):
        """Its value, and the revision at which it was written; None if it is not there."""
        kvs = json.loads(self.etcd.run("get", "-w", "json", "--", key or self.key).stdout).get("kvs")
        return (base64.b64decode(kvs[0].get("value", "")).decode(), kvs[0]["mod_revision"]) if kvs else None


@pytest.fixture
def key(etcd, start, request):
    return Key(etcd, start, getattr(request, "param", "dash"))


@pytest.mark.parametrize("key", ["dash", "bash"], indirect=True)
def test_etcd(key):
    lock = key.lock()
    for value in ("one", "two"):
        assert key.write(lock, value) == (WRITTEN, "", "")
        assert key.value()[0] == value
    lock.lose()
    refused = (REFUSED, "", f"fenced-etcd.sh: {key.key}: refused: the lock with token {lock.token} is lost\n")
    assert key.write(lock, "three") == refused and key.value()[0] == "two"
    successor = key.lock()
    assert successor.token > lock.token
    assert key.write(lock, "three") == refused, "another one's lock is not ours"
    assert key.write(successor, "four") == (WRITTEN, "", "")
    assert key.write(lock, "five") == refused and key.value()[0] == "four"


def test_etcd_when_the_lock_has_been_written_again(key):
    """As by --hold-for, when the job has ended: a rest of it, with the token of the job, is refused."""
    lock = key.lock()
    lock.put("kept")
    assert key.write(lock, "late")[0] == REFUSED and key.value() is None


VALUES = ["", " ", "two\nlines", "ends\n", "\n\n", '"quoted" \'single\'', "back\\slash\\n", "--rev=1", "-", "\u00fc\u20ac", "tab\there",
          "$(id) `id` $HOME", "END", "x" * 5000]


@pytest.mark.parametrize("key", ["dash", "bash"], indirect=True)
def test_etcd_keeps_every_value(key):
    lock = key.lock()
    for value in VALUES:
        assert key.write(lock, value) == (WRITTEN, "", ""), repr(value)
        assert key.value()[0] == value


def test_etcd_with_strange_keys(key):
    key.name += " \"it's\" \\ $HOME"
    lock = key.lock()
    for k in (f"-k{key.name}", f"{key.name}\nnext"):
        assert key.write(lock, "value", key=k) == (WRITTEN, "", "") and key.value(k)[0] == "value"


def test_etcd_in_a_race_with_the_end_of_the_lease(key):
    """A write is there only if it was before the end, and whoever is told "written" was."""
    seen = set()
    for n in range(12):
        lock = key.lock()
        p = key.writer(lock, f"value {n}")
        if n % 3 == 0:
            wait_for(lambda n=n, p=p: p.poll() is not None or (key.value() or ("",))[0] == f"value {n}", "it was written")
        elif n % 3 == 1:
            lock.lose()
        gone = lock.lose() if n % 3 != 1 else json.loads(key.etcd.run("get", "x", "-w", "json").stdout)["header"]["revision"]
        status, _, err = ended(p)
        seen.add(status)
        assert status in (WRITTEN, REFUSED), err
        found = key.value()
        assert (status == WRITTEN) == (found is not None and found[0] == f"value {n}")
        assert status == REFUSED or found[1] < gone
    assert WRITTEN in seen


def test_etcd_with_two_writers_in_a_race(key):
    """The old holder and the new one write at once: the new one's value is there in the end."""
    for n in range(4):
        old = key.lock()
        late = [key.writer(old, f"old {n}") for _ in range(2)]
        old.lose()
        new = key.lock()
        late += [key.writer(old, f"old {n}") for _ in range(2)]
        assert key.write(new, f"new {n}") == (WRITTEN, "", "")
        statuses = [ended(p)[0] for p in late]
        assert set(statuses) <= {WRITTEN, REFUSED} and statuses[2:] == [REFUSED] * 2
        assert key.value()[0] == f"new {n}"


def test_etcd_tells_failed_from_refused(key):
    lock = key.lock()
    status, out, err = key.write(lock, "value", ETCDCTL_ENDPOINTS="127.0.0.1:1")
    assert (status, out) == (FAILED, "") and err.endswith(f"fenced-etcd.sh: {key.key}: etcd has not confirmed the write\n")
    assert key.value() is None
    status, _, err = key.write(lock, "value", ETCD_LOCK_KEY="")
    assert status == USAGE and "ETCD_LOCK_KEY has no key" in err
