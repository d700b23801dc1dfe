# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# What packaging/deb/build and packaging/rpm/build share; they source it, with $kind set.
set -euo pipefail
export LC_ALL=C

root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
note() { echo "$kind: $*" >&2; }
die()  { note "$*"; exit 1; }

# What is in a package: the tree but for its history, what was built in it, and what nobody asked git to keep.
tree() {
    if [[ -e $root/.git ]]; then
        git -C "$root" -c safe.directory="$root" ls-files -z --cached --others --exclude-standard
    else
        (cd "$root" && find . -path ./build -prune -o -type f -print0)
    fi
}

copy_tree() { # FOLDER
    mkdir "$1"
    tree | tar -c -C "$root" --null -T - --ignore-failed-read | tar -x -C "$1"
}

version=$(sed -n "s/^  version: '\(.*\)',$/\1/p" "$root/meson.build")

# What is linked and compiled in comes through the network, so it is gathered beforehand: sets $static and $web.
gather() {
    local missing
    missing=$("$root/contrib/deps" --dry-run "$kind" 2>/dev/null)
    [[ -z $missing ]] || die "run contrib/deps $kind first; missing: ${missing//$'\n'/ }"
    static=$("$root/packaging/static/build" | tail -n 1)
    web=$("$root/packaging/web/build" | tail -n 1) || web=''
    [[ $web ]] || note "going on without the docs page: /docs will be a few links"
}

# once FOLDER: calls make_package FOLDER WORK, unless the one that is there was made from the same.
once() {
    local stamp
    mkdir -p "$1"
    exec 9>"$1/lock"
    flock 9
    stamp=$({ echo "$static $web"; cd "$root"; tree | sort -z | xargs -0 sha256sum 2>/dev/null || true; } | sha256sum)
    [[ $(cat "$1/stamp" 2>/dev/null) != "$stamp" ]] || return 0
    (
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        make_package "$1" "$scratch"
        echo "$stamp" >"$1/stamp"
    ) >&2
}
