"""How a refusal is worded: where it is, what is lacking, and the grid with the place marked."""

from ..errors import Refusal
from .action import Action
from .schedule import Schedule

DRAWN = 128
"""Atoms of a schedule that is still small enough to draw under a refusal."""


def refuse_at(schedule: Schedule, atom: int, code: str, needs: str | None, why: str) -> Refusal:
    """A refusal at one atom.

    Args:
        schedule: What is refused.
        atom: The index of the atom where it fails.
        code: One of the codes of ``Refusal``.
        needs: What the atom lacks, as text.
        why: The rest of the sentence that begins with the action.

    Returns:
        The refusal. Its message ends with the grid, with an arrow, when that is small enough.
    """
    rank, step = int(schedule.rank[atom]), int(schedule.cell[atom])
    action = str(schedule.atom(atom))
    message = f"Rank {rank}, step {step}: {action} {why}"
    if len(schedule.kind) <= DRAWN:
        message += "\n" + schedule.grid(mark=(rank, step))
    return Refusal(code, rank, step, action, needs, message)


def refuse_missing(schedule: Schedule, action: Action, because: str) -> Refusal:
    """A refusal because an action stands nowhere."""
    rank = int(schedule.placement_table[action.replica, action.stage])
    where, text = f"Rank {rank}: " if rank >= 0 else "", str(action)
    message = f"{where}{text} is missing: {because}."
    return Refusal("missing", rank if rank >= 0 else None, None, text, text, message)
