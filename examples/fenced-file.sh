#!/bin/sh
# Write standard input to FILE, unless a job with a newer token has written it before. For jobs
# under an etcd: lock:
#
#     me-only etcd:report sh -c 'make-report | fenced-file.sh /srv/data/report.csv'
#
# A job that lost its lock without noticing (its host was frozen) has an older token than the
# current holder. Once that one has written, the late job is refused.
#
# FILE.token: the newest token seen so far. FILE.lock: locked with flock(1) while FILE changes;
# never delete it. Other ways to write FILE are not blocked. FILE is replaced as a whole: readers
# see either the old or the new one.
#
# status: 0 written, 10 refused (the token is old), 1 failed (FILE is the old or the new one, never
# half), 2 wrong usage
set -u

fail() {
    echo "fenced-file.sh: $2" >&2
    exit "$1"
}

# A number of at most 18 digits, which fits into the arithmetic of every shell.
is_token() {
    case $1 in '' | *[!0-9]* | ???????????????????*) return 1 ;; esac
}

# replace PATH: PATH.new becomes PATH, even if the power fails afterwards.
replace() {
    { sync "$1.new" && mv -f "$1.new" "$1" && sync "$(dirname "$1")"; } ||
        fail 1 "$1: cannot be replaced"
}

if [ $# -ne 1 ] || [ -z "$1" ]; then fail 2 "usage: fenced-file.sh FILE <DATA"; fi
is_token "${ME_ONLY_TOKEN-}" || fail 2 "ME_ONLY_TOKEN has no token: run this under an etcd: lock"
case $1 in /*) file=$1 ;; *) file=./$1 ;; esac
[ ! -d "$file" ] || fail 2 "$file: is a directory"

# Read all data first, into a file without a name: no other writer must wait for slow input.
{ spool=$(mktemp) && command exec 8<>"$spool" && rm -f "$spool"; } ||
    fail 1 "cannot create a temporary file"
cat >&8 || fail 1 "the data cannot be read or stored"

command exec 9>>"$file.lock" || fail 1 "$file.lock: cannot be opened"
flock -w 60 9 || fail 1 "$file.lock: another writer has held it for 60 seconds"

# From here on there is no other writer.
newest=0
if [ -e "$file.token" ]; then
    { read -r newest <"$file.token" && is_token "$newest"; } ||
        fail 1 "$file.token: cannot be read, or is damaged"
fi
[ "$ME_ONLY_TOKEN" -ge "$newest" ] ||
    fail 10 "$file: refused: token $ME_ONLY_TOKEN is older than $newest"

# The token goes first: if this is killed right after it, older writers are refused all the same.
echo "$ME_ONLY_TOKEN" >"$file.token.new" || fail 1 "$file.token.new: cannot be written"
replace "$file.token"
(umask 077 && cat /dev/fd/8 >"$file.new") || fail 1 "$file.new: cannot be written"
if [ -e "$file" ]; then mode=--reference=$file; else mode="=rw"; fi
chmod "$mode" "$file.new" || fail 1 "$file.new: its mode cannot be set"
replace "$file"
