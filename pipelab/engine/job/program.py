"""From a Schedule to the program of one rank: its actions with their way in and out.

Communication is implied by the placement. Messages are numbered by what they carry, so both sides
agree without a word: the output of stage s for micro-batch i is message s·m + i, the gradient of
its input is message (S + s)·m + i (a micro-batch goes through one copy of the model).
"""

from dataclasses import dataclass

from ...schedule import Action, Kind, Schedule
from ...schedule.kinds import KINDS
from ...schedule.versions import versions

_PASSES_ON = tuple(row.kind for row in KINDS if row.sends)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An action of this rank with its way in and out. None: nothing crosses to another rank there.

    paired: it shares a cell with the one before. recomputed: a forward that keeps only its input.
    version: of the weights that it uses, or of those that an optimizer step makes.
    """

    atom: int
    kind: int
    stage: int
    microbatch: int
    replica: int
    message_in: int | None
    message_out: int | None
    to: int | None
    paired: bool = False
    recomputed: bool = False
    version: int = 0

    def __str__(self) -> str:
        """As in the schedule."""
        return str(Action(Kind(self.kind), self.stage, self.microbatch, self.replica))


def program(schedule: Schedule, rank: int, *, recompute: bool = False) -> list[Instruction]:
    """The instructions of one rank.

    They also say, in order, what it receives (``message_in``) and sends (``message_out``, ``to``).
    Of a pair in one cell, both inputs are received before, and both outputs sent after it.
    recompute: every forward keeps only its input, not just those with an R in the schedule.
    """
    stages, m = schedule.stages, schedule.microbatches
    homes, version = schedule.placement_table.tolist(), versions(schedule)
    again = schedule.kind == Kind.R
    recomputed = set(
        zip(schedule.stage[again].tolist(), schedule.microbatch[again].tolist(), strict=True)
    )
    instructions, low = [], int(schedule.offsets[rank])
    for atom in range(low, int(schedule.offsets[rank + 1])):
        kind, stage, microbatch, replica = (
            int(c[atom])
            for c in (schedule.kind, schedule.stage, schedule.microbatch, schedule.replica)
        )
        message_in = message_out = to = None
        if kind in _PASSES_ON:
            forward, home = kind == Kind.F, homes[replica]
            source, sink = (stage - 1, stage + 1) if forward else (stage + 1, stage - 1)
            if 0 <= source < stages and home[source] != rank:
                message_in = (source if forward else stages + source) * m + microbatch
            if 0 <= sink < stages and home[sink] != rank:
                message_out, to = (
                    (stage if forward else stages + stage) * m + microbatch,
                    home[sink],
                )
        instructions.append(
            Instruction(
                atom,
                kind,
                stage,
                microbatch,
                replica,
                message_in,
                message_out,
                to,
                paired=atom > low and bool(schedule.cell[atom] == schedule.cell[atom - 1]),
                recomputed=kind == Kind.F and (recompute or (stage, microbatch) in recomputed),
                version=int(version[atom]),
            )
        )
    return instructions


def messages(schedule: Schedule) -> int:
    """How many message numbers the actions of a step need.

    What follows them is numbered from there (exchange.py).
    """
    return 2 * schedule.stages * schedule.microbatches
