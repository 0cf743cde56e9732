"""Runs programs of training in forks of one process that has imported what they need, which takes longer than they do.

Reads a JSON list from each line: file for the output, module, arguments. Writes a line for each start, with the number
of its process, and one for each end, with the number and the exit code (negative: the signal).
"""

import json
import os
import signal
import sys
import threading
from importlib import import_module

MODULES = {name: import_module(name) for name in ("training.train", "training.export")}


def begin(log, module, arguments):
    """Fork, and run a program there as if it were started by itself: in a session and with an output of its own."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    code = 1
    try:
        code = MODULES[module].main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def say(**line):
    print(json.dumps(line), flush=True)


def tell_end(pid):
    say(ended=pid, code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


say(ready=True)
for line in sys.stdin:
    begun = begin(*json.loads(line))
    say(begun=begun)
    threading.Thread(target=tell_end, args=(begun,), daemon=True).start()
