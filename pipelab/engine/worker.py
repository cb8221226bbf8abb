"""A worker: one process, one rank. It receives a function with its arguments, runs it, and sends the result."""

import contextlib
import functools
import os
import pickle
import signal
import statistics
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from .board import TRACE, Board
from .interpreter import Batch, Interpreter, Step
from .pace import Pace
from .server import settle
from .ship import pack
from .stage import Seeds, Stage
from .threads import Hub, ThreadTransport
from .transport import SharedMemoryTransport, Transport


@dataclass(frozen=True)
class Place:
    """Where a function runs: its line to the driver, the file of the board, and how it reaches the other ranks.

    transport: (board, rank) -> Transport.
    """

    control: Connection
    board: int
    transport: Callable[[Board, int], Transport]

    def open_board(self, sizes: dict[str, int]) -> Board:
        return Board(self.board, **sizes)

    def tell(self, what: str, value: Any = None) -> None:
        self.control.send_bytes(pickle.dumps((what, value)))

    def ask(self, what: str, value: Any = None) -> Any:
        """The driver's answer. It only ever sends what was asked for, so it never waits for a worker that does not read.

        Raises EOFError without a driver.
        """
        self.tell(what, value)
        return pickle.loads(self.control.recv_bytes())


def main(controls: list[int], board: int, wake: list[int], inboxes: list[int]) -> None:
    """Runs one job for each line to the driver, and ends: one rank, or all of them in threads.

    wake, inboxes: of the shared-memory transport, for one rank. Ctrl-C reaches the driver, which decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if inboxes:
        shared = functools.partial(SharedMemoryTransport, wake=wake, inbox=inboxes[0])
        work(Place(Connection(controls[0]), board, shared))
        return
    hub = Hub(len(controls))
    places = [Place(Connection(control), board, lambda _, rank: ThreadTransport(hub, rank)) for control in controls]
    threads = [threading.Thread(target=work, args=(place,), name=f"rank {i}") for i, place in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(place: Place) -> None:
    """One job, from the line to the driver and back to it. A rank's backward stays on its own thread."""
    torch.set_num_threads(1)
    try:
        with torch.autograd.set_multithreading_enabled(False):
            function, arguments = cloudpickle.loads(place.control.recv_bytes())
            place.tell("done", function(place, *arguments))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the driver may be gone
            place.tell("error", (type(error).__name__, str(error), traceback.format_exc()))


def main_spawned(parent: int, controls: list[int], board: int, wake: list[int], inboxes: list[int]) -> None:
    """``main`` in a process of its own rather than a fork of the server."""
    settle(parent)
    os.dup2(2, 1)  # what a model prints must not mix with a command's JSON
    main(controls, board, wake, inboxes)
    os._exit(0)


@dataclass(frozen=True)
class RankJob:
    """All that a rank needs for a run. stages: index -> (layers as (index, name, module), loss or None)."""

    rank: int
    sizes: dict[str, int]
    program: list[Step]
    stages: dict[int, tuple[list, Callable | None]]
    optimizer: Callable | None
    steps: int
    batch: Batch | None
    seed: int
    durations: dict[tuple[int, int], float] | None
    latency: float
    timeout: float


@dataclass
class RankResult:
    """What a rank brings home: packed gradients of the last step, the weights they belong to, and the state after it."""

    gradients: dict[str, tuple] = field(default_factory=dict)
    before: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)


def run_rank(place: Place, job: RankJob) -> RankResult:
    """A rank's whole run: get ready, wait for the others, train."""
    board = place.open_board(job.sizes)
    stages = {i: Stage(i, [(n, m) for n, _, m in layers], loss) for i, (layers, loss) in job.stages.items()}
    named = {f"{name}.{k}": p for layers, _ in job.stages.values() for _, name, m in layers for k, p in m.named_parameters()}
    buffers = {f"{name}.{k}": b for layers, _ in job.stages.values() for _, name, m in layers for k, b in m.named_buffers()}
    parameters = list(dict.fromkeys(named.values()))
    optimizer = job.optimizer(parameters) if job.optimizer and parameters else None
    transport = place.transport(board, job.rank)
    pace = Pace(job.durations, job.latency)
    interpreter = Interpreter(job.rank, job.program, stages, transport, board, pace, job.timeout)
    sequence, first = 0, job.batch
    if job.durations is not None:
        first = first or place.ask("batch", 0)
        sequence = 2
        place.tell("measured", _rehearse(interpreter, board, job, first, buffers, parameters))
    place.ask("ready")  # answered when all others are ready too
    result = RankResult()
    for number in range(job.steps):
        batch = job.batch or (first if number == 0 and first else place.ask("batch", number))
        for parameter in parameters:
            parameter.grad = None
        sequence += 1
        interpreter.run(number, sequence, batch, Seeds(job.seed, number), record=True)
        if number == job.steps - 1:
            result.gradients = pack({k: p.grad for k, p in named.items() if p.grad is not None})
            if optimizer:
                result.before = pack(named)
        if optimizer:
            optimizer.step()
    result.state = pack(buffers | (named if optimizer else {}))
    return result


def _rehearse(
    interpreter: Interpreter, board: Board, job: RankJob, batch: Batch, buffers: dict, parameters: list
) -> dict[tuple[int, int], float]:
    """Two steps at full speed, of which nothing stays: processor seconds of each (kind, stage), from the second."""
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    pace, interpreter.pace, interpreter.work_clock = interpreter.pace, Pace(None, 0), time.thread_time
    for sequence in (1, 2):
        interpreter.run(0, sequence, batch, Seeds(job.seed, 0), record=True)
    interpreter.pace, interpreter.work_clock, interpreter.done = pace, time.perf_counter, 0
    board.status[job.rank] = 0
    for name, buffer in buffers.items():
        buffer.copy_(kept[name])
    for parameter in parameters:
        parameter.grad = None
    worked: dict[tuple[int, int], list[float]] = {}
    for step in job.program:
        worked.setdefault((step.kind, step.stage), []).append(float(board.trace[0, step.atom, TRACE.index("worked")]))
    return {key: statistics.median(values) for key, values in worked.items()}
