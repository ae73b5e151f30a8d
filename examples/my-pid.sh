#!/bin/sh
# An example job: prints its pid and its arguments, then runs for as many seconds as the first one says and prints each.
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
