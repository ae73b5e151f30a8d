#!/bin/sh
# Writes VALUE to KEY of the same etcd, unless the lock under which this runs has been lost:
#
#     me-only etcd:locks/leader fenced-etcd.sh config/leader "$(hostname)"
#
# One transaction asks for the lock's own key and writes KEY. The lock's key must be there and must be as it was when the lock
# was taken: its last change (mod revision) is the token. If the lease has ended the key is gone, and whoever has the lock now
# has another key. So no write of a job that has lost its lock can come behind one of its successor. It is not enough to ask
# whether the lock is held at all, and KEY needs no token of its own.
#
# Endpoints and certificates are those of etcdctl, from the ETCDCTL_ variables. The user's name and password are not: me-only
# takes them out of the job's environment, so the job needs its own.
# Under "etcdctl lock" the comparison would have to be create("$ETCD_LOCK_KEY") > "0": its number is not that of a write.
#
# status: 0 written, 10 refused (the lock is lost), 1 failed (it cannot be known whether KEY was written), 2 wrong usage
set -u

fail() {
    echo "fenced-etcd.sh: $2" >&2
    exit "$1"
}

# A string as etcdctl reads it: it undoes \n, \" and \\ between double quotes.
quoted() {
    printf '"%s"' "$(printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; $!s/$/\\n/' | tr -d '\n')"
}

if [ $# -ne 2 ] || [ -z "$1" ]; then fail 2 "usage: fenced-etcd.sh KEY VALUE"; fi
[ -n "${ETCD_LOCK_KEY-}" ] || fail 2 "ETCD_LOCK_KEY has no key: run this under an etcd: lock"
case ${ME_ONLY_TOKEN-} in '' | *[!0-9]*) fail 2 "ME_ONLY_TOKEN has no token: run this under an etcd: lock" ;; esac

# Three parts with an empty line behind each: what must be true, what is done then, what is done otherwise.
# "etcdctl txn" heeds no limit of its own: without timeout(1) it waits for a server for ever.
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
