"""Runs training modules in forks of one process with preloaded imports, which take longer than the programs.

Reads a JSON list per line: output file, module, arguments. Writes a JSON line with the process id
for each start, and one with process id and exit code (negative: signal) for each end.
"""

import json
import os
import signal
import sys
import threading
from importlib import import_module

MODULES = {name: import_module(name) for name in ("training.train", "training.export")}


def begin(log, module, arguments):
    """Fork and run a module in a new session with its own output file; returns the process id."""
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
    started = begin(*json.loads(line))
    say(started=started)
    threading.Thread(target=tell_end, args=(started,), daemon=True).start()
