# SPDX-License-Identifier: MIT
"""The manual pages and the completions say what the executable and its tables say, both ways."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "packaging/man"
COMPLETIONS = ROOT / "packaging/completions"
COMMON = {"--config", "--database", "--help"}


def verbs(pgmill: str) -> list[str]:
    text = subprocess.run([pgmill, "--help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z][a-z-]*) ", text, re.M)


def options(pgmill: str, verb: str) -> set[str]:
    text = subprocess.run([pgmill, verb, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  (--[a-z-]+)", text, re.M))


def settings() -> list[tuple[str, str, str, str, str]]:
    """Section, key, option, variable, default: the rows of the table in config.c."""
    row = re.compile(r'\{ "(\w+)",\s*"(\w+)",\s*"([a-z-]+)",\s*"(PGMILL_\w+)",(.*?)\},\n', re.S)
    found = []
    for section, key, option, variable, rest in row.findall((ROOT / "src/base/config.c").read_text()):
        texts = re.findall(r'"((?:[^"\\]|\\.)*)"|(NULL)', rest)
        words = [text for text, _ in texts]
        found.append((section, key, option, variable, words[2]))  # after the bounds
    assert len(found) >= 12
    return found


def described(page: str) -> dict[str, str]:
    """Each `*Key=*…` with what is written below it."""
    text = (PAGES / page).read_text()
    return {head: " ".join(body.split()) for head, body in re.findall(r"^(\*\w+=\*[^\n]*)\n((?:\t[^\n]*\n)+)", text, re.M)}


def test_every_setting_is_described() -> None:
    found = described("pgmill.conf.5.scd")
    wanted = {f"*{key}=*, *--{option}*, *{variable}*": value for _, key, option, variable, value in settings()}
    assert found.keys() == wanted.keys()
    for head, value in wanted.items():
        assert found[head].endswith(f"Unless given: _{value}_" if value else "Unless given: none"), head


def test_every_handler_key_is_described() -> None:
    keys = dict(re.findall(r'^    \{ "(\w+)", read_\w+, FIELD\([\w.]+\), "([^"]*)"', (ROOT / "src/worker/handler_keys.c").read_text(),
                           re.M))
    found = described("pgmill.tasks.5.scd")
    assert keys.keys() == {head.strip("*=") for head in found} and len(keys) >= 5
    for head, text in found.items():
        if value := keys[head.strip("*=")]:
            assert text.endswith(f"Unless given: _{value}_"), head


@pytest.mark.long
def test_every_verb_and_option_is_described(pgmill: str) -> None:
    text = (PAGES / "pgmill.1.scd").read_text()
    found = re.findall(r"^## pgmill ([a-z|-]+)[^\n]*\n(.*?)(?=^##? |\Z)", text, re.M | re.S)
    sections = {verb: section for names, section in found for verb in names.split("|")}
    assert sections.keys() == set(verbs(pgmill))
    shared = {f"--{option}" for _, _, option, _, _ in settings()}
    for verb, section in sections.items():
        own = set(re.findall(r"^\*(--[a-z-]+)\*", section, re.M))
        assert own == options(pgmill, verb) - COMMON - shared, verb


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.scd")))
def test_pages_can_be_made(page: str) -> None:
    if not shutil.which("scdoc"):
        pytest.skip("scdoc is missing: contrib/deps test")
    made = subprocess.run(["scdoc"], stdin=open(PAGES / page), capture_output=True, text=True)
    assert made.returncode == 0 and ".TH" in made.stdout, made.stderr


BASH = """
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=($2)
[[ $2 != *" " ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_pgmill pgmill "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
# The shell's own half of completion is not there without a terminal.
ZSH = """
_describe() { print -l -- ${lines%%:*} }
_arguments() { print -l -- ${${${@:#\\**}%%\\[*}} }
complete() { source $file }
file=$1 words=(${(s: :)2}) CURRENT=${#words}
[[ $2 != *" " ]] || { words+=(""); (( CURRENT++ )) }
complete
"""


@pytest.mark.parametrize("shell, file", [("bash", "pgmill.bash"), ("zsh", "_pgmill"), ("fish", "pgmill.fish")])
def test_completions_ask_the_executable(pgmill: str, folder: pathlib.Path, shell: str, file: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = COMPLETIONS / file

    def complete(line: str) -> set[str]:
        command = {"bash": ["bash", "-c", BASH, "-", str(script), line],
                   "zsh": ["zsh", "-fc", ZSH, "-", str(script), line],
                   "fish": ["fish", "-c", f"source {script}; complete -C '{line}'"]}[shell]
        path = {"PATH": f"{pathlib.Path(pgmill).parent}:/usr/bin:/bin", "HOME": str(folder)}
        ended = subprocess.run(command, env=path, capture_output=True, text=True)
        return {found.partition("\t")[0].rstrip("=") for found in ended.stdout.splitlines()}

    assert complete("pgmill ") == set(verbs(pgmill))
    assert complete("pgmill submit --") == options(pgmill, "submit")
    assert complete("pgmill doctor --") == options(pgmill, "doctor")


def test_every_library_is_named_with_its_version(pgmill: str) -> None:
    text = subprocess.run([pgmill, "version", "--all"], capture_output=True, text=True, check=True).stdout
    title, kind, *libraries = text.splitlines()
    assert title.startswith("pgmill ")
    named = dict(line.split()[:2] for line in libraries)
    wanted = {"inih", "libcjson", "libmicrohttpd", "libpq", "libsystemd", "openssl", "uuid"}
    if "static" in title:
        wanted |= {"libc", "libgcc"}
        assert all(len(line.split()) == 3 for line in libraries if line.split()[0] in wanted)  # and the source package
    assert wanted <= named.keys() and all(re.match(r"\d", version) for version in named.values()), named
