"""Schedules in torch.distributed.pipelining's CSV: one row per rank, one action per cell, an empty
cell for idle.

Reading also takes torch's lowered form: the cells of communication (``0SEND_F1``, ``1RECV_F1``) and
of sharding (``0UNSHARD``, ``0RESHARD``, ``0REDUCE_GRAD``) must stand where the computation allows
them, and are then dropped.
"""

import csv
import io
import re
from pathlib import Path

from ..errors import Refusal, ScheduleError, ScheduleFormatError
from .action import Action, Kind, Overlap, parse_cell
from .check import check
from .schedule import Schedule

_LOWERED = re.compile(r"(\d+)(?:(SEND|RECV)_([FB])(\d+)|(UNSHARD|RESHARD|REDUCE_GRAD))", re.ASCII)
OURS = frozenset({Kind.R, Kind.STEP})


def parse_csv(text: str, *, name: str = "custom") -> Schedule:
    """Text -> Schedule.

    Raises ScheduleFormatError, with line and cell counted from 1, for text that is no schedule;
    ScheduleError when a cell of communication contradicts the order of the computation.
    """
    rows, lowered = [], []
    try:
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True))
    except csv.Error as error:
        raise ScheduleFormatError(f"this is not CSV: {error}.") from error
    while lines and not any(cell.strip() for cell in lines[-1]):
        lines.pop()
    for line, cells in enumerate(lines, 1):
        row, dropped = [], []
        for column, cell in enumerate(cells, 1):
            if not cell.strip():
                continue
            match = _LOWERED.fullmatch(cell.strip())
            if match:
                dropped.append((len(row), match))
                continue
            try:
                row.append(parse_cell(cell))
            except ScheduleFormatError as error:
                raise ScheduleFormatError(str(error), line, column) from None
        rows.append(row)
        lowered.append(dropped)
    if not any(rows):
        raise ScheduleFormatError(
            "there is no action in it. A schedule has one row per rank, such as 0F0,0F1,0B0,0B1."
        )
    for rank, dropped in enumerate(lowered):
        _verify_lowered(rank, rows[rank], dropped)
    return Schedule.from_rows(rows, name=name)


def format_csv(schedule: Schedule) -> str:
    """Schedule -> text, one row per rank, no idle cells."""
    return "".join(",".join(map(str, row)) + "\n" for row in schedule.actions)


def read_csv(path: str | Path) -> Schedule:
    """Reads a file; the schedule is named after it. Raises ScheduleFormatError, OSError."""
    path = Path(path)
    return parse_csv(_text(path), name=path.stem)


def refusal_of_text(text: str) -> Refusal | None:
    """What is wrong with a schedule given as CSV text, unreadable cells included; None when it can
    run.
    """
    try:
        return check(parse_csv(text))
    except ScheduleError as error:
        return error.refusal
    except ScheduleFormatError as error:
        rank = None if error.line is None else error.line - 1
        step = None if error.cell is None else error.cell - 1
        cell = None
        if step is not None:
            row = next(csv.reader([text.removeprefix("\ufeff").splitlines()[rank]]))
            cell, step = row[step].strip(), sum(bool(c.strip()) for c in row[:step])
        return Refusal("syntax", rank, step, cell, None, str(error))


def unreadable_by_torch(schedule: Schedule) -> str | None:
    """Which of our additions to the notation this schedule uses, as a warning; None when torch can
    read it.
    """
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


def _verify_lowered(
    rank: int, row: list[Action | Overlap], dropped: list[tuple[int, re.Match]]
) -> None:
    """Raises when a dropped cell stands on the wrong side of the action it serves."""
    position: dict[tuple[str, int, int], int] = {}
    span: dict[int, list[int]] = {}
    for step, cell in enumerate(row):
        for action in cell if isinstance(cell, Overlap) else (cell,):
            direction = {Kind.F: "F", Kind.B: "B", Kind.I: "B"}.get(action.kind)
            if direction:
                position[direction, action.stage, action.microbatch] = step
            span.setdefault(action.stage, [step, step])[1] = step
    for before, match in dropped:
        stage, text = int(match[1]), match[0]
        if match[5]:
            if stage not in span:
                _refuse(
                    rank,
                    before,
                    text,
                    f"an action of stage {stage}",
                    "serves a stage that this rank does not run",
                )
            first, last = span[stage]
            if match[5] == "UNSHARD" and before > last:
                _refuse(
                    rank, before, text, f"{row[last]}", "comes after the last action of its stage"
                )
            if match[5] == "REDUCE_GRAD" and before <= first:
                _refuse(
                    rank,
                    before,
                    text,
                    f"{row[first]}",
                    "comes before the first action of its stage",
                )
            continue
        served = f"{stage}{match[3]}{match[4]}"
        step = position.get((match[3], stage, int(match[4])))
        if step is None:
            _refuse(rank, before, text, served, f"serves {served}, which this rank does not run")
        if match[2] == "SEND" and before <= step:
            _refuse(
                rank,
                before,
                text,
                served,
                f"sends the result of {served}, which this rank computes only later",
            )
        if match[2] == "RECV" and before > step:
            _refuse(
                rank,
                before,
                text,
                served,
                f"receives the input of {served}, which this rank has already run",
            )


def _refuse(rank: int, step: int, action: str, needs: str, why: str) -> None:
    raise ScheduleError(
        Refusal(
            "order", rank, step, action, needs, f"Rank {rank}, before step {step}: {action} {why}."
        )
    )
