"""A worker: one process, one rank. It receives a function with its arguments, runs it, and sends the result."""

import contextlib
import os
import pickle
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from .board import Board
from .rank import Rank, RankJob, RankResult
from .server import settle
from .transport import SharedMemoryTransport


@dataclass(frozen=True)
class Place:
    """Where a function runs: its line to the driver, and the descriptors of the run."""

    control: Connection
    board: int
    wake: list[int]
    inbox: int

    def tell(self, what: str, value: Any = None) -> None:
        self.control.send_bytes(pickle.dumps((what, value)))

    def ask(self, what: str, value: Any = None) -> Any:
        """The driver's answer. It only ever sends what was asked for, so it never waits for a worker that does not read.

        Raises EOFError without a driver.
        """
        self.tell(what, value)
        return pickle.loads(self.control.recv_bytes())


def main(control: int, board: int, wake: list[int], inbox: int) -> None:
    """Runs one job and ends. Ctrl-C reaches the driver, which decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    place = Place(Connection(control), board, wake, inbox)
    try:
        function, arguments = cloudpickle.loads(place.control.recv_bytes())
        place.tell("done", function(place, *arguments))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the driver may be gone
            place.tell("error", (type(error).__name__, str(error), traceback.format_exc()))


def main_spawned(parent: int, control: int, board: int, wake: list[int], inbox: int) -> None:
    """``main`` in a process of its own rather than a fork of the server."""
    settle(parent)
    os.dup2(2, 1)  # what a model prints must not mix with a command's JSON
    main(control, board, wake, inbox)
    os._exit(0)


def run_rank(place: Place, job: RankJob) -> RankResult:
    """A rank's whole run: get ready, wait for the others, train."""
    board = Board(place.board, **job.sizes)
    transport = SharedMemoryTransport(board, job.rank, place.wake, place.inbox)
    rank = Rank(job, board, transport)
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
