"""The pool: workers on request, from a server that has already imported torch.

    kernel ──starts once──▶ server (torch imported) ──forks, 10 ms each──▶ workers, one per rank

Workers are new for every run, so no run sees what another left behind, and ending them is the
answer to any trouble. The server is started by the first run or by ``warm``, never by importing
pipelab.
"""

import atexit
import contextlib
import os
import pickle
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from ...errors import RunCancelled, RunError, UsageError
from .process import spawn_process
from .server import BACKWARD, MAX_DESCRIPTORS

START_TIMEOUT = 60.0
MAX_RANKS = MAX_DESCRIPTORS - 1


@dataclass
class Crew:
    """The workers of one run. controls[rank] is the line to that rank, in a process of its own or a
    thread of the one.
    """

    controls: list[Connection]
    pids: list[int]
    _end: object = field(repr=False)

    def end(self) -> dict[int, int]:
        """Ends what still runs.

        Returns the exit code of each rank, negative for a signal. Safe to call twice.
        """
        for control in self.controls:
            control.close()
        pids, self.pids = self.pids, []
        codes = self._end(pids) if pids else {}
        pids = pids if len(pids) != 1 else pids * len(self.controls)
        return {rank: codes.get(pid, 0) for rank, pid in enumerate(pids)}


class ForkServer:
    """The server process and the socket to it; one request at a time."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._socket: socket.socket | None = None
        self._owner = os.getpid()
        self._ready = self._stopping = False

    def start(self) -> None:
        """Starts the server unless it runs; returns at once, while it imports torch."""
        with self._lock:
            self._start()

    def launch(
        self,
        board: int,
        ranks: int,
        modules: Sequence[str] = (),
        *,
        threads: bool = False,
        cancelled: threading.Event | None = None,
    ) -> Crew:
        """Forks a worker per rank, or one with a thread per rank, that share the file ``board``.

        modules: what the server must have imported before. Raises RunCancelled when ``cancelled``
        is set while the server is still importing torch.
        """
        pairs = [socket.socketpair() for _ in range(ranks)]
        theirs = [their.fileno() for _, their in pairs]
        try:
            request = ("fork", (1 if threads else ranks, [BACKWARD, *modules]))
            pids = self._request(request, [board, *theirs], cancelled)
        except BaseException:
            for mine, _ in pairs:
                mine.close()
            raise
        finally:
            for _, their in pairs:
                their.close()
        return Crew([Connection(mine.detach()) for mine, _ in pairs], pids, self._end)

    def stop(self) -> None:
        """Ends the server, which keeps no state, and with it every worker it has forked."""
        self._stopping = True
        process = self._process
        if process is not None and self._owner == os.getpid():
            process.kill()  # before the lock: somebody may be waiting for its answer
        with self._lock:
            if process is not None and self._owner == os.getpid():
                process.wait()
            if self._socket is not None:
                self._socket.close()
            self._process = self._socket = None
            self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _end(self, pids: list[int]) -> dict[int, int]:
        return self._request(("end", pids), [])

    def _start(self) -> None:
        if (
            self._process is not None
            and self._owner == os.getpid()
            and self._process.poll() is None
        ):
            return
        if self._socket is not None:
            self._socket.close()
        mine, theirs = socket.socketpair()
        self._process = spawn_process("server", "main", [theirs.fileno()], [theirs.fileno()])
        theirs.close()
        self._socket, self._owner, self._ready = mine, os.getpid(), False

    def _request(
        self, request: tuple, descriptors: list[int], cancelled: threading.Event | None = None
    ):
        """Asks the server. A server that is gone is started again, once."""
        with self._lock:
            for attempt in (1, 2):
                if request[0] == "end" and (
                    self._process is None or self._process.poll() is not None
                ):
                    return {}  # its workers ended with it
                self._start()
                with contextlib.suppress(OSError):
                    if not self._ready:
                        self._listen(cancelled)  # it says when it has imported torch
                        self._ready = True
                    socket.send_fds(self._socket, [pickle.dumps(request)], descriptors)
                    return pickle.loads(self._listen(None))
                self._process.wait()
                if self._stopping or attempt == 2:
                    code = self._process.returncode
                    raise RunError(
                        "The pool was shut down."
                        if self._stopping
                        else f"The worker server ended with exit code {code}; its error is on "
                        "standard error."
                    )

    def _listen(self, cancelled: threading.Event | None) -> bytes:
        """The server's next message. Raises ConnectionError when it is gone."""
        deadline = time.monotonic() + START_TIMEOUT
        while not select.select([self._socket], [], [], 0.05)[0]:
            if cancelled and cancelled.is_set():
                raise RunCancelled("The run was stopped.")
            if time.monotonic() > deadline:
                self._process.kill()
                raise RunError(f"The worker server did not answer within {START_TIMEOUT:g} s.")
        message = self._socket.recv(1 << 20)
        if not message:
            raise ConnectionError
        return message


class Spawner:
    """Starts each worker as a process of its own, where forking is not safe (macOS).

    Slower: each imports torch.
    """

    pid = None

    def start(self) -> None:
        """Nothing to prepare."""

    stop = start

    def launch(
        self,
        board: int,
        ranks: int,
        modules: Sequence[str] = (),
        *,
        threads: bool = False,
        cancelled: threading.Event | None = None,
    ) -> Crew:
        """As the server's ``launch``; there is nothing to wait for, and each worker imports what it
        needs.
        """
        pairs = [socket.socketpair() for _ in range(ranks)]
        pipes = [] if threads or ranks == 1 else [os.pipe() for _ in range(ranks)]
        for _, write in pipes:
            os.set_blocking(write, False)
        controls, wake, inboxes = (
            [theirs.fileno() for _, theirs in pairs],
            [w for _, w in pipes],
            [r for r, _ in pipes],
        )
        processes = []
        for rank in range(1 if threads else ranks):
            mine = slice(None) if threads else slice(rank, rank + 1)
            arguments = [os.getpid(), controls[mine], board, wake, inboxes[mine]]
            processes.append(
                spawn_process(
                    "worker",
                    "main_spawned",
                    arguments,
                    [*controls[mine], board, *wake, *inboxes[mine]],
                )
            )
        for _, theirs in pairs:
            theirs.close()
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)

        def end(pids: list[int]) -> dict[int, int]:
            for process in processes:
                process.kill()
            return {process.pid: process.wait() for process in processes}

        return Crew(
            [Connection(mine.detach()) for mine, _ in pairs], [p.pid for p in processes], end
        )


_sources: dict[str, ForkServer | Spawner] = {}


def worker_source() -> ForkServer | Spawner:
    """Where workers come from on this machine. PIPELAB_START=spawn or fork overrides the choice.

    Raises UsageError where neither way works.
    """
    default = "spawn" if sys.platform == "darwin" else "fork"
    method = os.environ.get("PIPELAB_START", default)
    if sys.platform == "win32":
        raise UsageError(
            "Real runs need Linux, macOS or WSL: this system cannot hand descriptors to a worker."
        )
    if method not in ("fork", "spawn"):
        raise UsageError(f"PIPELAB_START is {method!r}; it is 'fork' or 'spawn'.")
    if method not in _sources:
        _sources[method] = ForkServer() if method == "fork" else Spawner()
        if method == "fork":
            atexit.register(_sources[method].stop)
    return _sources[method]


def warm() -> None:
    """Starts the server in the background, so that the first run need not wait for it."""
    worker_source().start()


def shutdown() -> None:
    """Ends the server and all workers. The next run starts a new one."""
    for each in _sources.values():
        each.stop()
