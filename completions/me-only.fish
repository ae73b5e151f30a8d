# Completion of me-only for fish: options, then the locks that are held now, then the command's own completion.

# What is being completed: lock or an option, list (etcd: or an option after --list), command followed by the words of the command so
# far, or none after --held LOCK and --who LOCK.
function __me_only_part
    set -l words (commandline -opc)
    set -l before lock
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case --wait --timeout --slots --queue --kill-after --ttl --hold-for --conflict-exit-code --exit-base --complain-after
                set -e words[1]
            case --held --who
                set before question
            case --list
                set before list
            case '--*'
            case '-*w' '-*j' '-*k' '-*E'
                # In -wE the E is the argument of -w.
                string match -qr -- '^-[^wjkE]*[wjkE]$' $words[1]; and set -e words[1]
            case -
                break
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    if not set -q words[1]
        test $before = question; and echo lock; or echo $before
    else if test $before != lock
        echo none
    else
        set -e words[1]
        # LOCK -- COMMAND is LOCK COMMAND.
        test "$words[1]" = --; and set -e words[1]
        printf '%s\n' command $words
    end
end

function __me_only_in
    set -l part (__me_only_part)
    contains -- "$part[1]" $argv
end

# The names of the locks that are held on this host, as LOCK has to be written; those with unusual characters are left out.
# Or a file, after file:. Etcd locks are not looked up: that can take seconds.
function __me_only_locks
    set -l word (commandline -ct)
    if string match -q 'file:*' -- $word
        for file in (string replace file: '' -- $word)*
            test -d $file; and set file $file/
            # The list shows only the end of a long word; its description is whole.
            printf 'file:%s\t%s\n' $file $file
        end
        return
    end
    printf '%s\n' file: etcd:
    sed -n -e 's|^[^ ]* [^ ]* [^ ]* 00010000 .* @me-only:\([[:alnum:]_./:%+,-]*\)$|\1|' -e T \
        -e 's|^[a-z][a-z0-9+-]*:|host:&|' -e p /proc/net/unix 2>/dev/null
end

function __me_only_command
    set -l part (__me_only_part)
    set -e part[1]
    complete -C (string join -- ' ' (string escape -- $part) (commandline -ct))
end

complete -c me-only -f
complete -c me-only -n '__me_only_in lock' -a '(__me_only_locks)' -d Lock
complete -c me-only -n '__me_only_in list' -a etcd: -d 'Etcd locks'
complete -c me-only -n '__me_only_in command' -a '(__me_only_command)'
complete -c me-only -n '__me_only_in lock' -s w -l wait -l timeout -x -a 'inf 10s 1m 10m 1h' -d 'Wait at most this long for the lock'
complete -c me-only -n '__me_only_in lock' -s n -l nonblock -l nb -d 'Do not wait (the default)'
complete -c me-only -n '__me_only_in lock' -s x -s e -l exclusive -d 'Do not share the lock (the default)'
complete -c me-only -n '__me_only_in lock' -s s -l shared -d 'Share the lock with other -s holders (file: and etcd: only)'
complete -c me-only -n '__me_only_in lock' -s j -l slots -x -a '2 4 8' -d 'Let at most this many run at a time'
complete -c me-only -n '__me_only_in lock' -l queue -x -a 1 -d 'Give up if this many other callers with --queue already wait'
complete -c me-only -n '__me_only_in lock' -l replace -d 'End the current holder, then wait for the lock'
complete -c me-only -n '__me_only_in lock' -s k -l kill-after -x -a '0 10s 30s 1m inf' -d 'Time between SIGTERM and SIGKILL'
complete -c me-only -n '__me_only_in lock' -l ttl -x -a '10s 30s 60s 300s' -d 'etcd: only: how long the lock outlives a dead host'
complete -c me-only -n '__me_only_in lock' -l hold-for -x -a '1m 2m 5m' -d 'etcd: only: keep the lock at least this long'
complete -c me-only -n '__me_only_in lock' -s F -l no-fork -d 'Become the command instead of starting it'
complete -c me-only -n '__me_only_in lock' -s o -l close -d 'Do not pass the lock to the command'
complete -c me-only -n '__me_only_in lock' -s E -l conflict-exit-code -x -d 'Exit with this status if the lock is held'
complete -c me-only -n '__me_only_in lock' -l exit-base -x -d 'Add this number to the statuses of me-only itself'
complete -c me-only -n '__me_only_in lock' -s q -l quiet -d 'Print nothing if this user or root holds the lock'
complete -c me-only -n '__me_only_in lock' -l complain-after -x -a '10m 1h 1d' -d 'Print nothing unless the lock has been held for longer'
complete -c me-only -n '__me_only_in lock' -s v -l verbose -d 'Report what happens, with times'
complete -c me-only -n '__me_only_in lock' -l held -d 'Exit 0 if the caller runs under the lock, otherwise 1'
complete -c me-only -n '__me_only_in lock' -l who -d 'Print who holds the lock and who waits for it'
complete -c me-only -n '__me_only_in lock' -l list -d 'List the locks of this host, or of etcd:PREFIX'
complete -c me-only -n '__me_only_in lock list' -l json -d 'With --who and --list: print JSON'
complete -c me-only -n '__me_only_in lock' -s h -d 'Print a short help'
complete -c me-only -n '__me_only_in lock' -l help -d 'Print the help'
complete -c me-only -n '__me_only_in lock' -s V -l version -d 'Print the version'
