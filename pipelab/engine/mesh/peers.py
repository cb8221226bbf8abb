"""The others that a worker of a mesh works with, and what of the model is its own."""

from dataclasses import dataclass, field

import torch
from torch import nn

from ...schedule import Mesh, Place
from .collectives import Collectives
from .cuts import NO_PLAN, TensorPlan, share_of


@dataclass
class Peers:
    """The groups of a worker, None where it is alone in one.

    data: the copies that hold the same weights. tensor: those that share its layers. plan: how the
    layers are divided. summands: parameters that see a part of the sequence alone, so that their
    gradients are summed over ``tensor``. counted_by_first: parameters that all of ``tensor`` have
    alike, on all but the first of them.
    """

    mesh: Mesh = field(default_factory=Mesh)
    place: Place = Place(0, 0, 0)
    plan: TensorPlan = NO_PLAN
    data: Collectives | None = None
    tensor: Collectives | None = None
    summands: set[nn.Parameter] = field(default_factory=set)
    counted_by_first: set[nn.Parameter] = field(default_factory=set)

    @property
    def planned(self) -> float:
        """When this action means to end: the latest of those who share its layers (paced mode)."""
        return 0.0 if self.tensor is None else self.tensor.planned

    @planned.setter
    def planned(self, end: float) -> None:
        if self.tensor is not None:
            self.tensor.planned = end

    def spent(self) -> tuple[float, int]:
        """Seconds in collectives inside of actions, and the bytes sent, since the last call."""
        if self.tensor is None:
            return 0.0, 0
        found = self.tensor.seconds, self.tensor.bytes
        self.tensor.seconds, self.tensor.bytes = 0.0, 0
        return found

    def sent_to_copies(self) -> int:
        """Bytes sent to the other copies since the last call."""
        if self.data is None:
            return 0
        found, self.data.bytes = self.data.bytes, 0
        return found

    def forget(self) -> None:
        """What was sent between actions belongs to none."""
        self.spent()
        self.sent_to_copies()

    @property
    def is_home(self) -> bool:
        """Whether what all workers of a rank have alike comes home from here."""
        return self.place.data == 0 and self.place.tensor == 0

    def brings_home(self, name: str) -> bool:
        """Whether this worker brings home what it has of a parameter."""
        mine = self.place.data == 0 or self.mesh.zero > 0
        return mine and (self.place.tensor == 0 or name in self.plan.cuts)

    def own_part(self, name: str, whole: torch.Tensor) -> torch.Tensor:
        """This worker's part of what an optimizer keeps of a parameter."""
        if whole.dim() == 0:
            return whole
        cut = self.plan.cuts.get(name)
        if cut is not None and whole.dim() > cut.dim:
            whole = cut.of(whole, self.mesh.tensor, self.place.tensor)
        if self.mesh.zero:
            whole = share_of(whole, self.mesh.data, self.place.data)
        return whole.clone()
