#!/bin/sh
# Write VALUE to KEY in the same etcd, unless the lock under which this runs has been lost:
#
#     me-only etcd:locks/leader fenced-etcd.sh config/leader "$(hostname)"
#
# One transaction checks the lock's own key and writes KEY. The lock's key must exist, unchanged
# since the lock was taken: its last change (mod revision) is the token. If the lease has ended, the
# key is gone, and the current holder has another key. So no write of a job that has lost its lock
# can follow a write of its successor. Checking only that the lock is held would not be enough. KEY
# needs no token of its own.
#
# Endpoints and certificates come from the ETCDCTL_ variables, as for etcdctl. User name and
# password do not: me-only removes them from the job's environment, so the job needs its own. Under
# "etcdctl lock" the comparison would have to be create("$ETCD_LOCK_KEY") > "0": its ETCD_LOCK_REV
# is not the revision of a write.
#
# status: 0 written, 10 refused (the lock is lost), 1 failed (KEY may have been written or not),
# 2 wrong usage
set -u

fail() {
    echo "fenced-etcd.sh: $2" >&2
    exit "$1"
}

# A string as etcdctl reads it: between double quotes it decodes \n, \" and \\.
quoted() {
    printf '"%s"' "$(printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; $!s/$/\\n/' | tr -d '\n')"
}

if [ $# -ne 2 ] || [ -z "$1" ]; then fail 2 "usage: fenced-etcd.sh KEY VALUE"; fi
[ -n "${ETCD_LOCK_KEY-}" ] || fail 2 "ETCD_LOCK_KEY has no key: run this under an etcd: lock"
case ${ME_ONLY_TOKEN-} in
    '' | *[!0-9]*) fail 2 "ME_ONLY_TOKEN has no token: run this under an etcd: lock" ;;
esac

# Three parts, each followed by an empty line: the comparison, what to do if it holds, what to do
# otherwise. "etcdctl txn" has no time limit: without timeout(1) it waits for a server for ever.
answer=$(timeout 10 etcdctl txn <<END
mod($(quoted "$ETCD_LOCK_KEY")) = "$ME_ONLY_TOKEN"

put -- $(quoted "$1") $(quoted "$2")


END
) || fail 1 "$1: etcd has not confirmed the write"

case $answer in
    SUCCESS*) ;;
    FAILURE*) fail 10 "$1: refused: the lock with token $ME_ONLY_TOKEN is lost" ;;
    *) fail 1 "$1: etcdctl said: $answer" ;;
esac
