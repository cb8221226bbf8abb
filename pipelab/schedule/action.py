"""One thing that a rank does, and its text form.

The notation is torch.distributed.pipelining's: ``[stage][kind][microbatch]``, so ``2F0`` is stage
2's forward of micro-batch 0, and ``(0F7;7B3)OVERLAP_F_B`` runs a forward and a backward at the same
time. Three things torch lacks are written in the same style: ``2R3`` recomputes, ``2STEP0`` is an
optimizer step, ``2F3@1`` belongs to the second replica.
"""

import re
from enum import IntEnum
from typing import NamedTuple

from ..errors import ScheduleFormatError


class Kind(IntEnum):
    """What an action computes.

    F forward; B full backward; I input gradient; W weight gradient (B = I + W); R recomputation of
    a forward; STEP optimizer step. The zero-bubble papers write B for what torch and pipelab call
    I.
    """

    F = 0
    B = 1
    I = 2  # noqa: E741 - the field's letter
    W = 3
    R = 4
    STEP = 5

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {
    Kind.F: "forward",
    Kind.B: "backward",
    Kind.I: "input gradient",
    Kind.W: "weight gradient",
    Kind.R: "recompute",
    Kind.STEP: "optimizer step",
}
_ACTION = re.compile(r"(\d+)(F|B|I|W|R|STEP)(\d+)(?:@(\d+))?", re.ASCII)
_OVERLAP = re.compile(r"\(([^;()]+);([^;()]+)\)OVERLAP_F_B")
_LARGEST = 2**31 - 1


class Action(NamedTuple):
    """``kind`` of ``stage`` for ``microbatch`` (the number of the step, for STEP) in model copy
    ``replica``.

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
        suffix = f"@{self.replica}" if self.replica else ""
        return f"{self.stage}{Kind(self.kind).name}{self.microbatch}{suffix}"

    @classmethod
    def parse(cls, text: str) -> "Action":
        """Reads ``2F0``. Raises ScheduleFormatError for anything else, trailing text included."""
        match = _ACTION.fullmatch(text.strip())
        if not match:
            raise ScheduleFormatError(
                f"{text.strip()!r} is not an action. An action is [stage][kind][microbatch], such "
                "as 2F0; kinds are F, B, I, W, R, STEP, or (0F1;1B0)OVERLAP_F_B for two at once."
            )
        stage, kind, microbatch, replica = match.groups()
        numbers = [int(stage), int(microbatch), int(replica or 0)]
        if max(numbers) > _LARGEST:
            raise ScheduleFormatError(f"{text.strip()!r}: a number is larger than {_LARGEST}.")
        return cls(Kind[kind], *numbers)


class Overlap(NamedTuple):
    """A forward and a backward of different micro-batches that share one cell (DualPipe)."""

    first: Action
    second: Action

    def __str__(self) -> str:
        return f"({self.first};{self.second})OVERLAP_F_B"


def parse_cell(text: str) -> Action | Overlap:
    """Reads one cell: an action or an overlapped pair.

    >>> str(parse_cell("(0F7;7B3)OVERLAP_F_B"))
    '(0F7;7B3)OVERLAP_F_B'
    """
    match = _OVERLAP.fullmatch(text.strip())
    if not match:
        return Action.parse(text)
    pair = Overlap(Action.parse(match[1]), Action.parse(match[2]))
    kinds = {pair.first.kind, pair.second.kind}
    if kinds not in ({Kind.F, Kind.B}, {Kind.F, Kind.I}):
        raise ScheduleFormatError(
            f"{text.strip()!r}: an overlap joins one forward F with one backward B or I."
        )
    return pair
