"""A schedule that is being built by hand: what stands, what may come next, and why not more.

    rank 0  0F0 0F1 ┆ 0B0?        what stands, and then what is legal now
    rank 1  1F0     ┆ 1F1? 1B0?

A part of a schedule is judged as a whole one: the actions that are missing are put behind it in
some order in which they can run, and ``check`` says what is wrong. Times of what stands do not
depend on what comes behind.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product

from ..errors import Refusal, ScheduleFormatError, UsageError
from ..schedule import Action, Kind, Overlap, Schedule, check
from ..schedule.kinds import KINDS, OF_MICROBATCH, sending

MOST = 1500
"""Actions of a schedule that is still edited by hand."""
Rows = tuple[tuple[Action, ...], ...]
_BACKWARDS = sending("up")
_EDITED = OF_MICROBATCH - {Kind.R}


@dataclass(frozen=True)
class Construction:
    """A part of a schedule.

    ``rows`` are what stands on each rank, in order; ``universe`` has all actions of the schedule to
    be; ``homes`` are the ranks of the stages.
    """

    rows: Rows
    universe: frozenset[Action]
    homes: tuple[int, ...]

    @classmethod
    def empty(
        cls, ranks: int, microbatches: int, stages_per_rank: int = 1, *, split: bool = False
    ) -> "Construction":
        """Begin a schedule with stage s on rank s mod ranks.

        Args:
            ranks: how many rows there are.
            microbatches: each passes through every stage.
            stages_per_rank: looped over the ranks.
            split: whether there are I and W instead of a full backward.

        Raises:
            UsageError: these would be too many actions.
        """
        kinds = (Kind.F, Kind.I, Kind.W) if split else (Kind.F, Kind.B)
        stages = range(ranks * stages_per_rank)
        cells = product(kinds, stages, range(microbatches))
        universe = frozenset(Action(kind, stage, i) for kind, stage, i in cells)
        return cls(((),) * ranks, universe, tuple(s % ranks for s in stages))._checked()

    @classmethod
    def of(cls, schedule: Schedule) -> "Construction":
        """Take a whole schedule.

        Raises UsageError for one that has more than F, B, I and W of one copy of the model.
        """
        if schedule.overlaps or schedule.replicas > 1 or not schedule.kinds <= _EDITED:
            raise UsageError(
                f"{schedule.name} cannot be edited by hand: only F, B, I and W of one copy of the "
                "model can, one at a time."
            )
        rows = []
        for cells in schedule.actions:
            rows.append(tuple(cell for cell in cells if not isinstance(cell, Overlap)))
        homes = tuple(schedule.placement[0, stage] for stage in range(schedule.stages))
        return cls(tuple(rows), frozenset(chain.from_iterable(rows)), homes)._checked()

    def _checked(self) -> "Construction":
        if len(self.universe) > MOST:
            raise UsageError(
                f"{len(self.universe)} actions are too many to place by hand; at most {MOST}."
            )
        return self

    def without(self, kind: Kind) -> "Construction":
        """The same with all actions of a kind taken away, which are then left to place."""
        kept = tuple(tuple(a for a in row if a.kind != kind) for row in self.rows)
        return replace(self, rows=kept)

    def repeated(self, times: int) -> "Construction":
        """Let the rows stand so often, each time on the micro-batches that follow.

        Raises UsageError for less than once, and for too many actions.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise UsageError(f"batches is {times!r}; it is how many follow one another, 1 or more.")
        m = 1 + max(action.microbatch for action in self.universe)

        def later(action: Action, batch: int) -> Action:
            return action._replace(microbatch=action.microbatch + batch * m)

        rows = [[later(a, batch) for batch in range(times) for a in row] for row in self.rows]
        universe = {later(a, batch) for batch in range(times) for a in self.universe}
        found = replace(self, rows=tuple(map(tuple, rows)), universe=frozenset(universe))
        return found._checked()

    @property
    def complete(self) -> bool:
        """Whether every action stands."""
        return self.placed == self.universe

    @cached_property
    def placed(self) -> frozenset[Action]:
        """The actions that stand."""
        return frozenset(chain.from_iterable(self.rows))

    def needs(self, action: Action) -> list[Action]:
        """The actions that must have run before an action."""
        kind, stage, i = action[:3]
        row = KINDS[kind]
        needs = [Action(needed, stage, i) for needed, _ in row.needs]
        if row.sends:
            source = stage - 1 if row.sends == "down" else stage + 1
            needs += [Action(other, source, i) for other in sending(row.sends)]
        return [need for need in needs if need in self.universe]

    def legal(self, rank: int) -> list[Action]:
        """The actions that may come next on a rank.

        Of each kind and stage that is the next micro-batch whose inputs stand.
        """
        found: dict[tuple[int, int], Action] = {}
        for action in sorted(self.universe - self.placed, key=lambda a: (a.microbatch, -a.stage)):
            if self.homes[action.stage] == rank and self.placed.issuperset(self.needs(action)):
                found.setdefault((action.kind, action.stage), action)
        return list(found.values())

    def place(self, text: str, rank: int | None = None) -> "Construction | Refusal":
        """Put an action behind the last of its rank (or of ``rank``).

        Returns the construction with it, or why it cannot stand there.
        """
        try:
            action = Action.parse(text)
        except ScheduleFormatError as error:
            return Refusal("syntax", rank, None, text, None, str(error))
        if action not in self.universe:
            message = f"{text} is not an action of this schedule."
            return Refusal("out-of-range", rank, None, text, None, message)
        if action in self.placed:
            message = f"{text} stands already: every action runs once."
            return Refusal("duplicate", rank, None, text, None, message)
        rank = self.homes[action.stage] if rank is None else rank
        found = self._with_row(rank, (*self.rows[rank], action))
        missing = [need for need in self.needs(action) if need not in self.placed]
        if isinstance(found, Construction) and missing:
            message = (
                f"{action} needs the result of {missing[0]}, which does not stand yet: place that "
                "first."
            )
            return Refusal("missing", rank, len(self.rows[rank]), text, str(missing[0]), message)
        return found

    def move(self, rank: int, step: int, to: int) -> "Construction | Refusal":
        """Move the action at a step to another step of its rank.

        Returns the construction with that change, or why it cannot stand there.
        """
        row = list(self.rows[rank])
        row.insert(to, row.pop(step))
        return self._with_row(rank, tuple(row))

    def remove(self, rank: int, step: int) -> "Construction | Refusal":
        """Take an action away; returns the rest, or which other action needs it."""
        row = self.rows[rank]
        action = row[step]
        users = [other for other in sorted(self.placed) if action in self.needs(other)]
        if users:
            message = (
                f"{action} cannot be taken away: {users[0]} stands already and needs its result."
            )
            return Refusal("missing", rank, step, str(action), str(users[0]), message)
        return replace(self, rows=self._row(rank, row[:step] + row[step + 1 :]))

    def _row(self, rank: int, row: tuple[Action, ...]) -> Rows:
        return (*self.rows[:rank], row, *self.rows[rank + 1 :])

    def _with_row(self, rank: int, row: tuple[Action, ...]) -> "Construction | Refusal":
        changed = replace(self, rows=self._row(rank, row))
        return check(changed.completed()) or changed

    def completed(self, name: str = "by hand") -> Schedule:
        """The schedule with what is missing put behind what stands.

        It can run, if any order of what is missing can.
        """
        return Schedule.from_rows(self._finished().rows, name=name)

    def _finished(self) -> "Construction":
        rows = [list(row) for row in self.rows]
        done = set(self.placed)
        left = sorted(self.universe - done, key=_usual_order)
        while left:
            can_run = (action for action in left if done.issuperset(self.needs(action)))
            ready = next(can_run, left[0])
            left.remove(ready)
            done.add(ready)
            rows[self.homes[ready.stage]].append(ready)
        return replace(self, rows=tuple(map(tuple, rows)))

    def hint(self, starts: dict[Action, float], most: float = math.inf) -> Action | None:
        """A good next action, of those that can start first.

        A backward comes before a forward, and a forward before a weight gradient. Forwards wait
        while a rank holds as many micro-batches as 1F1B would let it, or ``most``, unless nothing
        else is left. ``starts`` has when each legal action could start.
        """

        def worth(action: Action) -> tuple[float, ...]:
            rank = self.homes[action.stage]
            full = action.kind == Kind.F and self._holds_enough(rank, most)
            backward_last, weight_gradient = action.kind not in _BACKWARDS, action.kind == Kind.W
            order = backward_last, weight_gradient, -action.stage, action.microbatch
            return full, starts[action], *order

        return min(starts, key=worth, default=None)

    def _holds_enough(self, rank: int, most: float) -> bool:
        """Whether a rank holds as many micro-batches as it would at most in 1F1B, or ``most``."""
        row, ranks = self.rows[rank], len(self.rows)
        begun = sum(action.kind == Kind.F for action in row)
        ended = sum(action.kind in _BACKWARDS for action in row)
        stages = len(self.homes) // ranks
        return begun - ended >= min(ranks - rank, most) * stages


def _usual_order(action: Action) -> tuple[bool, int, bool]:
    """Micro-batch by micro-batch, its backwards before its forwards; weight gradients last."""
    return action.kind == Kind.W, action.microbatch, action.kind not in _BACKWARDS
