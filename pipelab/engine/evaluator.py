"""Evaluation: the forwards of a schedule through the same interpreter, with nothing kept for a
backward.
"""

import torch

from .interpreter import Interpreter
from .layers import Value
from .program import Step


class Evaluator(Interpreter):
    """Runs the forwards alone, and keeps nothing for a backward."""

    def _forward(self, step: Step, value: Value | None) -> tuple[Value | None, int, int]:
        stage = self.stages[step.replica, step.stage]
        if value is not None:  # copied, because a layer may return what it was given
            received = value
            value = (
                received.clone()
                if isinstance(received, torch.Tensor)
                else tuple(t.clone() for t in received)
            )
            self._consumed(
                step.message_in, 1 if isinstance(received, torch.Tensor) else len(received)
            )
        value = self._input(step, value)
        target = self._batch.targets[step.microbatch] if stage.loss else None
        output, last = stage.infer(
            step.microbatch, value, self._seeds, target, self._batch.weights[step.microbatch]
        )
        if not stage.loss:
            return output, 0, 0
        self._note_loss(step, output, value)
        if self.outputs is not None:
            self.outputs[step.microbatch] = last
        return None, 0, 0
