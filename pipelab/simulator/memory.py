"""What each rank's memory holds over time.

Activations, weights and their older versions, gradients, and the optimizer's state.
"""

from dataclasses import dataclass, fields

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..schedule.kinds import remembering
from .costs import PerStage, Staged, as_per_stage, for_stages

Levels = tuple[np.ndarray, np.ndarray]
"""What the atom's rank holds while each atom runs, and after it: two float arrays over atoms."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one stage: a number for all stages, or one number per stage.

    activations: what F keeps of one micro-batch. inputs: the part of it that stays when the rest is
    recomputed. weights: one copy of the parameters. gradients: from the first weight gradient on,
    until the optimizer step if the schedule has one. optimizer_state: all the time.
    weight_grad_share: how much of the activations waits for W; I gives back the rest, and B all of
    it (the zero-bubble papers' M_W / M_B, arXiv 2401.10241 Table 1, which depends on the model).
    deferred_activations: the same as an amount, where it is known. deferred_gradients: gradients of
    the outputs of layers, which I keeps in addition for W.

    Raises UsageError for numbers that are negative or not finite, and for a share outside 0 to 1.
    """

    activations: PerStage = 1
    inputs: PerStage = 0
    weights: PerStage = 0
    gradients: PerStage = 0
    optimizer_state: PerStage = 0
    weight_grad_share: float = 0.5
    deferred_activations: PerStage | None = None
    deferred_gradients: PerStage = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is None:
                continue
            value = as_per_stage(field.name, getattr(self, field.name), "an amount of memory")
            object.__setattr__(self, field.name, value)
        share: Staged = self.weight_grad_share
        if isinstance(share, tuple) or share > 1:
            raise UsageError(
                f"weight_grad_share is {share!r}; it is the part, 0 to 1, of the activations that "
                "W needs."
            )

    def per_stage(self, name: str) -> Staged:
        """One of the amounts, by the name of its field."""
        value: Staged = getattr(self, name)
        return value


def memory_over_time(
    schedule: Schedule, memory: Memory, *, recomputed: bool = False
) -> dict[str, Levels]:
    """Levels of "activations", "weights", "weight_versions", "gradients" and "optimizer_state".

    recomputed: whether each backward recomputes what its forward did not keep, without an action R
    of its own. weight_versions are the copies beside the newest: those that PipeDream stashes for
    the micro-batches in flight (arXiv 1806.03377 §3.3), and one for 2BW's double buffer (arXiv
    2006.09503 §3.1).
    """
    weights = _resident(schedule, memory.per_stage("weights"))
    versions = 0 * weights[0], 0 * weights[0]
    if schedule.weights == "stashed":
        versions = _stashed(schedule, memory.per_stage("weights"))
    elif schedule.weights == "double":
        versions = weights
    return {
        "activations": activations(schedule, memory, recomputed=recomputed),
        "weights": weights,
        "weight_versions": versions,
        "gradients": _gradients(schedule, memory.per_stage("gradients")),
        "optimizer_state": _resident(schedule, memory.per_stage("optimizer_state")),
    }


def _per_atom(schedule: Schedule, value: Staged) -> np.ndarray:
    sizes: np.ndarray = np.broadcast_to(for_stages(value, schedule.stages), schedule.stages)
    of_atom: np.ndarray = sizes[schedule.stage]
    return of_atom


def activations(schedule: Schedule, memory: Memory, *, recomputed: bool) -> Levels:
    """Activations: F takes those of a micro-batch, B gives them back; I a part of them, W the rest.

    I takes the gradients that it puts off, too, and W gives them back.

    recomputed: whether each backward recomputes what its forward did not keep.
    """
    full = _per_atom(schedule, memory.per_stage("activations"))
    deferred = memory.weight_grad_share * full
    if memory.deferred_activations is not None:
        deferred = _per_atom(schedule, memory.per_stage("deferred_activations"))
    gradients = _per_atom(schedule, memory.per_stage("deferred_gradients"))
    kept = _per_atom(schedule, memory.per_stage("inputs"))
    again = _recomputed_by_action(schedule)
    in_backward = recomputed & ~again & _does(schedule, "gives back", "gives back a part")
    taken_first = np.where(again | recomputed, kept, full)
    acquired = np.where(_does(schedule, "takes"), taken_first, 0.0)
    acquired += np.where(_does(schedule, "takes again") | in_backward, full - kept, 0.0)
    acquired += np.where(_does(schedule, "gives back a part"), gradients, 0.0)
    released = np.select(
        [_does(schedule, what) for what in ("gives back", "gives back a part", "the rest")],
        [full, full - deferred, deferred + gradients],
        0.0,
    )
    return _levels(schedule, acquired, released)


