"""Evaluation: the forwards of a schedule through the same interpreter."""

from typing import Any

import torch

from ..job.program import Instruction
from ..job.values import Value
from ..stage.stage import Stage
from .interpreter import Done, Interpreter


class Evaluator(Interpreter):
    """Runs the forwards alone, and keeps nothing for a backward.

    outputs: what the last layer returned in the step, by micro-batch; None: it is not wanted.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.outputs: dict[int, Value] | None = None

    def _forward(self, instruction: Instruction, stage: Stage, value: Value | None) -> Done:
        if value is not None and instruction.message_in is not None:
            received, value = value, value.each(torch.clone)  # a layer may return what it was given
            self._mail.release(instruction.message_in, len(received))
        value = self._input(instruction, value)
        output, last = stage.infer(instruction.microbatch, value, self._task(instruction, stage))
        if stage.loss is None:
            return output, 0, 0
        self._losses.note(instruction, output[0], value)
        if self.outputs is not None:
            self.outputs[instruction.microbatch] = last
        return None, 0, 0
