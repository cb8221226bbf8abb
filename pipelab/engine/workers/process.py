"""Processes: starting one, settling down in one, and how one ended."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

_BOOT = """\
import sys, json
sys.path += [p for p in json.loads(sys.argv[1]) if p not in sys.path]
from pipelab.engine.workers.{module} import {function}
{function}(*json.loads(sys.argv[2]))
"""


def spawn_process(
    module: str, function: str, arguments: list, descriptors: list[int]
) -> subprocess.Popen:
    """Run a function of this folder in a new interpreter with one thread.

    It is ``pipelab.engine.workers.<module>.<function>(*arguments)``, and keeps ``descriptors``. It
    runs without the caller's ``__main__``, and in its own session: Ctrl-C in a terminal reaches
    only the driver.
    """
    code = _BOOT.format(module=module, function=function)
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            code,
            json.dumps([p or os.getcwd() for p in sys.path]),
            json.dumps(arguments),
        ],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        env=os.environ | threads,
        start_new_session=True,
    )


def settle(parent: int) -> None:
    """End this process when its parent ends, and let it sleep precisely.

    The kernel does it on Linux. Elsewhere a thread looks after the parent.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        # PR_SET_TIMERSLACK: paced actions wake up on time, not 50 microseconds late.
        libc.prctl(29, 1)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def describe_exit(code: int) -> str:
    """Say an exit code in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (often: out of memory)" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{hint}"
