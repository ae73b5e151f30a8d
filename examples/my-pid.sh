#!/bin/sh
# An example job: prints its PID and arguments, then runs for SECONDS and counts them.
#
#     me-only /tmp/my-pid my-pid.sh 1000
case ${1-} in
    '' | *[!0-9]*)
        echo "usage: my-pid.sh SECONDS [ARGUMENT]..." >&2
        exit 2
        ;;
esac
echo "my-pid.sh: pid $$, arguments: $*"
second=0
while [ "$second" -lt "$1" ]; do
    sleep 1
    second=$((second + 1))
    echo "$second"
done
