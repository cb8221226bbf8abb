"""A schedule that is being built by hand: what stands, what may come next, and why something else
may not.

    rank 0  0F0 0F1 ┆ 0B0?        what stands, and then what is legal now
    rank 1  1F0     ┆ 1F1? 1B0?

A part of a schedule is judged as a whole one: the actions that are missing are put behind it in
some order in which they can run, and ``check`` says what is wrong. Times of what stands do not
depend on what comes behind.
"""

from dataclasses import dataclass, replace
from functools import cached_property

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
    """rows: what stands on each rank, in order. universe: all actions of the schedule to be. homes:
    rank of each stage.
    """

    rows: Rows
    universe: frozenset[Action]
    homes: tuple[int, ...]

    @classmethod
    def empty(
        cls, ranks: int, microbatches: int, stages_per_rank: int = 1, split: bool = False
    ) -> "Construction":
        """Nothing yet of a schedule with stage s on rank s mod ranks. split: I and W instead of a
        full backward.
        """
        kinds = (Kind.F, Kind.I, Kind.W) if split else (Kind.F, Kind.B)
        stages = range(ranks * stages_per_rank)
        universe = frozenset(
            Action(kind, s, i) for kind in kinds for s in stages for i in range(microbatches)
        )
        return cls(((),) * ranks, universe, tuple(s % ranks for s in stages))._checked()

    @classmethod
    def of(cls, schedule: Schedule) -> "Construction":
        """All of a schedule.

        Raises UsageError for one that has more than F, B, I and W of one copy of the model.
        """
        if schedule.overlaps or schedule.replicas > 1 or not schedule.kinds <= _EDITED:
            raise UsageError(
                f"{schedule.name} cannot be edited by hand: only F, B, I and W of one copy of the "
                "model can, one at a time."
            )
        rows = tuple(
            tuple(cell for cell in row if not isinstance(cell, Overlap)) for row in schedule.actions
        )
        homes = tuple(schedule.placement[0, stage] for stage in range(schedule.stages))
        return cls(rows, frozenset(action for row in rows for action in row), homes)._checked()

    def _checked(self) -> "Construction":
        if len(self.universe) > MOST:
            raise UsageError(
                f"{len(self.universe)} actions are too many to place by hand; at most {MOST}."
            )
        return self

    @property
    def complete(self) -> bool:
        return self.placed == self.universe

    @cached_property
    def placed(self) -> frozenset[Action]:
        return frozenset(action for row in self.rows for action in row)

    def needs(self, action: Action) -> list[Action]:
        """What must have run before an action."""
        kind, stage, i = action[:3]
        row = KINDS[kind]
        needs = [Action(needed, stage, i) for needed, _ in row.needs]
        if row.sends:
            source = stage - 1 if row.sends == "down" else stage + 1
            needs += [Action(other, source, i) for other in sending(row.sends)]
        return [need for need in needs if need in self.universe]

    def legal(self, rank: int) -> list[Action]:
        """The actions that may come next on a rank: of each kind and stage the next micro-batch
        whose inputs stand.
        """
        found: dict[tuple[int, int], Action] = {}
        for action in sorted(self.universe - self.placed, key=lambda a: (a.microbatch, -a.stage)):
            if self.homes[action.stage] == rank and self.placed.issuperset(self.needs(action)):
                found.setdefault((action.kind, action.stage), action)
        return list(found.values())

    def place(self, text: str, rank: int | None = None) -> "Construction | Refusal":
        """With an action behind the last of its rank (or of ``rank``), or why it cannot stand
        there.
        """
        try:
            action = Action.parse(text)
        except ScheduleFormatError as error:
            return Refusal("syntax", rank, None, text, None, str(error))
        if action not in self.universe:
            return Refusal(
                "out-of-range", rank, None, text, None, f"{text} is no action of this schedule."
            )
        if action in self.placed:
            return Refusal(
                "duplicate",
                rank,
                None,
                text,
                None,
                f"{text} stands already: every action runs once.",
            )
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
        """With the action at a step moved to another step of its rank, or why it cannot stand
        there.
        """
        row = list(self.rows[rank])
        row.insert(to, row.pop(step))
        return self._with_row(rank, tuple(row))

    def remove(self, rank: int, step: int) -> "Construction | Refusal":
        """Without an action, or which other action needs it."""
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
        """The schedule with what is missing put behind what stands, in an order in which it can run
        if there is one.
        """
        return Schedule.from_rows(self._finished().rows, name=name)

    def _finished(self) -> "Construction":
        rows = [list(row) for row in self.rows]
        done = set(self.placed)
        left = sorted(
            self.universe - done,
            key=lambda a: (a.kind == Kind.W, a.microbatch, a.kind not in _BACKWARDS),
        )
        while left:
            ready = next(
                (action for action in left if done.issuperset(self.needs(action))), left[0]
            )
            left.remove(ready)
            done.add(ready)
            rows[self.homes[ready.stage]].append(ready)
        return replace(self, rows=tuple(map(tuple, rows)))

    def hint(self, starts: dict[Action, float]) -> Action | None:
        """A good next action: of those that can start first a backward, then a forward, then a
        weight gradient.

        starts: when each legal action could start. Forwards wait while a rank holds as many
        micro-batches as 1F1B would let it, unless nothing else is left.
        """
        ranks = len(self.rows)

        def worth(action: Action) -> tuple:
            mine = self.rows[self.homes[action.stage]]
            held = sum(a.kind == Kind.F for a in mine) - sum(a.kind in _BACKWARDS for a in mine)
            full = action.kind == Kind.F and held >= (ranks - self.homes[action.stage]) * (
                len(self.homes) // ranks
            )
            return (
                full,
                starts[action],
                action.kind not in _BACKWARDS,
                action.kind == Kind.W,
                -action.stage,
                action.microbatch,
            )

        return min(starts, key=worth, default=None)
