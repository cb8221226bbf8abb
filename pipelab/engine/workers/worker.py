"""A worker: one process, one rank or several. It receives functions and sends their results."""

import contextlib
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from ..job.rank_job import RankJob
from ..record.board import Board
from ..record.clock import HostClock
from ..stage.randomness import TURNS
from ..transport import gpu, ipc
from ..transport.group import Group, SharedMemoryGroup
from ..transport.protocol import Transport
from ..transport.shared_memory import SharedMemoryTransport
from ..transport.threads import Hub, ThreadTransport
from . import (
    parcel,
    seat,  # noqa: F401 - what jobs run: imported before the fork, not after it
)
from .process import settle


@dataclass
class WorkerSeat:
    """Where a function runs: its line to the driver, the board, and how it reaches other ranks.

    wake, inbox: of the shared-memory transport, where the rank is a process; hub: of the threads of
    this process, where ranks are threads.
    """

    control: Connection
    board: int
    wake: tuple[int, ...] = ()
    inbox: int = -1
    hub: Hub | None = None
    _ipc: ipc.IpcTransport | None = field(default=None, init=False)

    @property
    def bases(self) -> dict:
        """From what the clocks of ranks on GPUs count, for all ranks of the process."""
        return self.hub.bases if self.hub else {}

    def open_board(self, sizes: dict[str, int]) -> Board:
        """The shared memory of the run."""
        return Board(self.board, **sizes)

    def device(self, rank: int) -> torch.device:
        """The GPU of a rank."""
        return gpu.device_of(rank)

    def transport(
        self, job: RankJob, board: Board, device: torch.device, clock: HostClock
    ) -> Transport:
        """How the rank reaches the others, as ``transport.choose`` says."""
        on_gpu, rank = device.type == "cuda", job.worker
        if self.hub:
            if on_gpu:
                return gpu.GpuTransport(self.hub, rank, device, clock)
            return ThreadTransport(self.hub, rank)
        if on_gpu:
            shared = gpu.RegisteredTransport(board, rank, self.wake, self.inbox, device)
            meet = partial(self.ask, "meet")
            found = ipc.between_processes(shared, rank, job.pipeline, device, meet)
            if isinstance(found, ipc.IpcTransport):
                self._ipc = found
            self.tell("transport", found.carrier)
            return found
        return SharedMemoryTransport(board, rank, self.wake, self.inbox)

    def group(
        self,
        job: RankJob,
        board: Board,
        transport: Transport,
        kind: int,
        workers: list[int],
        waits: Callable[[float], None],
    ) -> Group:
        """Through shared memory: a GPU's tensors pass through the host's."""
        if isinstance(transport, gpu.StagedTransport):
            transport = transport.over
        assert isinstance(transport, SharedMemoryTransport)
        limit = job.recipe.limit
        return SharedMemoryGroup(board, transport, workers, job.worker, kind, limit, waits)

    def leave(self) -> None:
        """Wait until nobody reads this process's memory on a GPU any more: it goes with it."""
        if self._ipc is not None:
            self._ipc.finish()
            self.ask("meet")

    def tell(self, what: str, value: Any = None) -> None:
        """Tell the driver something."""
        parcel.send(self.control, what, value)

    def ask(self, what: str, value: Any = None) -> Any:
        """The driver's answer.

        The driver only ever sends what was asked for, so it never waits for a worker that does not
        read. Raises EOFError without a driver.
        """
        self.tell(what, value)
        return pickle.loads(self.control.recv_bytes())


def main(controls: list[int], board: int, wake: list[int], inboxes: list[int]) -> None:
    """Run one job for each line to the driver, and end: one rank, or all of them in threads.

    Ctrl-C reaches the driver, which decides.

    Args:
        controls: the lines.
        board: the file of the board.
        wake: the write ends of all ranks' pipes, of the shared-memory transport.
        inboxes: the read end of this rank's; none where ranks are threads.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By default CUDA has 8 queues for all streams: of more ranks, one could hold up another.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    if inboxes:
        work(WorkerSeat(Connection(controls[0]), board, tuple(wake), inboxes[0]))
        return
    hub = Hub(len(controls))
    TURNS.lock = threading.Lock()
    seats = [WorkerSeat(Connection(control), board, hub=hub) for control in controls]
    threads = []
    for rank, place in enumerate(seats):
        threads.append(threading.Thread(target=work, args=(place,), name=f"rank {rank}"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(place: WorkerSeat) -> None:
    """Run one job, from the line to the driver and back to it.

    A rank's backward stays on its thread.
    """
    torch.set_num_threads(1)
    try:
        with torch.autograd.set_multithreading_enabled(False):
            function, arguments = cloudpickle.loads(place.control.recv_bytes())
            result = function(place, *arguments)
            place.leave()
            place.tell("done", result)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the driver may be gone
            place.tell("error", (type(error).__name__, str(error), traceback.format_exc()))


def main_spawned(
    parent: int, controls: list[int], board: int, wake: list[int], inboxes: list[int]
) -> None:
    """``main`` in a process of its own rather than a fork of the server."""
    settle(parent)
    os.dup2(2, 1)  # what a model prints must not mix with a command's JSON
    main(controls, board, wake, inboxes)
    os._exit(0)
