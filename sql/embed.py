# SPDX-License-Identifier: MIT
"""Makes schema-sql.h of SQL files: embed.py ROLES FILE... OUTPUT. Numbered files are migrations, the others functions."""

import hashlib
import pathlib
import sys

roles, *inputs, output = map(pathlib.Path, sys.argv[1:])


def rows(name: str, files: list[pathlib.Path]) -> str:
    body = "".join(f'    {{ "{f.stem}",\n{literal(f.read_text())} }},\n' for f in files)
    return f"static const struct {{\n    const char *name, *sql;\n}} {name}[] = {{\n{body}}};\n"


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(f'        "{line}\\n"' for line in escaped.splitlines())


migrations = [f for f in inputs if f.name[0].isdigit()]
functions = [f for f in inputs if not f.name[0].isdigit()]
numbers = [int(f.name[:4]) for f in migrations]
if numbers != list(range(1, len(numbers) + 1)):
    sys.exit(f"migrations must be numbered 0001, 0002 and so on without a gap, not {numbers}")
digest = hashlib.sha256(b"".join(f.read_bytes() for f in functions)).hexdigest()[:16]
output.write_text(
    f"static const char roles_sql[] =\n{literal(roles.read_text())};\n"
    + rows("migrations", migrations)
    + rows("functions", functions)
    + f'#define FUNCTIONS_DIGEST "{digest}"\n'
)
