#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A co-process in few lines, for Mode=stream: answers each task with its payload."""

import json
import sys

for line in sys.stdin:
    message = json.loads(line)
    if "task" in message:  # a {"cancel": ID} comes too late here: one task at a time
        print(json.dumps({"task": message["task"], "result": message["payload"]}), flush=True)
