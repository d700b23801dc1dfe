# SPDX-License-Identifier: MIT
# Completion of pgmill for fish. It asks the executable, and so is always in step with it.

function __pgmill_words
    set -l words (commandline -opc)
    if test (count $words) -eq 1
        $words[1] --help 2>/dev/null | string replace -rf '^  ([a-z][a-z-]*) +(.*)' '$1\t$2'
    else
        $words[1] $words[2] --help 2>/dev/null | string replace -rf '^  (--[a-z-]*=?)\S* +(.*)' '$1\t$2'
    end
end
complete -c pgmill -f -a '(__pgmill_words)'
