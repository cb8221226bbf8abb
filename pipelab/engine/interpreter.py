"""The interpreter: executes the actions of one rank, in order. Every schedule runs through this loop.

Communication is implied by the placement. Messages are numbered by what they carry, so both sides agree without a word:
the output of stage s for micro-batch i is message s·m + i, the gradient of its input is message (S + s)·m + i.
"""

import struct
import time
from dataclasses import dataclass

import numpy as np
import torch

from ..schedule import Action, Kind, Schedule
from .board import BETWEEN, COMPUTING, TRACE, WAITING, Board
from .pace import Pace
from .stage import Seeds, Stage
from .transport import Transport

SUPPORTED = frozenset({Kind.F, Kind.B})
_ROW = struct.Struct(f"<{len(TRACE)}d")
_STATUS = struct.Struct("<4d")


@dataclass(frozen=True, slots=True)
class Step:
    """An action of this rank with its way in and out. None: no tensor crosses to another rank there."""

    atom: int
    kind: int
    stage: int
    microbatch: int
    message_in: int | None
    message_out: int | None
    to: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The micro-batches of one step; a rank has the inputs or the targets only if it runs the stage that needs them."""

    inputs: tuple[torch.Tensor, ...] | None
    targets: tuple[torch.Tensor, ...] | None
    weights: tuple[float, ...]


def program(schedule: Schedule, rank: int) -> list[Step]:
    """The steps of one rank."""
    stages, m = schedule.stages, schedule.microbatches
    home = schedule.placement_table[0].tolist()
    steps = []
    for atom in range(int(schedule.offsets[rank]), int(schedule.offsets[rank + 1])):
        kind, stage, microbatch = (int(c[atom]) for c in (schedule.kind, schedule.stage, schedule.microbatch))
        forward = kind == Kind.F
        source, sink = (stage - 1, stage + 1) if forward else (stage + 1, stage - 1)
        message_in = message_out = to = None
        if 0 <= source < stages and home[source] != rank:
            message_in = (source if forward else stages + source) * m + microbatch
        if 0 <= sink < stages and home[sink] != rank:
            message_out, to = (stage if forward else stages + stage) * m + microbatch, home[sink]
        steps.append(Step(atom, kind, stage, microbatch, message_in, message_out, to))
    return steps


def messages(schedule: Schedule) -> int:
    """How many message numbers a step needs."""
    return 2 * schedule.stages * schedule.microbatches


class Interpreter:
    """Executes the steps of one rank over its stages."""

    def __init__(
        self, rank: int, steps: list[Step], stages: dict[int, Stage], transport: Transport, board: Board, pace: Pace,
        timeout: float,
    ):  # fmt: skip
        self.rank, self.steps, self.stages = rank, steps, stages
        self._transport, self._board, self._timeout = transport, board, timeout
        self.pace, self.work_clock = pace, time.perf_counter
        self._last = next((index for index, stage in stages.items() if stage.loss), None)
        self._do = {Kind.F: self._forward, Kind.B: self._backward}
        self._local: dict[tuple[int, int, int], torch.Tensor] = {}  # (kind, stage, micro-batch) -> its input
        self._borrowed: dict[tuple[int, int], int] = {}  # (stage, micro-batch) -> the message that holds its input
        self._held = 0
        self._status_at = 8 * board.status.shape[1] * rank
        self.done = 0
        self._trace_at = board.trace.ctypes.data - np.frombuffer(board.memory, np.uint8, 1).ctypes.data
        self._row_bytes = 8 * len(TRACE)

    def run(self, number: int, sequence: int, batch: Batch, seeds: Seeds, record: bool) -> None:
        """One training step without the optimizer: gradients are added to ``.grad``.

        number: which step of the run; sequence: of its messages, one more at every call; record: write trace and losses.
        """
        self._batch, self._seeds, self._sequence = batch, seeds, sequence
        self._losses = self._board.losses[number] if record else np.zeros(len(batch.weights))
        self.pace.new_step()
        row = self._trace_at + number * self._board.trace.shape[1] * self._row_bytes
        clock, work_clock, memory = time.perf_counter, self.work_clock, self._board.memory
        ended = clock()
        for step in self.steps:
            asked, sent, planned = ended, ended, 0.0
            arrival = None
            if step.message_in is not None:
                self._status(number, step.atom, WAITING)
                arrival = self._receive(step)
                sent, planned = arrival.sent, arrival.planned
            self.pace.begin(step.kind, step.stage, sent if arrival else None, planned)
            self._status(number, step.atom, COMPUTING)
            started, work_began = clock(), work_clock()
            output, kept, freed = self._do[step.kind](step, arrival.tensor if arrival else None)
            worked = work_clock() - work_began
            self._held += kept
            held = self._held
            planned_end = self.pace.finish()
            ended = clock()
            self._held -= freed
            sent_bytes = 0
            if output is not None and step.message_out is not None:
                self._transport.send(step.to, step.message_out, sequence, output, planned_end)
                sent_bytes = output.nbytes
            elif output is not None:
                sink = step.stage + 1 if step.kind == Kind.F else step.stage - 1
                self._local[step.kind, sink, step.microbatch] = output
            if record:
                _ROW.pack_into(
                    memory, row + step.atom * self._row_bytes, asked, sent, started, started, ended, worked,
                    held, self._held, sent_bytes,
                )  # fmt: skip
                self.done += 1
                self._board.status[self.rank, 4] = self.done
        self._status(number, -1, BETWEEN)

    def _status(self, number: int, atom: int, phase: float) -> None:
        _STATUS.pack_into(self._board.memory, self._status_at, number, atom, phase, time.perf_counter())

    def _receive(self, step: Step):
        try:
            return self._transport.receive(step.message_in, self._sequence, time.perf_counter() + self._timeout)
        except TimeoutError:
            action = Action(Kind(step.kind), step.stage, step.microbatch)
            raise TimeoutError(f"{action} waited {self._timeout:g} s for its input") from None

    def _forward(self, step: Step, x: torch.Tensor | None) -> tuple[torch.Tensor | None, int, int]:
        """Returns what the next stage needs, bytes kept, bytes freed."""
        last = step.stage == self._last
        if step.stage == 0:
            x = self._batch.inputs[step.microbatch]
        elif x is None:
            x = self._local.pop((Kind.F, step.stage, step.microbatch))
        target = self._batch.targets[step.microbatch] if last else None
        weight = self._batch.weights[step.microbatch]
        output, kept = self.stages[step.stage].forward(step.microbatch, x, self._seeds, target, weight)
        if step.message_in is not None:  # read in place, so it stays until the backward is done
            self._borrowed[step.stage, step.microbatch] = step.message_in
        if last:
            self._losses[step.microbatch] = output.item()
            return None, kept, 0
        return output, kept, 0

    def _backward(self, step: Step, gradient: torch.Tensor | None) -> tuple[torch.Tensor | None, int, int]:
        """Returns what the stage before needs, bytes kept, bytes freed."""
        if gradient is not None:
            # A copy: autograd may keep a view of it as the gradient of a parameter.
            gradient = gradient.clone()
            self._transport.consumed(step.message_in, self._sequence)
        elif step.stage != self._last:
            gradient = self._local.pop((Kind.B, step.stage, step.microbatch))
        output, freed = self.stages[step.stage].backward(step.microbatch, gradient)
        borrowed = self._borrowed.pop((step.stage, step.microbatch), None)
        if borrowed is not None:
            self._transport.consumed(borrowed, self._sequence)
        return output if step.stage else None, 0, freed
