# Completion of me-only for fish: options, then the locks that are held now, then the command's own completion.

# What is being completed: option, lock, command followed by the words of the command so far, or none behind --held LOCK.
function __me_only_part
    set -l words (commandline -opc)
    set -l held 0
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case --wait --conflict-exit-code --exit-base
                set -e words[1]
            case --held
                set held 1
            case '--*'
            case '-*w' '-*E'
                # In -wE the E is the argument of -w.
                string match -qr -- '^-[^wE]*[wE]$' $words[1]; and set -e words[1]
            case '-?*'
            case '*'
                break
        end
        set -e words[1]
    end
    if not set -q words[1]
        echo lock
    else if test $held = 1
        echo none
    else
        set -e words[1]
        printf '%s\n' command $words
    end
end

function __me_only_in
    set -l part (__me_only_part)
    test "$part[1]" = $argv[1]
end

# The names of the locks that are held on this host, as LOCK has to be written; those with unusual characters are left out.
function __me_only_locks
    sed -n -e 's|^[^ ]* [^ ]* [^ ]* 00010000 .* @me-only:\([[:alnum:]_./:%+,-]*\)$|\1|' -e T \
        -e 's|^[a-z][a-z0-9+-]*:|host:&|' -e p /proc/net/unix 2>/dev/null
end

function __me_only_command
    set -l part (__me_only_part)
    set -e part[1]
    complete -C (string join -- ' ' (string escape -- $part) (commandline -ct))
end

complete -c me-only -f
complete -c me-only -n '__me_only_in lock' -a '(__me_only_locks)' -d 'Held lock'
complete -c me-only -n '__me_only_in command' -a '(__me_only_command)'
complete -c me-only -n '__me_only_in lock' -s w -l wait -x -a 'inf 10s 1m 10m 1h' -d 'Wait at most so long for the lock'
complete -c me-only -n '__me_only_in lock' -s n -l nonblock -d 'Do not wait (the default)'
complete -c me-only -n '__me_only_in lock' -s F -l no-fork -d 'Become the command instead of starting it'
complete -c me-only -n '__me_only_in lock' -s o -l close -d 'Do not pass the lock to the command'
complete -c me-only -n '__me_only_in lock' -s E -l conflict-exit-code -x -d 'Exit with this status when the lock is held'
complete -c me-only -n '__me_only_in lock' -l exit-base -x -d 'Move our own statuses behind this number'
complete -c me-only -n '__me_only_in lock' -s q -l quiet -d 'Say nothing when the lock is held'
complete -c me-only -n '__me_only_in lock' -s v -l verbose -d 'Say what happens, with times'
complete -c me-only -n '__me_only_in lock' -l held -d 'Exit 0 if the caller already runs under the lock'
complete -c me-only -n '__me_only_in lock' -l help -d 'Show the help'
complete -c me-only -n '__me_only_in lock' -l version -d 'Show the version'
