"""Can this schedule run? If not: which action, what it lacks, and why, in words for a person.

torch's own validator counts sets, so it accepts duplicates, indices out of range, B beside I and W,
and orders in which ranks wait for one another for ever. Here each of those is refused before a
worker starts.
"""

from collections.abc import Callable

import numpy as np

from ..errors import Refusal, ScheduleError
from .action import Action
from .collectives import check_collectives
from .kinds import COLLECTIVES, KINDS, OF_MICROBATCH, Kind
from .longest_path import LongestPath, finishes, longest_path
from .refusals import refuse_at, refuse_missing
from .schedule import Schedule


def check(schedule: Schedule) -> Refusal | None:
    """The first reason why the schedule cannot run, or None when it can.

    >>> check(Schedule.from_rows([["0F0", "0B0"], ["1B0", "1F0"]])).code
    'order'
    """
    refusal, verdicts = check_each_rank(schedule), schedule.verdicts
    if refusal is None and "deadlock" not in verdicts:
        verdicts["deadlock"] = None if finishes(schedule) else _deadlock(schedule)
    return refusal or verdicts["deadlock"]


def require_legal(schedule: Schedule, test: Callable[[Schedule], Refusal | None] = check) -> None:
    """Raise ScheduleError, with the reason, unless the schedule can run or passes ``test``."""
    refusal = test(schedule)
    if refusal:
        raise ScheduleError(refusal)


def check_each_rank(schedule: Schedule) -> Refusal | None:
    """The same but for deadlocks, which take following how ranks wait for one another."""
    if "each rank" not in schedule.verdicts:
        tests = (_numbers, _ranks, _counts, _local_order, check_collectives)
        found = next(filter(None, (test(schedule) for test in tests)), None)
        schedule.verdicts["each rank"] = found
    return schedule.verdicts["each rank"]


def _numbers(schedule: Schedule) -> Refusal | None:
    """Ids count 0, 1, 2, … without a gap; every rank has work."""
    empty = np.flatnonzero(np.diff(schedule.offsets) == 0)
    if len(empty):
        return Refusal(
            "missing",
            int(empty[0]),
            None,
            None,
            "an action",
            f"Rank {empty[0]} has no actions at all. Leave its row out, or give it a stage.",
        )
    numbers = np.where(schedule.of_microbatch, schedule.microbatch, 0)
    for what, column, count in (
        ("stage", schedule.stage, schedule.stages),
        ("micro-batch", numbers, schedule.microbatches),
        ("replica", schedule.replica, schedule.replicas),
    ):
        beyond = np.flatnonzero(column >= count)
        if len(beyond):
            gap = f"{what} {count} appears nowhere"
            if not (column == 0).any():
                gap = "counting starts at 0"
            return refuse_at(
                schedule,
                beyond[0],
                "out-of-range",
                f"{what} {count}",
                f"names {what} {column[beyond[0]]}, but {gap}: the others are numbered 0 to "
                f"{count - 1}.",
            )
    return None


def _ranks(schedule: Schedule) -> Refusal | None:
    """Each stage of each model copy lives on one rank."""
    home = schedule.placement_table[schedule.replica, schedule.stage]
    astray = np.flatnonzero(home != schedule.rank)
    if not len(astray):
        return None
    atom = astray[0]
    return refuse_at(
        schedule,
        atom,
        "wrong-rank",
        f"rank {home[atom]}",
        f"belongs on rank {home[atom]}, where the other actions of stage {schedule.stage[atom]} "
        "are: the weights of a stage live on one rank.",
    )


def _positions(schedule: Schedule) -> np.ndarray:
    """Atom of each (kind, replica, stage, micro-batch), or -1; kinds of a micro-batch alone."""
    kinds = 1 + max(OF_MICROBATCH)
    position = np.full((kinds, schedule.replicas, schedule.stages, schedule.microbatches), -1)
    work = schedule.of_microbatch
    columns = (schedule.kind, schedule.replica, schedule.stage, schedule.microbatch)
    position[tuple(column[work] for column in columns)] = np.flatnonzero(work)
    return position


