"""The interpreter: executes the instructions of one rank, in order. Every schedule runs through it.

[1] receive what the actions need ▸ [2] wait for their time (paced) ▸ [3] compute
▸ [4] hand on the results ▸ [5] write the trace
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from ...schedule import Kind
from ...schedule.kinds import COLLECTIVES
from ..job.batches import Batch
from ..job.program import Instruction
from ..job.values import MAX_PARTS, Value
from ..mesh.peers import Peers
from ..record.board import BETWEEN, COMPUTING, WAITING, Board
from ..record.clock import HostClock
from ..stage.gradients import can_have_gradient
from ..stage.kept import Task
from ..stage.randomness import Seeds
from ..stage.stage import Stage
from .losses import Losses
from .mail import Mail
from .pace import Pace
from .weights import Weights

Done = tuple[Value | None, int, int]
"""Of an action: what the neighbouring stage needs, the bytes it keeps, and the bytes it frees."""

Cell = list[tuple[Instruction, Stage, Callable[[Instruction, Stage, Value | None], Done]]]
"""One action, or two that overlap, each with its stage and the method of its kind."""


class Interpreter:
    """Executes the instructions of one rank.

    Args:
        instructions: in order.
        stages: of this rank, by (replica, stage).
        mail: of this rank.
        board: where losses go.
        clock: stamps the actions and writes the trace.
        weights: what the rank does with them when the schedule says so.
        peers: those whom it meets inside of actions.
        first_loss: where the losses of its micro-batches begin.
    """

    def __init__(
        self,
        instructions: list[Instruction],
        stages: dict[tuple[int, int], Stage],
        mail: Mail,
        board: Board,
        clock: HostClock,
        weights: Weights,
        peers: Peers | None = None,
        first_loss: int = 0,
    ):
        self.stages, self._mail, self._clock = stages, mail, clock
        self._peers, self._weights = peers or Peers(), weights
        do: dict[int, Callable[[Instruction, Stage, Value | None], Done]] = {
            Kind.F: self._forward,
            Kind.B: self._backward,
            Kind.I: self._input_gradient,
            Kind.W: self._weight_gradient,
            Kind.R: self._recompute,
            Kind.STEP: self._step_optimizer,
            Kind.UNSHARD: self._gather_weights,
            Kind.RESHARD: self._give_weights_back,
            Kind.REDUCE_GRAD: self._reduce_gradients,
        }
        self._cells: list[Cell] = []
        for each in instructions:
            if not each.paired:
                self._cells.append([])
            self._cells[-1].append((each, stages[each.replica, each.stage], do[each.kind]))
        self._local: dict[tuple[bool, int, int], Value] = {}
        """Values that stay on this rank, by (forward?, stage that needs it, micro-batch)."""
        self._borrowed: dict[tuple[int, int], tuple[int, int]] = {}
        """Message and tensors of an input in use, by (stage, micro-batch)."""
        self._held = 0
        self._losses = Losses(board, first_loss, stages, behind=clock.behind)
        clock.has_passed = self._losses.read

    def run(
        self,
        step: int,
        batch: Batch,
        seeds: Seeds,
        pace: Pace,
        work_clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Execute one training step: gradients are added to ``.grad``.

        Args:
            step: which one of the run.
            batch: its micro-batches.
            seeds: of its random numbers.
            pace: when actions start and end.
            work_clock: measures what an action computes.
        """
        self._batch, self._seeds = batch, seeds
        self._losses.begin(step, batch)
        self._pace, self._work_clock = pace, work_clock
        self._mail.begin_step(step)
        pace.begin_step()
        for stage in self.stages.values():
            stage.begin()
        self._clock.begin(step)
        ended = self._clock.stamp()
        for cell in self._cells:
            ended = self._execute(cell, ended)
        self._clock.finish()
        pace.end_step()
        del self._batch  # or its memory would be held until the next has come
        self._losses.end()
        self._mail.stand(-1, BETWEEN)

    def _execute(self, cell: Cell, asked: Any) -> Any:
        """Execute one action, or two that overlap. asked, and the result: stamps."""
        clock, mail = self._clock, self._mail
        sent, planned, inputs, sent_bytes = None, 0.0, [], 0
        for instruction, _, _ in cell:  # [1]
            value, arrivals = None, []
            if instruction.message_in is not None:
                mail.stand(instruction.atom, WAITING)
                value, arrival = mail.receive(instruction.message_in, instruction)
                arrivals = [arrival]
            elif instruction.kind in COLLECTIVES:
                mail.stand(instruction.atom, WAITING)
                arrivals, sent_bytes = self._weights.collect(instruction, self._pace.free)
            for arrival in arrivals:
                sent = arrival.sent if sent is None else clock.later(sent, arrival.sent)
                planned = max(planned, arrival.planned)
            inputs.append(value)
        self._peers.planned = self._pace.begin(cell[0][0].atom, sent, planned)  # [2]
        started, work_began = clock.stamp(), self._work_clock()
        outputs, freed = [], 0
        for (instruction, stage, do), value in zip(cell, inputs, strict=True):  # [3]
            mail.stand(instruction.atom, COMPUTING)
            output, kept, gone = do(instruction, stage, value)
            outputs.append((output, stage.version))
            self._held += kept
            freed += gone
        if clock.settle:
            clock.settle()
        worked, held = self._work_clock() - work_began, self._held
        planned_end = self._pace.finish(self._peers.planned)
        ended = clock.stamp()
        self._held -= freed
        sent = asked if sent is None else sent
        for (instruction, _, _), (output, version) in zip(cell, outputs, strict=True):
            if output is not None:
                sent_bytes = self._hand_on(instruction, output, planned_end)  # [4]
            sent_bytes += self._peers.sent_to_copies()
            rest = (worked, held, self._held, sent_bytes, version, *self._peers.spent())
            clock.write(instruction.atom, asked, sent, started, ended, *rest)  # [5]
            asked = sent = started  # of a pair, the first carries the wait and the work
            worked, sent_bytes = 0.0, 0
        return ended

    def _hand_on(self, instruction: Instruction, output: Value, planned: float) -> int:
        """Give a result to the stage that needs it. Returns the bytes sent to another rank."""
        if instruction.message_out is None or instruction.to is None:
            forward = instruction.kind == Kind.F
            sink = instruction.stage + (1 if forward else -1)
            self._local[forward, sink, instruction.microbatch] = output
            return 0
        if len(output) > MAX_PARTS:
            raise TypeError(
                f"stage {instruction.stage} hands on {len(output)} tensors, but at most "
                f"{MAX_PARTS} pass between stages: stack some of them, or cut the model elsewhere "
                "(partition=[...])"
            )
        return self._mail.send(instruction.to, instruction.message_out, output, planned)

    def _input(self, instruction: Instruction, value: Value | None) -> Value:
        if instruction.stage == 0:
            return self._batch.inputs_of(instruction.microbatch)
        if value is None:
            return self._local.pop((True, instruction.stage, instruction.microbatch))
        return value

    def _task(self, instruction: Instruction, stage: Stage) -> Task:
        is_last = stage.loss is not None
        target = self._batch.targets_of(instruction.microbatch) if is_last else None
        return Task(self._seeds, target, self._batch.shares[instruction.microbatch])

    # One method per kind.

    def _forward(self, instruction: Instruction, stage: Stage, value: Value | None) -> Done:
        microbatch = instruction.microbatch
        if instruction.message_in is not None and value is not None:
            # Read in place, so it stays until the backward is done.
            self._borrowed[stage.index, microbatch] = instruction.message_in, len(value)
            if not all(map(can_have_gradient, value)):  # may become the indices of a sparse one
                value = value.each(lambda t: t if can_have_gradient(t) else t.clone())
        value = self._input(instruction, value)
        output, kept = stage.forward(
            microbatch,
            value,
            self._task(instruction, stage),
            recomputed=instruction.recomputed,
            version=instruction.version,
        )
        if stage.loss is None:
            return output, kept, 0
        self._losses.note(instruction, output[0], value)
        return None, kept, 0

    def _backward(self, instruction: Instruction, stage: Stage, gradient: Value | None) -> Done:
        result = self._backward_through(instruction, stage, gradient, split=False)
        self._release_input(instruction)
        return result

    def _input_gradient(
        self, instruction: Instruction, stage: Stage, gradient: Value | None
    ) -> Done:
        return self._backward_through(instruction, stage, gradient, split=True)

    def _weight_gradient(self, instruction: Instruction, stage: Stage, _: Value | None) -> Done:
        freed = stage.weight_gradient(instruction.microbatch)
        self._release_input(instruction)
        return None, 0, freed

    def _recompute(self, instruction: Instruction, stage: Stage, _: Value | None) -> Done:
        return None, stage.recompute(instruction.microbatch), 0

    def _step_optimizer(self, instruction: Instruction, stage: Stage, _: Value | None) -> Done:
        self._weights.step_stage(instruction)
        stage.stepped(instruction.version)
        return None, 0, 0

    def _gather_weights(self, instruction: Instruction, _stage: Stage, _: Value | None) -> Done:
        self._weights.unshard(instruction)
        for stage in self.stages.values():
            stage.weights_moved()
        return None, 0, 0

    def _give_weights_back(self, instruction: Instruction, _stage: Stage, _: Value | None) -> Done:
        self._weights.reshard(instruction)
        return None, 0, 0

    def _reduce_gradients(self, instruction: Instruction, _stage: Stage, _: Value | None) -> Done:
        self._weights.reduce(instruction)
        return None, 0, 0

    def _backward_through(
        self, instruction: Instruction, stage: Stage, received: Value | None, *, split: bool
    ) -> Done:
        gradient = None
        if received is not None and instruction.message_in is not None:
            # A copy of it: autograd may keep a view of it as the gradient of a parameter.
            gradient = received.each(torch.clone)
            self._mail.release(instruction.message_in, len(received))
        elif stage.loss is None:
            gradient = self._local.pop((False, stage.index, instruction.microbatch))
        return stage.backward(instruction.microbatch, gradient, split=split)

    def _release_input(self, instruction: Instruction) -> None:
        """Nothing needs the input of this stage any more."""
        borrowed = self._borrowed.pop((instruction.stage, instruction.microbatch), None)
        if borrowed is not None:
            self._mail.release(*borrowed)
