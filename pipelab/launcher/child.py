"""A child process that ends with us, and with all that it started."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

GRACE = 2.0
"""Seconds a child gets to end in good order before it and its descendants are killed."""

STOPPING = [
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def child(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python <arguments>` for as long as the block lasts.

    SIGTERM and a closed terminal end the block as Ctrl-C does: with KeyboardInterrupt. However
    it ends, no descendant of the child is left, though Jupyter starts its kernels in sessions
    of their own, where no signal to a process group finds them.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPPING}
    process = None
    try:
        # A session of its own: Ctrl-C in the terminal reaches us alone, and Jupyter asks no
        # question. -P: the folder we are called from may hold a student's own random.py.
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments], env=environment, start_new_session=True
        )
        yield process
    finally:
        # A second Ctrl-C must not interrupt the tidying up.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if process:
            end(process)
        for number, handler in before.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then kill what is left of it and of its descendants."""
    family = descendants(process.pid)
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        family += descendants(process.pid)  # those it started meanwhile
        process.kill()
        process.wait()
    for survivor in family:
        for member in [*descendants(survivor.pid), survivor] if survivor.is_running() else []:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                pass


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below a process."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
