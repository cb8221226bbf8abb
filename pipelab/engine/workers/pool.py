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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from ...errors import RunCancelled, RunError, UsageError
from .process import spawn_process
from .server import BACKWARD, MAX_DESCRIPTORS

START_TIMEOUT = 180.0
"""Seconds for importing torch, which takes long from the cold disk of a new machine."""
MAX_RANKS = MAX_DESCRIPTORS - 1


@dataclass
class Crew:
    """The workers of one run.

    controls[rank] is the line to that rank, in a process of its own or a thread of the one.
    """

    controls: list[Connection]
    pids: list[int]
    _end: Callable[[list[int]], dict[int, int]] = field(repr=False)

    def end(self) -> dict[int, int]:
        """End what still runs.

        Returns the exit code of each rank, negative for a signal. Safe to call twice.
        """
        for control in self.controls:
            control.close()
        pids, self.pids = self.pids, []
        codes = self._end(pids) if pids else {}
        pids = pids if len(pids) != 1 else pids * len(self.controls)
        return {rank: codes.get(pid, 0) for rank, pid in enumerate(pids)}


@dataclass
class _Server:
    """A server process and the line to it. ready: it has said that it has imported torch."""

    process: subprocess.Popen
    line: socket.socket
    ready: bool = False

    @classmethod
    def started(cls) -> "_Server":
        mine, theirs = socket.socketpair()
        process = spawn_process("server", "main", [theirs.fileno()], [theirs.fileno()])
        theirs.close()
        return cls(process, mine)

    def ask(self, request: tuple, descriptors: list[int], cancelled: threading.Event | None) -> Any:
        """Ask and wait for the answer. Raises OSError when the server is gone."""
        if not self.ready:
            self._listen(cancelled)
            self.ready = True
        socket.send_fds(self.line, [pickle.dumps(request)], descriptors)
        return pickle.loads(self._listen(None))

    def _listen(self, cancelled: threading.Event | None) -> bytes:
        """The server's next message. Raises ConnectionError when it is gone."""
        deadline = time.monotonic() + START_TIMEOUT
        while not select.select([self.line], [], [], 0.05)[0]:
            if cancelled and cancelled.is_set():
                raise RunCancelled("The run was stopped.")
            if time.monotonic() > deadline:
                self.process.kill()
                raise RunError(f"The worker server did not answer within {START_TIMEOUT:g} s.")
        message = self.line.recv(1 << 20)
        if not message:
            raise ConnectionError
        return message


class ForkServer:
    """The server process and the way to it; one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._owner = os.getpid()
        self._stopping = False

    def start(self) -> None:
        """Start the server unless it runs; return at once, while it imports torch."""
        with self._lock:
            self._running()

    def launch(
        self,
        board: int,
        ranks: int,
        modules: Sequence[str] = (),
        *,
        threads: bool = False,
        cancelled: threading.Event | None = None,
    ) -> Crew:
        """Fork workers that share the file ``board``.

        Args:
            board: its descriptor.
            ranks: how many there are.
            modules: what the server must have imported before.
            threads: one worker with a thread per rank, instead of a worker per rank.
            cancelled: ends the wait for a server that is still importing torch.

        Raises:
            RunCancelled: ``cancelled`` was set meanwhile.
            RunError: the server does not answer.
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
        """End the server, which keeps no state, and with it every worker it has forked."""
        self._stopping = True
        server = self._server
        mine = server is not None and self._owner == os.getpid()
        if server is not None and mine:
            server.process.kill()  # before the lock: somebody may be waiting for its answer
        with self._lock:
            if server is not None and mine:
                server.process.wait()
            if self._server is not None:
                self._server.line.close()
            self._server = None
            self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the server, where there is one."""
        return self._server.process.pid if self._server else None

    def _end(self, pids: list[int]) -> dict[int, int]:
        return self._request(("end", pids), [])

    def _is_running(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    def _running(self) -> _Server:
        """The server, started where this process has none that runs."""
        if self._server is None or self._owner != os.getpid() or not self._is_running():
            if self._server is not None:
                self._server.line.close()
            self._server, self._owner = _Server.started(), os.getpid()
        return self._server

    def _request(
        self, request: tuple, descriptors: list[int], cancelled: threading.Event | None = None
    ) -> Any:
        """Ask the server. A server that is gone is started again, once."""
        with self._lock:
            for _ in range(2):
                if request[0] == "end" and not self._is_running():
                    return {}  # its workers ended with it
                server = self._running()
                with contextlib.suppress(OSError):
                    return server.ask(request, descriptors, cancelled)
                server.process.wait()
                if self._stopping:
                    raise RunError("The pool was shut down.")
            raise RunError(
                f"The worker server ended with exit code {server.process.returncode}; its error is "
                "on standard error."
            )


class Spawner:
    """Starts each worker as a process of its own, where forking is not safe (macOS).

    Slower: each imports torch.
    """

    pid = None

    def start(self) -> None:
        """There is nothing to prepare."""

    stop = start

    def launch(
        self,
        board: int,
        ranks: int,
        modules: Sequence[str] = (),  # noqa: ARG002 - each worker imports what it needs
        *,
        threads: bool = False,
        cancelled: threading.Event | None = None,  # noqa: ARG002 - there is nothing to wait for
    ) -> Crew:
        """Start workers, as ``ForkServer.launch`` does."""
        pairs = [socket.socketpair() for _ in range(ranks)]
        pipes = [] if threads or ranks == 1 else [os.pipe() for _ in range(ranks)]
        for _, write in pipes:
            os.set_blocking(write, False)
        controls = [theirs.fileno() for _, theirs in pairs]
        wake, inboxes = [write for _, write in pipes], [read for read, _ in pipes]
        processes = []
        for rank in range(1 if threads else ranks):
            mine = slice(None) if threads else slice(rank, rank + 1)
            arguments = [os.getpid(), controls[mine], board, wake, inboxes[mine]]
            descriptors = [*controls[mine], board, *wake, *inboxes[mine]]
            processes.append(spawn_process("worker", "main_spawned", arguments, descriptors))
        for _, theirs in pairs:
            theirs.close()
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)

        def end(_: list[int]) -> dict[int, int]:
            for process in processes:
                process.kill()
            return {process.pid: process.wait() for process in processes}

        pids = [process.pid for process in processes]
        return Crew([Connection(mine.detach()) for mine, _ in pairs], pids, end)


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
    """Start the server in the background, so that the first run need not wait for it."""
    worker_source().start()


def shutdown() -> None:
    """End the server and all workers. The next run starts a new one."""
    for each in _sources.values():
        each.stop()
