"""The interpreter: executes the actions of one rank, in order. Every schedule runs through this
loop.

receive what the action needs ▸ wait for its time (paced) ▸ compute ▸ hand on the result ▸ write the
trace
"""

import math
import struct
import time
from collections.abc import Callable

import numpy as np
import torch

from ..schedule import Action, Kind
from .batches import Batch
from .board import BETWEEN, COMPUTING, WAITING, Board
from .clock import HostClock
from .layers import Seeds, Value
from .pace import Pace
from .program import Step
from .stage import Stage
from .transport import Arrival, Transport

MAX_PARTS = 8
"""The most tensors in a tuple between stages."""
_STATUS = struct.Struct("<4d")


class Interpreter:
    """Executes the steps of one rank over its stages, which are known by (replica, stage).

    stride: between the numbers of a tuple's parts. step_optimizer: called for STEP with (replica,
    stage).
    """

    def __init__(
        self,
        rank: int,
        steps: list[Step],
        stages: dict[tuple[int, int], Stage],
        transport: Transport,
        board: Board,
        pace: Pace,
        timeout: float,
        stride: int,
        clock: HostClock,
    ):
        self.rank, self.steps, self.stages = rank, steps, stages
        self.transport, self._board, self._timeout, self._stride = transport, board, timeout, stride
        self.pace, self.clock, self.work_clock = pace, clock, time.perf_counter
        self.step_optimizer: Callable[[int, int], None] = lambda replica, stage: None
        self.outputs: dict[int, Value] | None = None
        """Where evaluation puts what the last stage returns, by micro-batch; None: it is not
        wanted.
        """
        self._do = {
            Kind.F: self._forward,
            Kind.B: self._backward,
            Kind.I: self._input_gradient,
            Kind.W: self._weight_gradient,
            Kind.R: self._recompute,
            Kind.STEP: self._step,
        }
        self._cells: list[list[Step]] = []
        for step in steps:
            if step.paired:
                self._cells[-1].append(step)
            else:
                self._cells.append([step])
        self._local: dict[
            tuple[bool, int, int], Value
        ] = {}  # (forward?, stage, micro-batch) -> its input
        self._borrowed: dict[
            tuple[int, int], tuple[int, int]
        ] = {}  # (stage, micro-batch) -> its input's message and tensors
        self._held = 0
        self._status_at = 8 * board.status.shape[1] * rank
        self._unread: list[tuple[Step, torch.Tensor]] = []  # losses that a GPU has still to compute

    def run(self, number: int, sequence: int, batch: Batch, seeds: Seeds, record: bool) -> None:
        """One training step: gradients are added to ``.grad``.

        number: which step of the run; sequence: of its messages, one more at every call; record:
        write trace and losses.
        """
        self._batch, self._seeds, self._sequence = batch, seeds, sequence
        self._losses = self._board.losses[number] if record else np.zeros(len(batch.weights))
        self.pace.new_step()
        for stage in self.stages.values():
            stage.begin()
        clock, stamp, work_clock = self.clock, self.clock.stamp, self.work_clock
        clock.begin(number)
        ended = stamp()
        for cell in self._cells:
            asked, sent, planned, values = ended, None, 0.0, []
            for step in cell:
                value = None
                if step.message_in is not None:
                    self.status(number, step.atom, WAITING)
                    value, arrival = self._receive(step)
                    sent = arrival.sent if sent is None else clock.later(sent, arrival.sent)
                    planned = max(planned, arrival.planned)
                values.append(value)
            self.pace.begin(cell[0].atom, sent, planned)
            started, work_began = stamp(), work_clock()
            results, freed = [], 0
            for step, value in zip(cell, values):
                self.status(number, step.atom, COMPUTING)
                output, kept, gone = self._do[step.kind](step, value)
                results.append((output, self.stages[step.replica, step.stage].version))
                self._held += kept
                freed += gone
            if clock.settle:
                clock.settle()
            worked, held = work_clock() - work_began, self._held
            planned_end = self.pace.finish()
            ended = stamp()
            self._held -= freed
            for step, (output, version) in zip(cell, results):
                sent_bytes = 0 if output is None else self._hand_over(step, output, planned_end)
                if record:
                    clock.write(
                        step.atom,
                        asked,
                        asked if sent is None else sent,
                        started,
                        ended,
                        worked,
                        held,
                        self._held,
                        sent_bytes,
                        version,
                    )
                asked = sent = started  # of a pair, the first carries the wait and the work
                worked = 0.0
        clock.finish()
        self.pace.end_step()
        while self._unread:
            step, loss = self._unread.pop()
            self._set_loss(step, loss.item(), None)
        self.status(number, -1, BETWEEN)

    def status(self, number: int, atom: int, phase: float) -> None:
        """Says where this rank stands, for whoever watches. atom: -1 outside of the schedule's
        actions.
        """
        _STATUS.pack_into(
            self._board.memory, self._status_at, number, atom, phase, time.perf_counter()
        )

    def part(self, message: int, k: int) -> int:
        """The number of a tuple's part."""
        return message + k * self._stride

    def _receive(self, step: Step) -> tuple[Value, Arrival]:
        try:
            deadline, message = time.perf_counter() + self._timeout, step.message_in
            arrival = self.transport.receive(message, self._sequence, deadline)
            if not arrival.parts:
                return arrival.tensor, arrival
            more = [
                self.transport.receive(self.part(message, k), self._sequence, deadline)
                for k in range(1, arrival.parts)
            ]
            return (arrival.tensor, *(a.tensor for a in more)), (more or [arrival])[-1]
        except TimeoutError:
            action = Action(Kind(step.kind), step.stage, step.microbatch, step.replica)
            raise TimeoutError(f"{action} waited {self._timeout:g} s for its input") from None

    def _hand_over(self, step: Step, output: Value, planned: float) -> int:
        """Gives a result to the stage that needs it. Returns the bytes sent to another rank."""
        if step.message_out is None:
            sink = step.stage + 1 if step.kind == Kind.F else step.stage - 1
            self._local[step.kind == Kind.F, sink, step.microbatch] = output
            return 0
        if isinstance(output, torch.Tensor):
            self.transport.send(step.to, step.message_out, self._sequence, output, planned)
            return output.nbytes
        if len(output) > MAX_PARTS:
            raise TypeError(
                f"stage {step.stage} hands on {len(output)} tensors, but at most {MAX_PARTS} pass "
                "between stages: stack some of them, or cut the model elsewhere (partition=[...])"
            )
        for k, tensor in enumerate(output):
            message = self.part(step.message_out, k)
            self.transport.send(
                step.to, message, self._sequence, tensor, planned, parts=len(output)
            )
        return sum(tensor.nbytes for tensor in output)

    def _consumed(self, message: int, tensors: int) -> None:
        for k in range(tensors):
            self.transport.consumed(self.part(message, k), self._sequence)

    def _input(self, step: Step, value: Value | None) -> Value:
        if step.stage == 0:
            return self._batch.inputs[step.microbatch]
        return self._local.pop((True, step.stage, step.microbatch)) if value is None else value

    # One method per kind; each returns what the neighbouring stage needs, the bytes it keeps, and
    # the bytes it frees.

    def _forward(self, step: Step, value: Value | None) -> tuple[Value | None, int, int]:
        stage = self.stages[step.replica, step.stage]
        target = self._batch.targets[step.microbatch] if stage.loss else None
        if step.message_in is not None:  # read in place, so it stays until the backward is done
            self._borrowed[step.stage, step.microbatch] = step.message_in, _tensors(value)
        value = self._input(step, value)
        output, kept = stage.forward(
            step.microbatch,
            value,
            self._seeds,
            target,
            self._batch.weights[step.microbatch],
            recomputed=step.recomputed,
            version=step.version,
        )
        if stage.loss:
            self._note_loss(step, output, value)
            output = None
        return output, kept, 0

    def _backward(self, step: Step, gradient: Value | None) -> tuple[Value | None, int, int]:
        result = self._backward_through(step, gradient, split=False)
        self._release(step)
        return result

    def _input_gradient(self, step: Step, gradient: Value | None) -> tuple[Value | None, int, int]:
        return self._backward_through(step, gradient, split=True)

    def _weight_gradient(self, step: Step, _: None) -> tuple[None, int, int]:
        freed = self.stages[step.replica, step.stage].weight_gradient(step.microbatch)
        self._release(step)
        return None, 0, freed

    def _recompute(self, step: Step, _: None) -> tuple[None, int, int]:
        return None, self.stages[step.replica, step.stage].recompute(step.microbatch), 0

    def _step(self, step: Step, _: None) -> tuple[None, int, int]:
        self.step_optimizer(step.replica, step.stage)
        self.stages[step.replica, step.stage].stepped(step.version)
        return None, 0, 0

    def _backward_through(
        self, step: Step, gradient: Value | None, split: bool
    ) -> tuple[Value | None, int, int]:
        stage = self.stages[step.replica, step.stage]
        if gradient is not None:
            # a copy of it: autograd may keep a view of it as the gradient of a parameter
            received = gradient
            gradient = (
                received.clone()
                if isinstance(received, torch.Tensor)
                else tuple(t.clone() for t in received)
            )
            self._consumed(step.message_in, _tensors(received))
        elif not stage.loss:
            gradient = self._local.pop((False, step.stage, step.microbatch))
        return stage.backward(step.microbatch, gradient, split=split)

    def _release(self, step: Step) -> None:
        """Nothing needs the input of this stage any more."""
        borrowed = self._borrowed.pop((step.stage, step.microbatch), None)
        if borrowed is not None:
            self._consumed(*borrowed)

    def _note_loss(self, step: Step, output: torch.Tensor, value: Value) -> None:
        if output.is_cuda:  # to read it now would make the host wait
            self._unread.append((step, output))
        else:
            self._set_loss(step, output.item(), value)

    def _set_loss(self, step: Step, loss: float, value: Value | None) -> None:
        self._losses[step.microbatch] = loss
        if not math.isfinite(loss):
            where = f"it was computed by stage {step.stage}."
            if value is not None:
                parts = (value,) if isinstance(value, torch.Tensor) else value
                finite = all(bool(t.isfinite().all()) for t in parts)
                where = f"the input of stage {step.stage}, which computed it, " + (
                    "was finite, so it arose there."
                    if finite
                    else "was not finite either, so it arose on a stage before."
                )
            raise FloatingPointError(
                f"the loss of micro-batch {step.microbatch} is {loss}; {where} Its gradients "
                "would spoil every weight for good, so the run ends here. Often the learning "
                "rate is too large (a smaller one, or clip=1.0), the loss divides by 0 or takes "
                "its logarithm, or the data holds nan."
            )


def _tensors(value: Value) -> int:
    return 1 if isinstance(value, torch.Tensor) else len(value)
