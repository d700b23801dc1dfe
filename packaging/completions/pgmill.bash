# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of pgmill for bash. It asks the executable, and so is always in step with it.

_pgmill() {
    local command=$1 word=$2 before=$3 line=${COMP_LINE:0:COMP_POINT} words option
    COMPREPLY=()
    if [[ $word == = || $before == = ]]; then # bash parts --option=value at the sign
        [[ $word != = ]] || word=''
        option=${line%=*} option=${option##* }
        words=$("$command" "${COMP_WORDS[1]}" --help 2>/dev/null | sed -n "s/^  $option=\([A-Z]*\).*/\1/p")
        case $words in
            FILE | PATH | DIRS) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        esac
        return
    fi
    if ((COMP_CWORD == 1)); then
        words=$("$command" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
    else
        words=$("$command" "${COMP_WORDS[1]}" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*=\{0,1\}\).*/\1/p')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null || true
}
complete -F _pgmill pgmill
