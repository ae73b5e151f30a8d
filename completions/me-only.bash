# Completion of me-only for bash: options, then the locks that are held now, then the command's own completion.
# shellcheck shell=bash

# The names of the locks that are held on this host, as LOCK has to be written; those with unusual characters are left out.
# And the prefixes of file and etcd locks. Etcd locks are not looked up: that can take seconds.
_me_only_locks() {
    echo file: etcd:
    sed -n -e 's|^[^ ]* [^ ]* [^ ]* 00010000 .* @me-only:\([[:alnum:]_./:%+,-]*\)$|\1|' -e T \
        -e 's|^[a-z][a-z0-9+-]*:|host:&|' -e p /proc/net/unix 2>/dev/null
}

# What an option's argument can be, as examples.
_me_only_arguments() {
    case $1 in
        -w | --wait | --timeout) echo inf 10s 1m 10m 1h ;;
        -k | --kill-after) echo 0 10s 30s 1m inf ;;
        --ttl) echo 10s 30s 60s 300s ;;
        --hold-for) echo 1m 2m 5m ;;
        --complain-after) echo 10m 1h 1d ;;
        -j | --slots) echo 2 4 8 ;;
        --queue) echo 1 ;;
    esac
}

_me_only() {
    local cur words cword i=1 raw=0 argument='' lock=1 command=1 joined
    # Options and names with = and : are one word here, though not in COMP_WORDS.
    _get_comp_words_by_ref -n =: cur words cword || return

    # Walk over the options, up to LOCK.
    while ((i < cword)); do
        argument=''
        case ${words[i]} in
            --)
                ((i++))
                break
                ;;
            --wait | --timeout | --slots | --queue | --kill-after | --ttl | --hold-for | --conflict-exit-code | --exit-base | --complain-after) argument=${words[i]} ;;
            --held | --who) command='' ;;
            --list) lock=etcd command='' ;;
            --*) ;;
            -*[wjkE])
                # In -wE the E is the argument of -w.
                [[ ${words[i]%?} == *[wjkE]* ]] || argument=-${words[i]: -1}
                ;;
            -?*) ;;
            *) break ;;
        esac
        ((i++))
        if [[ $argument ]]; then
            ((i == cword)) && break
            ((i++))
            argument=''
        fi
    done

    if [[ $argument ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_me_only_arguments "$argument")" -- "$cur")
    elif ((i < cword)); then
        [[ $command ]] || return
        # LOCK -- COMMAND is LOCK COMMAND.
        [[ ${words[i + 1]} == -- ]] && ((i + 1 < cword)) && ((i++))
        # Hand over after LOCK, which may be several of the words in COMP_WORDS.
        for ((; i >= 0; i--)); do
            joined=''
            while [[ $joined != "${words[0]}" ]] && ((raw < COMP_CWORD)); do
                joined+=${COMP_WORDS[raw++]}
            done
            words=("${words[@]:1}")
        done
        _command_offset "$raw"
    elif [[ $cur == --*=* && ${words[i - 1]} != -- ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_me_only_arguments "${cur%%=*}")" -- "${cur#*=}")
    elif [[ $cur == -* && ${words[i - 1]} != -- ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-w --wait= --timeout= -n --nonblock --nb -x -e --exclusive -s --shared -j --slots= --queue= --replace -k --kill-after= --ttl= --hold-for=
            -F --no-fork -o --close -E --conflict-exit-code= --exit-base= -q --quiet --complain-after= -v --verbose --held --who --list --json
            -h --help -V --version' -- "$cur")
        [[ ${COMPREPLY-} == *= ]] && compopt -o nospace
    elif [[ $lock == etcd ]]; then
        mapfile -t COMPREPLY < <(compgen -W etcd: -- "$cur")
        compopt -o nospace
        __ltrim_colon_completions "$cur"
    elif [[ $cur == file:* ]]; then
        mapfile -t COMPREPLY < <(compgen -P file: -f -- "${cur#file:}")
        compopt -o filenames
        __ltrim_colon_completions "$cur"
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_me_only_locks)" -- "$cur")
        [[ ${COMPREPLY-} == *: ]] && compopt -o nospace
        __ltrim_colon_completions "$cur"
    fi
} && complete -F _me_only me-only
