"""Schedules in torch.distributed.pipelining's CSV: one row per rank, one action per cell.

An empty cell is idle. Reading also takes torch's lowered form: the cells of communication
(``0SEND_F1``, ``1RECV_F1``) and of sharding (``0UNSHARD``, ``0RESHARD``, ``0REDUCE_GRAD``) must
stand where the computation allows them, and are then dropped, unless the latter are asked for.
"""

import csv
import io
import re
from pathlib import Path

from ..errors import Refusal, ScheduleError, ScheduleFormatError
from .action import Action, Overlap, parse_cell
from .check import check
from .kinds import COLLECTIVES, KINDS, Kind, sending
from .schedule import Schedule

_MESSAGE = re.compile(r"(\d+)(SEND|RECV)_([FB])(\d+)", re.ASCII)
OURS = frozenset(row.kind for row in KINDS if not row.torch)
Cell = Action | Overlap
Dropped = tuple[int, "re.Match[str] | Action"]
_DIRECTION = dict.fromkeys(sending("down"), "F") | dict.fromkeys(sending("up"), "B")
"""The letter that torch's sends and receives have for the result of each kind."""


def parse_csv(text: str, *, name: str = "custom", collectives: bool = False) -> Schedule:
    """Make a Schedule from text.

    Args:
        text: The file's content.
        name: What to call the schedule.
        collectives: Keep UNSHARD, RESHARD and REDUCE_GRAD, which are else verified and dropped.

    Raises:
        ScheduleFormatError: the text is not a schedule; with line and cell counted from 1.
        ScheduleError: a cell that is dropped contradicts the order of the computation.
    """
    try:
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True))
    except csv.Error as error:
        raise ScheduleFormatError(f"this is not CSV: {error}.") from error
    while lines and not any(cell.strip() for cell in lines[-1]):
        lines.pop()
    parsed = [
        _parse_row(line, cells, collectives=collectives) for line, cells in enumerate(lines, 1)
    ]
    rows = [row for row, _ in parsed]
    if not any(rows):
        raise ScheduleFormatError(
            "it has no action at all. A schedule has one row per rank, such as 0F0,0F1,0B0,0B1."
        )
    for rank, (row, dropped) in enumerate(parsed):
        _verify_dropped(rank, row, dropped)
    return Schedule.from_rows(rows, name=name)


def _parse_row(
    line: int, cells: list[str], *, collectives: bool
) -> tuple[list[Cell], list[Dropped]]:
    """The actions of a row, and the cells that are dropped: after how many actions, and what."""
    row: list[Cell] = []
    dropped: list[Dropped] = []
    for column, text in enumerate(cells, 1):
        if not text.strip():
            continue
        message = _MESSAGE.fullmatch(text.strip())
        if message:
            dropped.append((len(row), message))
            continue
        try:
            cell = parse_cell(text)
        except ScheduleFormatError as error:
            raise ScheduleFormatError(str(error), line, column) from None
        if isinstance(cell, Action) and cell.kind in COLLECTIVES and not collectives:
            dropped.append((len(row), cell))
        else:
            row.append(cell)
    return row, dropped


def format_csv(schedule: Schedule) -> str:
    """Schedule -> text, one row per rank, no idle cells."""
    return "".join(",".join(map(str, row)) + "\n" for row in schedule.actions)


def read_csv(path: str | Path, *, collectives: bool = False) -> Schedule:
    """Read a file; the schedule is named after it.

    collectives: keep UNSHARD, RESHARD and REDUCE_GRAD, which are else verified and dropped. Raises
    ScheduleFormatError and OSError.
    """
    path = Path(path)
    return parse_csv(_text(path), name=path.stem, collectives=collectives)


def refusal_of_text(text: str) -> Refusal | None:
    """What is wrong with a schedule given as CSV text, or None when it can run.

    Cells that cannot be read are refused like any other mistake.
    """
    try:
        return check(parse_csv(text))
    except ScheduleError as error:
        return error.refusal
    except ScheduleFormatError as error:
        rank = None if error.line is None else error.line - 1
        if rank is None or error.cell is None:
            return Refusal("syntax", rank, None, None, None, str(error))
        row = next(csv.reader([text.removeprefix("\ufeff").splitlines()[rank]]))
        before, cell = row[: error.cell - 1], row[error.cell - 1].strip()
        step = sum(bool(other.strip()) for other in before)
        return Refusal("syntax", rank, step, cell, None, str(error))


def unreadable_by_torch(schedule: Schedule) -> str | None:
    """A warning that names our additions to the notation; None when torch can read the schedule."""
    used = [f"{kind.name} ({kind.title})" for kind in sorted(schedule.kinds & OURS)]
    if schedule.replicas > 1:
        used.append("@1 (second replica)")
    if not used:
        return None
    return (
        "torch.distributed.pipelining cannot read this file: it uses pipelab's additions "
        f"{', '.join(used)}."
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScheduleFormatError(f"{path} is not text: {error}.") from error


def _verify_dropped(rank: int, row: list[Cell], dropped: list[Dropped]) -> None:
    """Raise when a dropped cell stands on the wrong side of the action it serves."""
    position: dict[tuple[str, int, int], int] = {}
    span: dict[int, tuple[int, int]] = {}  # of each stage: its first and its last step
    for step, cell in enumerate(row):
        for action in cell if isinstance(cell, Overlap) else (cell,):
            if action.kind in _DIRECTION:
                position[_DIRECTION[action.kind], action.stage, action.microbatch] = step
            span[action.stage] = (span.get(action.stage, (step, step))[0], step)
    for before, what in dropped:
        wrong = (
            _wrong_collective(row, span, before, what)
            if isinstance(what, Action)
            else _wrong_message(position, before, what)
        )
        if wrong:
            text, (needs, why) = what[0] if isinstance(what, re.Match) else str(what), wrong
            message = f"Rank {rank}, before step {before}: {text} {why}."
            raise ScheduleError(Refusal("order", rank, before, text, needs, message))


def _wrong_collective(
    row: list[Cell], span: dict[int, tuple[int, int]], before: int, action: Action
) -> tuple[str, str] | None:
    """What a collective that stands before a step lacks there, and the rest of the sentence."""
    if action.stage not in span:
        return (
            f"an action of stage {action.stage}",
            "serves a stage that this rank does not run",
        )
    first, last = span[action.stage]
    if action.kind == Kind.UNSHARD and before > last:
        return str(row[last]), "comes after the last action of its stage"
    if action.kind == Kind.REDUCE_GRAD and before <= first:
        return str(row[first]), "comes before the first action of its stage"
    return None


def _wrong_message(
    position: dict[tuple[str, int, int], int], before: int, match: re.Match[str]
) -> tuple[str, str] | None:
    """The same of a send or a receive."""
    stage, verb, letter, microbatch = match.groups()
    served = f"{stage}{letter}{microbatch}"
    step = position.get((letter, int(stage), int(microbatch)))
    if step is None:
        return served, f"serves {served}, which this rank does not run"
    if verb == "SEND" and before <= step:
        return served, f"sends the result of {served}, which this rank computes only later"
    if verb == "RECV" and before > step:
        return served, f"receives the input of {served}, which this rank has already run"
    return None
