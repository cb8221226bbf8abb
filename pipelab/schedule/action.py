"""One thing that a rank does, and its text form.

The notation is torch.distributed.pipelining's: ``[stage][kind][microbatch]``, so ``2F0`` is stage
2's forward of micro-batch 0, and ``(0F7;7B3)OVERLAP_F_B`` runs a forward and a backward at the same
time. ``2UNSHARD``, ``2RESHARD`` and ``2REDUCE_GRAD`` stand for all micro-batches. Three things that
torch lacks are written in the same style: ``2R3`` recomputes, ``2STEP0`` is an optimizer step,
``2F3@1`` belongs to the second replica.
"""

import re
from typing import NamedTuple

from ..errors import ScheduleFormatError
from .kinds import KINDS, Kind, sending

_NUMBERED = [row.kind.name for row in KINDS if row.numbered]
_UNNUMBERED = [row.kind.name for row in KINDS if not row.numbered]
_ACTION = re.compile(
    rf"(\d+)(?:({'|'.join(_NUMBERED)})(\d+)|({'|'.join(_UNNUMBERED)}))(?:@(\d+))?", re.ASCII
)
_OVERLAP = re.compile(r"\(([^;()]+);([^;()]+)\)OVERLAP_F_B")
_LARGEST = 2**31 - 1


class Action(NamedTuple):
    """One action of one stage.

    microbatch: for STEP the number of the step; 0 for a kind that stands for all micro-batches.
    replica: the copy of the model.

    >>> str(Action(Kind.F, stage=2, microbatch=0))
    '2F0'
    >>> Action.parse("2STEP0")
    Action(kind=<Kind.STEP: 5>, stage=2, microbatch=0, replica=0)
    """

    kind: Kind
    stage: int
    microbatch: int
    replica: int = 0

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        number = self.microbatch if kind.numbered else ""
        suffix = f"@{self.replica}" if self.replica else ""
        return f"{self.stage}{kind.kind.name}{number}{suffix}"

    @classmethod
    def parse(cls, text: str) -> "Action":
        """Read ``2F0``. Raises ScheduleFormatError for anything else, trailing text included."""
        match = _ACTION.fullmatch(text.strip())
        if not match:
            numbered, unnumbered = ", ".join(_NUMBERED), ", ".join(_UNNUMBERED)
            raise ScheduleFormatError(
                f"{text.strip()!r} is not an action. An action is [stage][kind][microbatch], such "
                f"as 2F0; kinds are {numbered}. {unnumbered} have no micro-batch: 2UNSHARD. Two at "
                "once are (0F1;1B0)OVERLAP_F_B."
            )
        stage, kind, microbatch, whole, replica = match.groups()
        numbers = [int(stage), int(microbatch or 0), int(replica or 0)]
        if max(numbers) > _LARGEST:
            raise ScheduleFormatError(f"{text.strip()!r}: a number is larger than {_LARGEST}.")
        return cls(Kind[kind or whole], *numbers)


class Overlap(NamedTuple):
    """A forward and a backward of different micro-batches that share one cell (DualPipe)."""

    first: Action
    second: Action

    def __str__(self) -> str:
        return f"({self.first};{self.second})OVERLAP_F_B"


def parse_cell(text: str) -> Action | Overlap:
    """Read one cell: an action or an overlapped pair.

    >>> str(parse_cell("(0F7;7B3)OVERLAP_F_B"))
    '(0F7;7B3)OVERLAP_F_B'
    """
    match = _OVERLAP.fullmatch(text.strip())
    if not match:
        return Action.parse(text)
    pair = Overlap(Action.parse(match[1]), Action.parse(match[2]))
    kinds = {pair.first.kind, pair.second.kind}
    if kinds not in [{Kind.F, backward} for backward in sending("up")]:
        raise ScheduleFormatError(
            f"{text.strip()!r}: an overlap joins one forward F with one backward B or I."
        )
    return pair
