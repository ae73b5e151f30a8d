"""Wrong usage is found before the cluster is asked anything."""
import re

import pytest

WRONG = [
    (("-F", "etcd:x", "true"), r"-F is not for 'etcd:x': "),
    (("--replace", "etcd:x", "true"), r"--replace is not for 'etcd:x': "),
    (("--replace", "-w", "inf", "etcd:x", "true"), r"--replace is not for 'etcd:x': "),
    (("-F", "-o", "etcd:x", "true"), r""),
    (("--ttl", "5", "etcd:x", "true"), r"is not from 10s to 300s"),
    (("--ttl", "9.9", "etcd:x", "true"), r"is not from 10s to 300s"),
    (("--ttl", "301", "etcd:x", "true"), r"is not from 10s to 300s"),
    (("--ttl", "0", "etcd:x", "true"), r"is not from 10s to 300s"),
    (("--ttl", "inf", "etcd:x", "true"), r""),
    (("--ttl", "x", "etcd:x", "true"), r"'x'"),
    (("--ttl", "", "etcd:x", "true"), r"''"),
    (("--ttl", "-30", "etcd:x", "true"), r"'-30'"),
    (("--hold-for", "0", "etcd:x", "true"), r"is not more than 0 and at most 300s"),
    (("--hold-for", "301", "etcd:x", "true"), r"is not more than 0 and at most 300s"),
    (("--hold-for", "inf", "etcd:x", "true"), r""),
    (("-k", "16", "etcd:x", "true"), r"--kill-after is more than half of --ttl"),
    (("-k", "6", "--ttl", "10", "etcd:x", "true"), r"--kill-after is more than half of --ttl"),
    (("-k", "inf", "etcd:x", "true"), r""),
    (("etcd:", "true"), r""),
    (("etcd:x",), r""),
    (("--queue=1", "etcd:x", "true"), r"--queue is for those who wait"),
    (("-s", "-j2", "etcd:x", "true"), r"-s and -j contradict each other"),
    (("-j0", "etcd:x", "true"), r"'0'"),
    (("--held", "-s", "etcd:x"), r""),
    (("--held", "--ttl", "30", "etcd:x"), r""),
    (("--who", "--hold-for", "30", "etcd:x"), r""),
    (("--held", "etcd:x", "true"), r""),
    (("--ttl", "30", "x", "true"),
     r"--ttl is for fleet locks, such as etcd:NAME, not for 'x'"),
    (("--ttl", "30", "host:x", "true"), r"--ttl is for"),
    (("--ttl", "30", "file:/tmp/x", "true"), r"--ttl is for"),
    (("--hold-for", "30", "x", "true"),
     r"--hold-for is for fleet locks, such as etcd:NAME, not for 'x'"),
    (("--hold-for", "30", "file:/tmp/x", "true"), r"--hold-for is for"),
    (("-k", "3", "x", "true"), r"-k is for --replace, and for locks that can be lost"),
    (("etdc:x", "true"), r"host:etdc:x"),
]


@pytest.mark.parametrize("argv, message", WRONG, ids=[" ".join(argv) for argv, _ in WRONG])
def test_wrong_usage(callers, gateway, argv, message):
    r = callers(gateway).run(*argv)
    assert (r.returncode, r.stdout) == (2, b""), r
    text = r.stderr.decode()
    assert re.fullmatch(r"me-only: [^\n]+\n", text) and re.search(message, text), text
    assert gateway.requests == []


@pytest.mark.parametrize("argv", [("--ttl", "30"), ("--ttl", "10s", "-k", "5"), ("--ttl=5m",),
                                  ("--hold-for", "0.001"), ("-k", "15"), ("-k", "0"),
                                  ("-j1024",), ("-w", "1", "--queue=1024"), ("-s",), ("-o", "-s"),
                                  ("--exit-base=250",), ("-n",)], ids=" ".join)
def test_right_usage(callers, gateway, argv):
    r = callers(gateway).run(*argv, "etcd:x", "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_statuses_of_wrong_usage_can_be_shifted(callers, gateway):
    assert callers(gateway).run("--exit-base=90", "-F", "etcd:x", "true").returncode == 92


def test_a_host_lock_asks_no_cluster(callers, gateway):
    assert callers(gateway).run("host:etcd:x", "true").returncode == 0
    assert callers(gateway).run("/etcd:x", "true").returncode == 0
    assert gateway.requests == []
