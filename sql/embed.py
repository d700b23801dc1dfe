# SPDX-License-Identifier: MIT
"""Makes schema-sql.h of SQL files: embed.py ROLES FILE... OUTPUT. Numbered files are migrations, the others functions.

Functions are taken apart into their statements, so that those alone are run again that differ from what is installed."""

import hashlib
import pathlib
import re
import sys

roles, *inputs, output = map(pathlib.Path, sys.argv[1:])


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(f'        "{line}\\n"' for line in escaped.splitlines())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def statements(text: str) -> list[str]:
    """Each ends with a semicolon at the end of a line, outside of $$; comments before it are left out."""
    found, lines, inside = [], [], False
    for line in text.splitlines():
        if not lines and (not line.strip() or line.startswith("--")):
            continue
        lines.append(line)
        inside ^= line.count("$$") % 2 == 1
        if not inside and re.search(r";\s*(--.*)?$", line):
            found.append("\n".join(lines))
            lines = []
    if lines:
        sys.exit(f"not a whole statement: {lines[0]}")
    return found


def row(statement: str) -> str:
    """What makes it known again: its digest, and what it made: a routine (with the digest of its body) or a view."""
    made = re.match(r"CREATE OR REPLACE (FUNCTION|AGGREGATE|VIEW) pgmill\.(\w+)", statement)
    kind, name = made.groups() if made else ("", "")
    body = digest(statement.split("$$")[1]) if kind == "FUNCTION" else ""
    return f'    {{ "{digest(statement)[:16]}", "{kind}", "{name}", "{body}",\n{literal(statement)} }},\n'


migrations = [f for f in inputs if f.name[0].isdigit()]
functions = [s for f in inputs if not f.name[0].isdigit() for s in statements(f.read_text())]
numbers = [int(f.name[:4]) for f in migrations]
if numbers != list(range(1, len(numbers) + 1)):
    sys.exit(f"migrations must be numbered 0001, 0002 and so on without a gap, not {numbers}")
output.write_text(
    f"static const char roles_sql[] =\n{literal(roles.read_text())};\n"
    "static const struct {\n    const char *name, *sql;\n} migrations[] = {\n"
    + "".join(f'    {{ "{f.stem}",\n{literal(f.read_text())} }},\n' for f in migrations)
    + "};\nstatic const struct {\n    const char *digest, *kind, *name, *body, *sql;\n} functions[] = {\n"
    + "".join(map(row, functions))
    + "};\n"
)
