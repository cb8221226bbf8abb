"""A worker: one process, one rank. It receives a function with its arguments, runs it, and sends the result."""

import contextlib
import os
import pickle
import signal
import statistics
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
    board = Board(place.board, **job.sizes)
    stages = {i: Stage(i, [(n, m) for n, _, m in layers], loss) for i, (layers, loss) in job.stages.items()}
    named = {f"{name}.{k}": p for layers, _ in job.stages.values() for _, name, m in layers for k, p in m.named_parameters()}
    buffers = {f"{name}.{k}": b for layers, _ in job.stages.values() for _, name, m in layers for k, b in m.named_buffers()}
    parameters = list(dict.fromkeys(named.values()))
    optimizer = job.optimizer(parameters) if job.optimizer and parameters else None
    transport = SharedMemoryTransport(board, job.rank, place.wake, place.inbox)
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
