"""A worker: one process, one rank.

It receives a function with its arguments, runs it, and sends the result.
"""

import contextlib
import os
import pickle
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from . import gpu
from .board import Board
from .clock import HostClock
from .layers import TURNS
from .rank import Rank, RankJob, RankResult
from .server import settle
from .threads import Hub, ThreadTransport
from .transport import SharedMemoryTransport, Transport


@dataclass(frozen=True)
class Place:
    """Where a function runs: its line to the driver, the file of the board, and how it reaches the
    other ranks.

    wake, inbox: of the shared-memory transport, where the rank is a process; hub: of the threads of
    this process, where ranks are threads.
    """

    control: Connection
    board: int
    wake: tuple[int, ...] = ()
    inbox: int = -1
    hub: Hub | None = None

    def device(self, rank: int) -> torch.device:
        """The GPU of a rank."""
        return gpu.device_of(rank)

    def transport(
        self, board: Board, rank: int, device: torch.device, clock: HostClock
    ) -> Transport:
        """How the rank reaches the others."""
        on_gpu = device.type == "cuda"
        if self.hub:
            return (
                gpu.GpuTransport(self.hub, rank, device, clock)
                if on_gpu
                else ThreadTransport(self.hub, rank)
            )
        shared = SharedMemoryTransport(board, rank, self.wake, self.inbox)
        return gpu.StagedTransport(shared, device) if on_gpu else shared

    def open_board(self, sizes: dict[str, int]) -> Board:
        return Board(self.board, **sizes)

    def tell(self, what: str, value: Any = None) -> None:
        self.control.send_bytes(pickle.dumps((what, value)))

    def ask(self, what: str, value: Any = None) -> Any:
        """The driver's answer. It only ever sends what was asked for, so it never waits for a
        worker that does not read.

        Raises EOFError without a driver.
        """
        self.tell(what, value)
        return pickle.loads(self.control.recv_bytes())


def main(controls: list[int], board: int, wake: list[int], inboxes: list[int]) -> None:
    """Runs one job for each line to the driver, and ends: one rank, or all of them in threads.

    wake, inboxes: of the shared-memory transport, for one rank. Ctrl-C reaches the driver, which
    decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if inboxes:
        work(Place(Connection(controls[0]), board, tuple(wake), inboxes[0]))
        return
    hub = Hub(len(controls))
    TURNS.lock = threading.Lock()
    places = [Place(Connection(control), board, hub=hub) for control in controls]
    threads = [
        threading.Thread(target=work, args=(place,), name=f"rank {i}")
        for i, place in enumerate(places)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(place: Place) -> None:
    """One job, from the line to the driver and back to it.

    A rank's backward stays on its own thread.
    """
    torch.set_num_threads(1)
    try:
        with torch.autograd.set_multithreading_enabled(False):
            function, arguments = cloudpickle.loads(place.control.recv_bytes())
            place.tell("done", function(place, *arguments))
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


def run_rank(place: Place, job: RankJob) -> RankResult:
    """A rank's whole run: get ready, wait for the others, train."""
    board = place.open_board(job.sizes)
    if job.device == "cuda":
        device = place.device(job.rank)
        with gpu.on_own_stream(device):
            clock = gpu.clock_of(
                board, job.rank, device, paced=job.durations is not None or job.latency > 0
            )
            transport = place.transport(board, job.rank, device, clock)
            result = _train(place, job, Rank(job, board, transport, clock, device))
            result.peak_memory = torch.cuda.max_memory_allocated(device)
            return result
    if job.torch is None:
        device, clock = torch.device("cpu"), HostClock(board, job.rank)
        rank = Rank(job, board, place.transport(board, job.rank, device, clock), clock, device)
    else:
        from .torch_rank import TorchRank  # a second of imports, only where it is asked for

        rank = TorchRank(job, board)
    return _train(place, job, rank)


def _train(place: Place, job: RankJob, rank: Any) -> RankResult:
    sequence, first = 0, job.batch
    if job.durations is not None:
        first = first or place.ask("batch", 0)
        sequence = 2
        place.tell("measured", rank.rehearse(first))
    place.ask("ready")  # answered when all others are ready too
    for number in range(job.steps):
        batch = job.batch or (first if number == 0 and first else place.ask("batch", number))
        sequence += 1
        rank.step(number, sequence, batch)
    return rank.result()
