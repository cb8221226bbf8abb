"""Schedule: the actions of every rank, stored as integer columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np

from ..errors import Refusal, UsageError
from .action import Action, Overlap, parse_cell
from .graph import Graph, find_heads, find_producers, make_graph
from .kinds import OF_MICROBATCH, Kind

WEIGHTS = ("one", "stashed", "double")


@dataclass(frozen=True, eq=False)
class Schedule:
    """What each rank does, in what order.

    One entry per atom in each column, rank after rank: ``kind``, ``stage``, ``microbatch``,
    ``replica`` (int arrays) and ``cell``, the 0-based step within the rank. An action is one atom;
    an overlapped pair is two atoms in one cell. Rank r owns the atoms ``offsets[r]:offsets[r +
    1]``.

    placement: (replica, stage) -> rank. weights: "one" version, "stashed" (PipeDream) or "double"
    (2BW). Build one with ``Schedule.from_rows``, ``Schedule.from_csv`` or the catalogue.
    """

    name: str
    kind: np.ndarray
    stage: np.ndarray
    microbatch: np.ndarray
    replica: np.ndarray
    cell: np.ndarray
    offsets: np.ndarray
    stages: int
    microbatches: int
    replicas: int
    placement: Mapping[tuple[int, int], int] = field(repr=False)
    weights: str = "one"

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Iterable[str | Action | Overlap]],
        *,
        name: str = "custom",
        weights: str = "one",
    ) -> "Schedule":
        """Build a schedule from one list of actions per rank.

        Stages are placed where their actions stand.

        >>> Schedule.from_rows([["0F0", "0B0"], ["1F0", "1B0"]]).placement
        {(0, 0): 0, (0, 1): 1}

        Raises ScheduleFormatError for text that is not an action. The result may still be illegal:
        see ``check``.
        """
        if weights not in WEIGHTS:
            raise UsageError(f"weights is {weights!r}; it is one of {', '.join(WEIGHTS)}.")
        atoms: list[Action] = []
        cells: list[int] = []
        offsets = [0]
        for row in rows:
            for step, item in enumerate(row):
                cell = parse_cell(item) if isinstance(item, str) else item
                for atom in cell if isinstance(cell, Overlap) else (cell,):
                    atoms.append(atom)
                    cells.append(step)
            offsets.append(len(atoms))
        if not atoms:
            raise UsageError("This schedule is empty: it has no action at all.")
        table = np.array(atoms, dtype=np.int64)
        kind, stage, microbatch, replica = table.T
        return cls(
            name=name,
            kind=kind.astype(np.int8),
            stage=stage.astype(np.int32),
            microbatch=microbatch.astype(np.int32),
            replica=replica.astype(np.int8),
            cell=np.array(cells, dtype=np.int32),
            offsets=np.array(offsets),
            stages=_contiguous(stage),
            microbatches=_contiguous(microbatch[np.isin(kind, tuple(OF_MICROBATCH))]),
            replicas=_contiguous(replica),
            placement=_infer_placement(
                stage, replica, np.repeat(np.arange(len(rows)), np.diff(offsets))
            ),
            weights=weights,
        )

    @classmethod
    def from_columns(
        cls,
        name: str,
        rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
        *,
        placement: Mapping[tuple[int, int], int],
        microbatches: int,
        weights: str = "one",
    ) -> "Schedule":
        """Build a schedule of one model copy without overlaps from arrays: the fast way.

        Args:
            name: What to call it.
            rows: Of each rank: kinds, stages and micro-batches, three arrays of one length.
            placement: (replica, stage) -> rank.
            microbatches: How many there are.
            weights: How many versions of the weights there are, one of ``WEIGHTS``.
        """
        kinds, stages, numbers = zip(*rows, strict=True)
        kind = np.concatenate(kinds).astype(np.int8)
        lengths = [len(row[0]) for row in rows]
        return cls(
            name=name,
            kind=kind,
            stage=np.concatenate(stages).astype(np.int32),
            microbatch=np.concatenate(numbers).astype(np.int32),
            replica=np.zeros(len(kind), np.int8),
            cell=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            stages=len(placement),
            microbatches=microbatches,
            replicas=1,
            placement=dict(placement),
            weights=weights,
        )

    @classmethod
    def from_csv(cls, text: str, *, name: str = "custom", collectives: bool = False) -> "Schedule":
        """Read torch.distributed.pipelining's CSV text.

        collectives: keep UNSHARD, RESHARD and REDUCE_GRAD, which are else verified and dropped.
        Raises ScheduleFormatError, naming line and cell.
        """
        from .csv import parse_csv

        return parse_csv(text, name=name, collectives=collectives)

    def to_csv(self) -> str:
        """CSV text in torch's notation, one row per rank."""
        from .csv import format_csv

        return format_csv(self)

    def with_data_parallel(
        self, *, zero: int = 0, overlap: bool = True, reshard: bool = True
    ) -> "Schedule":
        """The schedule with what copies of its pipeline do together: see ``data_parallel.py``.

        zero: the stage of ZeRO. overlap: sum gradients as soon as a stage has them. reshard: with
        ZeRO 3, give weights back after every action. Raises UsageError where it has collectives.

        >>> one = Schedule.from_rows([["0F0", "0F1", "0B0", "0B1"]])
        >>> one.with_data_parallel(zero=1).actions[0]
        [0UNSHARD, 0F0, 0F1, 0B0, 0B1, 0REDUCE_GRAD]
        """
        from .data_parallel import with_data_parallel

        return with_data_parallel(self, zero=zero, overlap=overlap, reshard=reshard)

    def grid(self, mark: tuple[int, int] | None = None) -> str:
        """A text picture, one row per rank; ``mark`` puts an arrow under one (rank, step)."""
        from .grid import grid

        return grid(self, mark)

    @property
    def ranks(self) -> int:
        """How many ranks there are."""
        return len(self.offsets) - 1

    @cached_property
    def rank(self) -> np.ndarray:
        """The rank of every atom."""
        return np.repeat(np.arange(self.ranks, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def slices(self) -> list[tuple[int, int]]:
        """The atoms of each rank: from the first to before the last number."""
        bounds = self.offsets.tolist()
        return list(zip(bounds[:-1], bounds[1:], strict=True))

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of its actions."""
        return frozenset(Kind(kind) for kind in np.flatnonzero(np.bincount(self.kind)).tolist())

    @cached_property
    def of_microbatch(self) -> np.ndarray:
        """Whether each atom is for one micro-batch: not STEP, UNSHARD, RESHARD, REDUCE_GRAD."""
        if self.kinds <= OF_MICROBATCH:
            return np.ones(len(self.kind), bool)
        return np.isin(self.kind, tuple(OF_MICROBATCH))

    @cached_property
    def part(self) -> np.ndarray:
        """Which stage of which model copy each atom belongs to, as one number."""
        copies: np.ndarray = self.replica.astype(np.int64) * self.stages
        part: np.ndarray = copies + self.stage
        return part

    @cached_property
    def heads(self) -> np.ndarray:
        """Whether each atom begins a cell: all do but the second of an overlapped pair."""
        return find_heads(self)

    @cached_property
    def seconds(self) -> np.ndarray:
        """The second atoms of overlapped pairs; the first stands just before each."""
        return np.flatnonzero(~self.heads)

    @cached_property
    def overlaps(self) -> bool:
        """Whether any cell holds two actions."""
        return len(self.seconds) > 0

    @cached_property
    def producer(self) -> np.ndarray:
        """The atom whose result each atom needs from a neighbouring stage, or -1."""
        return find_producers(self)

    @cached_property
    def crosses(self) -> np.ndarray:
        """Whether the input of each atom comes from another rank."""
        elsewhere: np.ndarray = self.rank[self.producer] != self.rank
        return elsewhere & (self.producer >= 0)

    @cached_property
    def graph(self) -> Graph:
        """Which cells wait for which."""
        return make_graph(self)

    @cached_property
    def verdicts(self) -> dict[str, Refusal | None]:
        """What ``check`` found, by the name of the test, so that it looks only once."""
        return {}

    @cached_property
    def stages_per_rank(self) -> int | None:
        """Stages on each rank, both directions counted; None when ranks hold different numbers."""
        counts = np.bincount(list(self.placement.values()), minlength=self.ranks)
        return int(counts[0]) if (counts == counts[0]).all() else None

    @cached_property
    def placement_table(self) -> np.ndarray:
        """Rank of each stage, shape (replicas, stages); -1 where a copy lacks the stage."""
        table = np.full((self.replicas, self.stages), -1, np.int32)
        for (replica, stage), rank in self.placement.items():
            if replica < self.replicas and stage < self.stages:
                table[replica, stage] = rank
        return table

    @property
    def actions(self) -> Sequence[Sequence[Action | Overlap]]:
        """The actions of each rank, as views: ``schedule.actions[rank][step]``."""
        return _Rows(self)

    def atom(self, index: int) -> Action:
        """The atom at a flat index of the columns."""
        return Action(
            Kind(self.kind[index]),
            int(self.stage[index]),
            int(self.microbatch[index]),
            int(self.replica[index]),
        )

    def __eq__(self, other: object) -> bool:
        """Equal actions on equal ranks with equal weights; names do not count."""
        if not isinstance(other, Schedule):
            return NotImplemented
        columns = ("kind", "stage", "microbatch", "replica", "cell", "offsets")
        return self.weights == other.weights and all(
            np.array_equal(getattr(self, c), getattr(other, c)) for c in columns
        )

    __hash__ = None  # type: ignore[assignment]  # equality is of what arrays hold

    def __repr__(self) -> str:
        return (
            f"<Schedule {self.name}: {self.ranks} ranks, {self.stages} stages, "
            f"{self.microbatches} micro-batches, {len(self.kind)} actions>"
        )


class _Rows(Sequence[Sequence[Action | Overlap]]):
    def __init__(self, schedule: Schedule):
        self._schedule = schedule

    def __len__(self) -> int:
        return self._schedule.ranks

    @overload
    def __getitem__(self, rank: int) -> Sequence[Action | Overlap]: ...
    @overload
    def __getitem__(self, rank: slice) -> Sequence[Sequence[Action | Overlap]]: ...
    def __getitem__(
        self, rank: int | slice
    ) -> Sequence[Action | Overlap] | Sequence[Sequence[Action | Overlap]]:
        if isinstance(rank, slice):
            return [self[r] for r in range(*rank.indices(len(self)))]
        return _Row(self._schedule, range(len(self))[rank])

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self)) + "]"


class _Row(Sequence[Action | Overlap]):
    def __init__(self, schedule: Schedule, rank: int):
        self._schedule = schedule
        low, self._end = schedule.slices[rank]
        # The first atom of each step. Without overlaps it is simply low + step.
        self._first = low + np.flatnonzero(schedule.heads[low : self._end])

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, step: int) -> Action | Overlap: ...
    @overload
    def __getitem__(self, step: slice) -> Sequence[Action | Overlap]: ...
    def __getitem__(self, step: int | slice) -> Action | Overlap | Sequence[Action | Overlap]:
        if isinstance(step, slice):
            return [self[s] for s in range(*step.indices(len(self)))]
        step = range(len(self))[step]
        first = self._first[step]
        following = self._first[step + 1] if step + 1 < len(self) else self._end
        if following - first == 2:
            return Overlap(self._schedule.atom(first), self._schedule.atom(first + 1))
        return self._schedule.atom(first)

    def __repr__(self) -> str:
        return "[" + ", ".join(map(str, self)) + "]"


def _contiguous(ids: np.ndarray) -> int:
    """How many of 0, 1, 2, … appear without a gap, at least 1.

    A lone id 7 does not make eight micro-batches.
    """
    present = np.unique(ids)
    return max(1, int((present == np.arange(len(present))).sum()))


def _infer_placement(
    stage: np.ndarray, replica: np.ndarray, rank: np.ndarray
) -> dict[tuple[int, int], int]:
    """The rank that holds most of the actions of each (replica, stage); of equals the lower."""
    keys, counts = np.unique(np.stack([replica, stage, rank]), axis=1, return_counts=True)
    placement: dict[tuple[int, int], tuple[int, int]] = {}
    for (r, s, where), count in zip(keys.T.tolist(), counts.tolist(), strict=True):
        if count > placement.get((r, s), (0, 0))[0]:
            placement[r, s] = (count, where)
    return {key: where for key, (_, where) in placement.items()}