def _does(schedule: Schedule, *what: str) -> np.ndarray:
    """Whether each atom does one of these things with its activations."""
    first, *more = remembering(*what)
    does: np.ndarray = schedule.kind == first
    for kind in more:
        does |= schedule.kind == kind
    return does


def _recomputed_by_action(schedule: Schedule) -> np.ndarray:
    """For each atom: whether the schedule has an R for its stage and micro-batch."""
    if Kind.R not in schedule.kinds:
        return np.zeros(len(schedule.kind), bool)
    table = np.zeros((schedule.replicas, schedule.stages, int(schedule.microbatch.max()) + 1), bool)
    index = schedule.replica, schedule.stage, schedule.microbatch
    table[tuple(column[schedule.kind == Kind.R] for column in index)] = True
    found: np.ndarray = table[index] & schedule.of_microbatch
    return found


def _gradients(schedule: Schedule, value: Staged) -> Levels:
    """Gradients: one buffer per stage.

    From its first B or W, or the first after a STEP, to the end of the next STEP.
    """
    size, step = _per_atom(schedule, value), schedule.kind == Kind.STEP
    users = np.flatnonzero(step | (schedule.kind == Kind.B) | (schedule.kind == Kind.W))
    owner = schedule.part[users]
    users = users[np.argsort(owner, kind="stable")]
    new = np.diff(np.sort(owner), prepend=-1) != 0
    without = new | np.append(True, step[users[:-1]])  # no buffer before this atom
    acquired, released = np.zeros(len(step)), np.zeros(len(step))
    acquired[users] = np.where(without & ~step[users], size[users], 0.0)
    released[users] = np.where(~without & step[users], size[users], 0.0)
    return _levels(schedule, acquired, released)


def _stashed(schedule: Schedule, value: Staged) -> Levels:
    """Weights older than the newest that a micro-batch in flight still needs for its backward."""
    size = _per_atom(schedule, value)
    acquired, released = np.zeros(len(size)), np.zeros(len(size))
    steps: dict[tuple[int, int], int] = {}
    # Of each stage: micro-batch -> number of steps before its F.
    in_flight: dict[tuple[int, int], dict[int, int]] = {}
    for atom in range(len(size)):
        kind, stage, microbatch, replica = schedule.atom(atom)
        owner = replica, stage
        using, newest = in_flight.setdefault(owner, {}), steps.get(owner, 0)
        if kind == Kind.F:
            using[microbatch] = newest
        elif kind == Kind.STEP:
            if newest in using.values():
                acquired[atom] = size[atom]
            steps[owner] = newest + 1
        elif kind in (Kind.B, Kind.W):
            version = using.pop(microbatch)
            if version < newest and version not in using.values():
                released[atom] = size[atom]
    return _levels(schedule, acquired, released)


def _resident(schedule: Schedule, value: Staged) -> Levels:
    """What is there all the time: the sum over the stages of the rank, each model copy counted."""
    sizes = np.broadcast_to(for_stages(value, schedule.stages), schedule.stages)
    total = np.zeros(schedule.ranks)
    for (_, stage), rank in schedule.placement.items():
        total[rank] += sizes[stage]
    level = total[schedule.rank]
    return level, level


def _levels(schedule: Schedule, acquired: np.ndarray, released: np.ndarray) -> Levels:
    """Each atom takes ``acquired`` when it starts and gives ``released`` back when it ends."""
    taken, given = np.cumsum(acquired), np.cumsum(released)
    balance, before_given = taken - given, given - released
    start = np.repeat(schedule.offsets[:-1], np.diff(schedule.offsets))
    base = np.where(start > 0, balance[start - 1], 0.0)
    # both atoms of a pair run at once: what either takes is held by both, nothing is given back yet
    if schedule.overlaps:
        first, second = schedule.seconds - 1, schedule.seconds
        taken[first] = taken[second]
        before_given[second] = before_given[first]
        given[first] = given[second]
    return taken - before_given - base, taken - given - base
