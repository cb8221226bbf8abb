"""The server: a process that has imported torch and forks workers on request.

It runs nothing else. A kernel must never be forked itself: after OpenMP or a backward the child
hangs. Started with ``python -c``, so the caller's ``__main__`` is not involved. It ends, with all
its workers, when its socket closes.
"""

import contextlib
import fcntl
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys

from .process import settle

MAX_DESCRIPTORS = 200
BACKWARD = "torch.fx.experimental.symbolic_shapes"
OPTIMIZER = "torch._dynamo"
"""What torch imports at the first backward (0.6 s) and at the first optimizer (1.4 s): here once,
not in each worker.
"""
QUIET = 2.0
"""Seconds without a request, after a run, until the server imports ahead: the next may be near."""


def main(descriptor: int) -> None:
    """Serve requests until the socket closes.

    They are ("fork", (processes, modules)), with the board and the control sockets, and ("end",
    pids).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # what a model prints must not mix with a command's JSON
    server = socket.socket(fileno=descriptor)
    _end_with(server)
    # So that workers have them: what comes late in a run otherwise, and the worker's own code.
    import numpy.random  # noqa: F401
    import torch
    import torch.utils.serialization

    from . import worker  # noqa: F401

    torch.set_num_threads(1)
    server.sendall(b"ready")
    children: set[int] = set()
    idle_imports, quiet = [BACKWARD, OPTIMIZER], 0.0
    while True:
        # Not while workers run: whoever ends them would wait for the import.
        while idle_imports and not children and not select.select([server], [], [], quiet)[0]:
            _preload(idle_imports.pop(0))
        data, descriptors, _, _ = socket.recv_fds(server, 1 << 16, MAX_DESCRIPTORS)
        if not data:
            return
        verb, argument = pickle.loads(data)
        if verb == "fork":
            count, modules = argument
            for module in modules:
                _preload(module)
            pids = _fork(server, count, descriptors)
            children.update(pids)
            quiet = QUIET
            answer: object = pids
        else:
            answer = {pid: _end(pid) for pid in argument if pid in children}
            children.difference_update(argument)
        for fd in descriptors:
            os.close(fd)
        server.sendall(pickle.dumps(answer))


def _end_with(server: socket.socket) -> None:
    """End this process when the socket's other side is gone; its workers follow.

    It does so in the middle of an import, too.
    """

    def look(*_: object) -> None:
        try:
            gone = not server.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            os._exit(0)

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(server, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(server, fcntl.F_SETFL, fcntl.fcntl(server, fcntl.F_GETFL) | os.O_ASYNC)
    look()


def _preload(module: str) -> None:
    if module not in sys.modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # workers share these pages for good


def _fork(server: socket.socket, count: int, descriptors: list[int]) -> list[int]:
    """Fork ``count`` workers: one for each control socket, or one for all of them.

    Returns their process ids.
    """
    board, controls = descriptors[0], descriptors[1:]
    pipes = [os.pipe() for _ in controls] if count > 1 else []
    for _, write in pipes:
        os.set_blocking(write, False)
    pids = []
    parent = os.getpid()
    for rank in range(count):
        mine = slice(rank, rank + 1) if count > 1 else slice(None)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                settle(parent)
                server.close()
                inboxes = [read for read, _ in pipes]
                for fd in {*controls, *inboxes} - {*controls[mine], *inboxes[mine]}:
                    os.close(fd)
                from .worker import main as work

                work(controls[mine], board, [write for _, write in pipes], inboxes[mine])
                code = 0
            os._exit(code)
        pids.append(pid)
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)
    return pids


def _end(pid: int) -> int:
    """End a worker if it still runs. Returns its exit code, negative for a signal."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
