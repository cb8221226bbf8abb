"""What ranks exchange beside the values between stages: gradients of copies, and meetings.

A parameter has copies where the schedule runs the model twice (Chimera, DualPipe), and where layers
on different ranks share it (tied weights). Every holder sends its gradient to the others, and all
sum in the same order, so the copies stay equal to the bit. These messages are numbered after those
of the schedule, in one order for the whole run: whoever follows it (``transfers``) can never wait
in a circle.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from ...schedule import Schedule
from .program import messages

Layer = tuple[int, str, nn.Module]
"""(index in the whole model, name, module)"""


class Transfer(NamedTuple):
    """A tensor from one rank to another after the last backward."""

    source: int
    target: int
    message: int


@dataclass(frozen=True)
class Shared:
    """Parameters of which several holders have a copy.

    holders: (replica, rank), in the order of summing. names[i]: what holder i calls them. Holder
    i's gradients go to rank ranks[j] as message first + i · len(ranks) + j.
    """

    holders: tuple[tuple[int, int], ...]
    names: tuple[tuple[str, ...], ...]
    first: int

    @property
    def ranks(self) -> list[int]:
        """The ranks of the holders, each once."""
        return list(dict.fromkeys(rank for _, rank in self.holders))

    def transfers(self) -> list[Transfer]:
        """Every holder tells the ranks of the others."""
        result = []
        for i, (_, rank) in enumerate(self.holders):
            for j, other in enumerate(self.ranks):
                if other != rank:
                    result.append(Transfer(rank, other, self.first + i * len(self.ranks) + j))
        return result

    def holder_of(self, transfer: Transfer) -> int:
        """The number of the holder whose gradients a transfer carries."""
        return (transfer.message - self.first) // len(self.ranks)


@dataclass(frozen=True)
class Exchange:
    """All that ranks exchange between two steps.

    meeting: number of the first message of a meeting, in which the ranks sum a number; None where
    none is needed. It is for clipping; and a rank that needs no other's gradients for its next step
    must not overtake those who have not read its last messages. total: how many message numbers a
    step needs, its actions' included.
    """

    shared: list[Shared]
    meeting: int | None
    ranks: int
    total: int

    def transfers(self) -> list[Transfer]:
        """Every transfer of the run, in the order in which each rank makes its own."""
        result = []
        for shared in self.shared:
            result += shared.transfers()
        return result + self.of_meeting()

    def of_meeting(self) -> list[Transfer]:
        """Every rank tells rank 0, which tells every rank the sum."""
        if self.meeting is None:
            return []
        others = range(1, self.ranks)
        up = [Transfer(rank, 0, self.meeting + rank) for rank in others]
        return up + [Transfer(0, rank, self.meeting + self.ranks + rank) for rank in others]


def plan_exchange(stages: list[list[Layer]], schedule: Schedule, *, meet: bool) -> Exchange:
    """Find who shares which parameters, from the placement and the layers of each stage.

    meet: whether ranks meet even if nothing is shared.
    """
    groups: dict[tuple, list[tuple[str, ...]]] = {}  # those with the same holders travel together
    for parameter, names in _holders(stages, schedule).items():
        if len(names) > 1:
            groups.setdefault((parameter.dtype, tuple(names)), []).append(tuple(names.values()))
    shared, first = [], messages(schedule)
    for (_, holders), names_of_group in groups.items():
        shared.append(Shared(holders, tuple(zip(*names_of_group, strict=True)), first))
        first += len(holders) * len(shared[-1].ranks)
    if not meet and not shared:
        return Exchange(shared, None, schedule.ranks, first)
    return Exchange(shared, first, schedule.ranks, first + 2 * schedule.ranks)


def _holders(
    stages: list[list[Layer]], schedule: Schedule
) -> dict[nn.Parameter, dict[tuple[int, int], str]]:
    """Who has each trained parameter: (replica, rank) -> what it is called there."""
    holders: dict[nn.Parameter, dict[tuple[int, int], str]] = {}
    for replica, home in enumerate(schedule.placement_table.tolist()):
        for rank, layers in zip(home, stages, strict=True):
            for _, layer, module in layers:
                for name, parameter in module.named_parameters():
                    if parameter.requires_grad:
                        names = holders.setdefault(parameter, {})
                        names.setdefault((replica, rank), f"{layer}.{name}")
    return holders