def _duplicate(schedule: Schedule) -> int | None:
    """The second occurrence of an action that appears twice, or None.

    Collectives may: see ``check_collectives``.
    """
    numbers = max(schedule.microbatches, int(schedule.microbatch.max()) + 1)
    sizes = (len(KINDS), schedule.replicas, schedule.stages, numbers)
    code = np.ravel_multi_index(
        (schedule.kind, schedule.replica, schedule.stage, schedule.microbatch), sizes
    )
    atoms = None
    if schedule.kinds & COLLECTIVES:
        atoms = np.flatnonzero(~np.isin(schedule.kind, tuple(COLLECTIVES)))
        code = code[atoms]
    if np.bincount(code, minlength=1).max() <= 1:
        return None
    order = np.argsort(code, kind="stable")
    twice = order[1:][code[order][1:] == code[order][:-1]]
    first = int(twice.min())
    return first if atoms is None else int(atoms[first])


def _counts(schedule: Schedule) -> Refusal | None:
    """Each stage runs each micro-batch forward once, and backward once, as B or as I and W."""
    twice = _duplicate(schedule)
    if twice is not None:
        return refuse_at(
            schedule,
            twice,
            "duplicate",
            None,
            "stands here a second time. Each action runs once: twice would add its gradient twice.",
        )
    steps = _steps(schedule)
    if steps:
        return steps
    position = _positions(schedule)
    return _mixed(schedule, position) or _missing(schedule, position >= 0)


def _mixed(schedule: Schedule, position: np.ndarray) -> Refusal | None:
    """A full backward beside one that is split."""
    present: np.ndarray = position >= 0
    mixed = np.flatnonzero(present[Kind.B] & (present[Kind.I] | present[Kind.W]))
    if not len(mixed):
        return None
    atom = int(position[Kind.B].ravel()[mixed].min())
    action = schedule.atom(atom)
    of_action = present[:, action.replica, action.stage, action.microbatch]
    other = action._replace(kind=Kind.I if of_action[Kind.I] else Kind.W)
    return refuse_at(
        schedule,
        atom,
        "mixed-backward",
        None,
        f"is a full backward, but {other} is there too. A backward is either one B, or I and W, "
        "never both.",
    )


def _missing(schedule: Schedule, present: np.ndarray) -> Refusal | None:
    """An action that stands nowhere; ``present`` is of (kind, replica, stage, micro-batch)."""
    # A micro-batch goes through one model copy: the one whose forwards name it.
    used = np.asarray(present.any(axis=(0, 2)))[:, None, :]  # (replicas, 1, microbatches)
    split = present[Kind.I] | present[Kind.W]
    whole = used & ~split
    for kind, needed, because in (
        (Kind.F, used, "every stage runs every micro-batch forward"),
        (Kind.I, split, "W needs the output gradient that I brings"),
        (Kind.W, split, "I alone leaves the weights without a gradient"),
        (Kind.B, whole, "every forward needs its backward (B, or I and W)"),
    ):
        absent = needed & ~present[kind]
        if absent.any():
            replica, stage, microbatch = np.argwhere(absent)[0].tolist()
            return refuse_missing(schedule, Action(kind, stage, microbatch, replica), because)
    return None


def _steps(schedule: Schedule) -> Refusal | None:
    """Optimizer steps of a stage are numbered as they stand; all stages take as many."""
    atoms = np.flatnonzero(schedule.kind == Kind.STEP)
    taken: dict[tuple[int, int], int] = {}
    for atom in atoms.tolist():
        action = schedule.atom(atom)
        key = action.replica, action.stage
        if action.microbatch != taken.get(key, 0):
            needed = action._replace(microbatch=taken.get(key, 0))
            return refuse_at(
                schedule,
                atom,
                "order",
                str(needed),
                f"comes before {needed}: steps are numbered as they stand.",
            )
        taken[key] = action.microbatch + 1
    if taken:
        most = max(taken.values())
        for key in schedule.placement:
            if taken.get(key, 0) < most:
                missing = Action(Kind.STEP, key[1], taken.get(key, 0), key[0])
                because = f"other stages take {most} optimizer steps"
                return refuse_missing(schedule, missing, because)
    return None


