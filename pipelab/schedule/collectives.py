"""Whether UNSHARD, RESHARD and REDUCE_GRAD stand where they do some good.

    0UNSHARD 0F0 0F1 0RESHARD … 0UNSHARD 0B0 0B1 0RESHARD 0REDUCE_GRAD
    └ weights are whole ────┘   └ weights are whole ────┘  └ all gradients of the stage

A stage without UNSHARD and RESHARD keeps whole weights, and one without REDUCE_GRAD keeps its
gradients to itself: each of the two is judged only where a stage uses it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from ..errors import Refusal
from .action import Action
from .kinds import COLLECTIVES, Kind
from .refusals import refuse_at
from .schedule import Schedule

USES_WEIGHTS = (Kind.F, Kind.R, Kind.B, Kind.I)
"""Kinds that need whole weights. A weight gradient needs only what F and I kept."""
_MAKES_GRADIENTS = (Kind.B, Kind.W)
Problem = tuple[int, str, str | None, str]
"""The atom, the code, what it needs, and the rest of the sentence."""


def check_collectives(schedule: Schedule) -> Refusal | None:
    """The first collective action that stands in the wrong place, or None."""
    if not schedule.kinds & COLLECTIVES:
        return None
    atoms_of: dict[tuple[int, int], list[int]] = defaultdict(list)
    for atom in range(len(schedule.kind)):
        atoms_of[int(schedule.replica[atom]), int(schedule.stage[atom])].append(atom)
    problems: list[Problem] = []
    for atoms in atoms_of.values():
        kinds = {Kind(kind) for kind in np.unique(schedule.kind[atoms])}
        if kinds & {Kind.UNSHARD, Kind.RESHARD}:
            problems.extend(_weights(schedule.atom, atoms))
        if Kind.REDUCE_GRAD in kinds:
            problems.extend(_gradients(schedule.atom, atoms))
    if not problems:
        return None
    atom, code, needs, why = min(problems, key=lambda problem: problem[0])
    return refuse_at(schedule, atom, code, needs, why)


def _weights(action_of: Callable[[int], Action], atoms: list[int]) -> Iterable[Problem]:
    """Uses of weights that are not there, or old; gathering twice, and giving back twice."""
    whole, stepped = False, None  # whether they are gathered; the step that made them old
    given_back = None
    for atom in atoms:
        action = action_of(atom)
        gather = str(Action(Kind.UNSHARD, action.stage, 0, action.replica))
        if action.kind == Kind.UNSHARD:
            if whole and stepped is None:
                yield atom, "duplicate", None, "gathers weights that are gathered already."
            whole, stepped = True, None
        elif action.kind == Kind.RESHARD:
            if not whole:
                yield (
                    atom,
                    "order",
                    gather,
                    f"gives back weights that are not there: {gather} comes first.",
                )
            whole, given_back = False, action
        elif action.kind == Kind.STEP:
            stepped = action
        elif action.kind in USES_WEIGHTS and not whole:
            where = "comes before" if given_back is None else f"comes after {given_back} and before"
            yield (
                atom,
                "order",
                gather,
                f"{where} {gather}: each copy of the model holds only a part of the stage's "
                "weights until they are gathered.",
            )
        elif action.kind == Kind.F and stepped is not None:
            yield (
                atom,
                "order",
                gather,
                f"comes after {stepped} without {gather} between: it would use the weights from "
                "before the step.",
            )


def _gradients(action_of: Callable[[int], Action], atoms: list[int]) -> Iterable[Problem]:
    """Sums of nothing, and gradients that no sum or only a later one takes along."""
    last: int | None = None  # the last REDUCE_GRAD
    open_since: int | None = None  # the first weight gradient after it
    for atom in atoms:
        action = action_of(atom)
        reduce = str(Action(Kind.REDUCE_GRAD, action.stage, 0, action.replica))
        if action.kind in _MAKES_GRADIENTS and open_since is None:
            open_since = atom
        elif action.kind == Kind.REDUCE_GRAD:
            if open_since is None and last is None:
                yield (
                    atom,
                    "order",
                    None,
                    "comes before the stage's first weight gradient: there is nothing to sum.",
                )
            elif open_since is None:
                yield atom, "duplicate", None, "sums gradients that are summed already."
            last, open_since = atom, None
        elif action.kind == Kind.STEP and open_since is not None:
            yield (
                atom,
                "order",
                reduce,
                f"comes before {reduce}: the step would use the gradients of this copy alone.",
            )
    if open_since is not None and last is not None:
        late = action_of(open_since)
        yield (
            last,
            "order",
            str(late),
            f"comes before {late}: the sum over the copies of the model would lack its gradient.",
        )
