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

    holders: (replica, rank), in the order of summing. names[i]: what holder i calls them;
    stages[i]: where it uses them. Holder i's gradients go to rank ranks[j] as message first +
    i · len(ranks) + j.
    """

    holders: tuple[tuple[int, int], ...]
    names: tuple[tuple[str, ...], ...]
    stages: tuple[tuple[int, ...], ...]
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

    def parts_on(self, rank: int) -> set[tuple[int, int]]:
        """The (replica, stage) of a rank that use them."""
        parts: set[tuple[int, int]] = set()
        for (replica, home), stages in zip(self.holders, self.stages, strict=True):
            if home == rank:
                parts.update((replica, stage) for stage in stages)
        return parts


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
    groups: dict[tuple, list[tuple[str, ...]]] = {}  # those of the same holders travel together
    for parameter, uses in _uses(stages, schedule).items():
        if len(uses) > 1:
            used_on = tuple(tuple(stage for stage, _ in each) for each in uses.values())
            called = tuple(each[0][1] for each in uses.values())
            groups.setdefault((parameter.dtype, tuple(uses), used_on), []).append(called)
    shared, first = [], messages(schedule)
    for (_, holders, used_on), names_of_group in groups.items():
        names = tuple(zip(*names_of_group, strict=True))
        shared.append(Shared(holders, names, used_on, first))
        first += len(holders) * len(shared[-1].ranks)
    if not meet and not shared:
        return Exchange(shared, None, schedule.ranks, first)
    return Exchange(shared, first, schedule.ranks, first + 2 * schedule.ranks)


def _uses(
    stages: list[list[Layer]], schedule: Schedule
) -> dict[nn.Parameter, dict[tuple[int, int], list[tuple[int, str]]]]:
    """Who has each trained parameter: (replica, rank) -> (stage, what it is called there), each."""
    uses: dict[nn.Parameter, dict[tuple[int, int], list[tuple[int, str]]]] = {}
    for replica, home in enumerate(schedule.placement_table.tolist()):
        for stage, (rank, layers) in enumerate(zip(home, stages, strict=True)):
            for _, layer, module in layers:
                for name, parameter in module.named_parameters():
                    if parameter.requires_grad:
                        here = uses.setdefault(parameter, {}).setdefault((replica, rank), [])
                        if stage not in [known for known, _ in here]:
                            here.append((stage, f"{layer}.{name}"))
    return uses
