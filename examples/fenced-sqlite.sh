#!/bin/sh
# Run the SQL on standard input as one transaction, unless DATABASE has seen a newer token of the
# same lock:
#
#     me-only etcd:billing sh -c 'make-bills | fenced-sqlite.sh /srv/data/shop.db'
#
# A job that lost its lock without noticing (its host was frozen) has an older token than the
# current holder. None of its changes are made.
#
# The newest token is in the table me_only_fence, with a row for each lock. It is raised in the
# transaction that changes the data: both happen or neither does. The SQL must not begin or end
# transactions itself. Other ways to change the database are not blocked.
#
# status: 0 done, 10 refused (the token is old), 1 failed, 2 wrong usage. With 10 and 2 nothing was
# changed.
set -u

fail() {
    echo "fenced-sqlite.sh: $2" >&2
    exit "$1"
}

database() {
    sqlite3 -batch -bail -init /dev/null -cmd '.timeout 60000' "$database" "$@"
}

# The UPDATE is the fence. If it finds no row that it may raise, the INSERT after it violates the
# CHECK of its table, sqlite3 stops (-bail), and what was not committed is rolled back. IMMEDIATE:
# from there on there is no other writer.
transaction() {
    cat <<SQL && cat && printf '\n;COMMIT;\n'
CREATE TEMP TABLE fence(rows INTEGER CONSTRAINT "the token is old" CHECK (rows = 1));
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS me_only_fence(lock TEXT PRIMARY KEY, token INTEGER NOT NULL);
INSERT OR IGNORE INTO me_only_fence VALUES ('$lock', 0);
UPDATE me_only_fence SET token = $token WHERE lock = '$lock' AND token <= $token;
INSERT INTO temp.fence VALUES (changes());
SQL
}

if [ $# -ne 1 ] || [ -z "$1" ]; then fail 2 "usage: fenced-sqlite.sh DATABASE <SQL"; fi
[ -n "${ME_ONLY_LOCK-}" ] || fail 2 "ME_ONLY_LOCK has no lock: run this under an etcd: lock"
token=${ME_ONLY_TOKEN-}
# At most 18 digits, which fit into the arithmetic of the database and of every shell.
case $token in
    '' | *[!0-9]* | ???????????????????*)
        fail 2 "ME_ONLY_TOKEN has no token: run this under an etcd: lock"
        ;;
esac
case $1 in /*) database=$1 ;; *) database=./$1 ;; esac
lock=$(printf '%s\n' "$ME_ONLY_LOCK" | sed "s/'/''/g")

# Read all SQL first, into a file without a name: no other writer must wait for slow input, and
# truncated input must not run.
{ spool=$(mktemp) && command exec 8<>"$spool" && rm -f "$spool"; } ||
    fail 1 "cannot create a temporary file"
transaction >&8 || fail 1 "the SQL cannot be read or stored"

database </dev/fd/8 && exit 0

# Refused or failed? Tokens only grow: if there is a newer one now, this one is old.
newest=$(database "SELECT token FROM me_only_fence WHERE lock = '$lock';" 2>/dev/null)
[ "${newest:-0}" -le "$token" ] || fail 10 "$database: refused: token $token is older than $newest"
fail 1 "$database: failed"
