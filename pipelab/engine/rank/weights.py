"""What the interpreter asks of whoever has a rank's weights (``update.Update``)."""

from typing import Protocol

from ..job.program import Instruction
from ..transport.protocol import Arrival


class Weights(Protocol):
    """What a rank does with its weights when the schedule says so."""

    def step_stage(self, instruction: Instruction) -> None:
        """STEP."""

    def collect(self, instruction: Instruction, planned: float) -> tuple[list[Arrival], int]:
        """UNSHARD, RESHARD or REDUCE_GRAD, its waiting: what arrived, and the bytes sent."""
        ...

    def unshard(self, instruction: Instruction) -> None:
        """UNSHARD."""

    def reshard(self, instruction: Instruction) -> None:
        """RESHARD."""

    def reduce(self, instruction: Instruction) -> None:
        """REDUCE_GRAD, its sum."""
