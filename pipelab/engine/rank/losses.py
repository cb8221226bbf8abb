"""The losses of a rank's micro-batches: to the board, and refused where they are not finite."""

import math

import torch

from ..job.batches import Batch
from ..job.program import Instruction
from ..job.values import Value
from ..record.board import Board
from ..stage.layers import not_finite
from ..stage.loss_checks import all_ignored
from ..stage.stage import Stage


class Losses:
    """Where the losses of a rank go.

    board, first: where they stand. stages: of the rank, by (replica, stage). behind: they are
    computed by a GPU behind the host, and read when it has come to them.
    """

    def __init__(
        self, board: Board, first: int, stages: dict[tuple[int, int], Stage], *, behind: bool
    ):
        self._board, self._first, self._stages, self._behind = board, first, stages, behind
        self._unread: dict[int, tuple[Instruction, torch.Tensor]] = {}

    def begin(self, step: int, batch: Batch) -> None:
        """A training step begins."""
        self._batch, self._of_step = batch, self._board.losses[step, self._first :]

    def end(self) -> None:
        """The step is over: its batch is let go."""
        del self._batch

    def note(self, instruction: Instruction, loss: torch.Tensor, value: Value) -> None:
        """A forward of the last stage has its loss. value: its input.

        Raises FloatingPointError for one that is not finite, where it is known at once.
        """
        if self._behind:  # to read it now would make the host wait
            self._unread[instruction.atom] = instruction, loss.to("cpu", non_blocking=True)
        else:
            self._set(instruction, loss.item(), value)

    def read(self, atom: int) -> None:
        """A GPU has done an action: its loss is here, if it has one.

        Whoever sees its row sees its loss. Raises FloatingPointError as ``note`` does.
        """
        if atom in self._unread:
            instruction, loss = self._unread.pop(atom)
            self._set(instruction, loss.item(), None)

    def _set(self, instruction: Instruction, loss: float, value: Value | None) -> None:
        self._of_step[instruction.microbatch] = loss
        if not math.isfinite(loss):
            microbatch, stage = instruction.microbatch, instruction.stage
            target = self._batch.targets_of(microbatch)
            loss_fn = self._stages[instruction.replica, stage].loss
            ignored = all_ignored(loss_fn, target)
            raise not_finite(loss, microbatch, stage, value, ignored)
