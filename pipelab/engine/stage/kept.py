"""What a stage needs for a micro-batch, and what it keeps of it from action to action."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from ..job.values import Value
from .deferred import Deferred
from .randomness import Seeds


class Task(NamedTuple):
    """What a forward needs beside its inputs.

    target: on the last stage, else None. share: of the micro-batch in the batch's mean loss.
    """

    seeds: Seeds | None
    target: Value | None
    share: float


@dataclass(slots=True)
class Kept:
    """What a stage keeps of a micro-batch from F to B or I.

    The outputs themselves are gone: only their places in the graph are kept, one per output that
    can have a gradient (None: it has none). roots: None while only the inputs are kept; buffers
    are then the layers' own as they stood at F.
    """

    value: Value
    task: Task
    version: int
    bytes: int = 0
    roots: list[GradientEdge | None] | None = None
    buffers: list[torch.Tensor] = field(default_factory=list)


@dataclass(slots=True)
class WaitingForW:
    """What a stage keeps of a micro-batch from I to W."""

    deferred: list[Deferred]
    version: int
    bytes: int


def shape_of(value: Value) -> tuple:
    """What tells values apart whose activations take other bytes."""
    return tuple(tensor.shape for tensor in value)
