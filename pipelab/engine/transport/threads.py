"""Ranks as threads of one worker process: nothing is copied between them.

Several can share a GPU. torch lets go of Python's lock while it computes, so threads are as fast as
processes where the model's work is torch's. The process belongs to the pool, never to the kernel: a
crash in it ends the run, not the notebook.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from .protocol import Arrival


@dataclass
class Hub:
    """Where the threads of a run leave tensors for each other: a box and a bell per rank.

    bases: of the clocks of ranks on GPUs, which share them.
    """

    ranks: int
    bases: dict = field(default_factory=dict)
    boxes: list[dict[tuple[int, int], tuple]] = field(init=False)
    bells: list[threading.Condition] = field(init=False)

    def __post_init__(self) -> None:
        """Make the boxes and the bells."""
        self.boxes = [{} for _ in range(self.ranks)]
        self.bells = [threading.Condition() for _ in range(self.ranks)]


class ThreadTransport:
    """Between threads of one process: the receiver gets the sender's tensor itself."""

    carrier: str = "references in one process"

    def __init__(self, hub: Hub, rank: int):
        self._hub, self._box, self._bell = hub, hub.boxes[rank], hub.bells[rank]

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Hand a tensor to rank ``to`` and return at once."""
        self._put(
            to, message, sequence, Arrival(tensor.detach(), time.perf_counter(), planned, parts)
        )

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Wait for a message. Raises TimeoutError at ``deadline``."""
        return self._take(message, sequence, deadline)[0]

    def consumed(self, message: int, sequence: int) -> None:
        """The tensor goes with the last who holds it."""

    def _put(self, to: int, message: int, sequence: int, *what: Any) -> None:
        bell = self._hub.bells[to]
        with bell:
            self._hub.boxes[to][message, sequence] = what
            bell.notify()

    def _take(self, message: int, sequence: int, deadline: float) -> tuple:
        key = message, sequence
        with self._bell:
            left = min(deadline - time.perf_counter(), threading.TIMEOUT_MAX)
            if not self._bell.wait_for(lambda: key in self._box, left):
                raise TimeoutError
            return self._box.pop(key)