def _local_order(schedule: Schedule) -> Refusal | None:
    """On its own stage, an action comes after what it needs."""
    position = _positions(schedule)
    worst: tuple[int, int, str] | None = None
    for row in KINDS:
        for earlier, why in row.needs:
            a, b = position[earlier], position[row.kind]
            wrong = _too_late(schedule, a, b)
            if wrong.any():
                atom = int(b[wrong].min())
                if worst is None or atom < worst[0]:
                    worst = atom, int(a[wrong][b[wrong].argmin()]), why
    if worst is None:
        return None
    atom, needed, why = worst
    return refuse_at(
        schedule,
        atom,
        "order",
        str(schedule.atom(needed)),
        f"comes before {schedule.atom(needed)}: {why}.",
    )


def _too_late(schedule: Schedule, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a stands behind b or in the same cell, for each pair of atoms; -1 stands nowhere."""
    wrong: np.ndarray = b < a
    if schedule.overlaps:
        wrong |= (schedule.cell[a] == schedule.cell[b]) & (schedule.rank[a] == schedule.rank[b])
    wrong &= (a >= 0) & (b >= 0)
    return wrong


def _deadlock(schedule: Schedule) -> Refusal:
    """Some rank waits, through other ranks, for itself: how."""
    cycle = _cycle(schedule, longest_path(schedule))
    atom, needed = cycle[0]
    if schedule.rank[atom] == schedule.rank[needed] and len(cycle) == 1:
        return refuse_at(
            schedule,
            atom,
            "order",
            str(schedule.atom(needed)),
            f"comes before {schedule.atom(needed)} on the same rank, and needs its result.",
        )
    sentences = []
    for i, (waiting, wanted) in enumerate(cycle):
        blocked_by = cycle[(i + 1) % len(cycle)][0]
        sentences.append(
            f"rank {schedule.rank[waiting]} stands at {schedule.atom(waiting)} and needs "
            f"{schedule.atom(wanted)} from rank {schedule.rank[wanted]}, which must first run "
            f"{schedule.atom(blocked_by)}"
        )
    loop = " → ".join(str(schedule.atom(waiting)) for waiting, _ in [*cycle, cycle[0]])
    return refuse_at(
        schedule,
        atom,
        "deadlock",
        str(schedule.atom(needed)),
        f"can never start, because ranks wait for one another: {'; '.join(sentences)}. The cycle: "
        f"{loop}. Move one of these actions so that what it needs comes first.",
    )


def _cycle(schedule: Schedule, path: LongestPath) -> list[tuple[int, int]]:
    """The ring of blocked ranks, from the lowest: (atom that waits, atom it waits for)."""
    stuck = np.isnan(path.ended)
    heads: dict[int, tuple[int, int]] = {}
    for rank, (low, high) in enumerate(path.cell_slices):
        blocked = np.flatnonzero(stuck[low:high])
        if len(blocked):
            for atom in np.flatnonzero(path.cell_of == low + blocked[0]):
                wanted = path.producer[atom]
                if wanted >= 0 and stuck[path.cell_of[wanted]]:
                    heads[rank] = int(atom), int(wanted)
                    break
    rank, seen = min(heads), []
    while rank not in seen:
        seen.append(rank)
        rank = int(schedule.rank[heads[rank][1]])
    ring = seen[seen.index(rank) :]
    lowest = ring.index(min(ring))
    return [heads[r] for r in ring[lowest:] + ring[:lowest]]
