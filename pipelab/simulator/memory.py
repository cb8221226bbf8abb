"""How many activations each rank holds."""

import numpy as np

from ..schedule import Kind, Schedule

INPUT_GRAD_SHARE = 0.5


def held_activations(schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """Activations on the atom's rank while each atom runs, and after it: two float arrays over atoms.

    The unit is what one stage keeps for one micro-batch. F takes one; B gives it back; I gives back a half and W the rest
    (the zero-bubble papers' M_B − M_W and M_W, arXiv 2401.10241 Table 1, whose share depends on the model).
    """
    acquired = (schedule.kind == Kind.F).astype(float)
    released = np.zeros(len(schedule.kind))
    for kind, share in ((Kind.B, 1.0), (Kind.I, INPUT_GRAD_SHARE), (Kind.W, 1 - INPUT_GRAD_SHARE)):
        released[schedule.kind == kind] = share
    taken, given = np.cumsum(acquired), np.cumsum(released)
    before_given = given - released
    if schedule.overlaps:  # both atoms of a pair run at once: what either takes is held by both, nothing is given back yet
        pair = np.flatnonzero((np.diff(schedule.cell) == 0) & (np.diff(schedule.rank) == 0))
        taken[pair] = taken[pair + 1]
        before_given[pair + 1] = before_given[pair]
        given[pair] = given[pair + 1]
    start = np.repeat(schedule.offsets[:-1], np.diff(schedule.offsets))
    base = np.where(start > 0, (np.cumsum(acquired) - np.cumsum(released))[start - 1], 0.0)
    return taken - before_given - base, taken - given - base
