# SPDX-License-Identifier: MIT
"""A co-process for the tests: each task's payload says what to do."""

import json
import os
import sys
import time

held: list[str] = []
stay = False
me = os.getpid()


def say(text: str) -> None:
    os.write(1, text.encode())


def answer(id: str, result: object) -> None:
    say(json.dumps({"task": id, "result": result}) + "\n")


for line in sys.stdin:
    message = json.loads(line)
    if "cancel" in message:
        if message["cancel"] in held:
            held.remove(message["cancel"])
            say(json.dumps({"task": message["cancel"], "error": "as you wish"}) + "\n")
        continue
    id, payload = message["task"], message["payload"]
    match payload:
        case {"echo": value}:
            answer(id, value)
        case "message":
            answer(id, message)
        case "pid":
            answer(id, me)
        case "hold":  # until it is cancelled
            held.append(id)
        case "deaf":
            pass
        case {"cry": text}:
            os.write(2, text.encode())
            os.kill(me, 9)
        case "stay":  # whatever happens to its input
            stay = True
            answer(id, me)
        case "die":
            os.kill(me, 9)
        case "exit":
            sys.exit(3)
        case "leave":  # having answered, with what else it was given unanswered
            answer(id, me)
            sys.exit(0)
        case "swallow":
            sys.exit(0)
        case {"eat": size}:
            eaten = bytearray(size)
            answer(id, me)
        case {"length": text}:
            answer(id, len(text))
        case {"ponder": seconds}:
            time.sleep(seconds)
            answer(id, None)
        case "half":
            say('{"task": ')
            sys.exit(0)
        case "close":
            os.close(1)
        case "twice":
            answer(id, 1)
            answer(id, 2)
        case "strays":
            for _ in range(1000):
                answer("01993b1d-0001-7abc-9def-0123456789ab", 1)
        case {"slow": seconds}:
            os.write(2, b"begun\n")
            time.sleep(seconds)
            answer(id, me)
        case {"raw": text}:
            say(text.replace("ID", id))
        case {"flood": size}:
            while size > 0:
                size -= os.write(1, b"x" * min(size, 65536))
        case {"error": error, **more}:
            say(json.dumps({"task": id, "error": error} | more) + "\n")

os.write(2, b"bye\n")
if stay:
    time.sleep(1000)
