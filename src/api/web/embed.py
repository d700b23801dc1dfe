# SPDX-License-Identifier: MIT
"""Makes docs-data.h of what the docs page needs: embed.py VERSION OPENAPI PAGE [SCRIPT] OUTPUT.

The script is kept compressed; without one the header says so.
"""

import gzip
import hashlib
import json
import pathlib
import re
import sys


def asset(name: str, data: bytes) -> str:
    """An array that ends in a NUL which its length does not count, and an entity tag."""
    text = "".join(map(escape, data))
    lines = "\n".join(f'    "{line}"' for line in re.findall(r"(?:\\...|.){1,100}", text)) or '    ""'
    tag = hashlib.sha256(data).hexdigest()[:16]
    return (
        f"static const char {name}_data[] =\n{lines};\n"
        f'static const Asset {name} = {{ {name}_data, {len(data)}, "\\"{tag}\\"" }};\n'
    )


def escape(byte: int) -> str:
    printable = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if printable else f"\\{byte:03o}"


version, *paths, output = sys.argv[1:]
openapi, page, *script = [pathlib.Path(path).read_bytes() for path in paths]
told = json.loads(openapi)["info"]["version"]
if told != version:
    sys.exit(f"{paths[0]} says that this is version {told}, but it is {version}")
packed = gzip.compress(script[0], 9, mtime=0) if script else b""
pathlib.Path(output).write_text(asset("openapi", openapi) + asset("page", page) + asset("script", packed))
