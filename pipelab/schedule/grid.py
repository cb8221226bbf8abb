"""A schedule as a text picture."""

from .longest_path import longest_path
from .schedule import Schedule


def grid(schedule: Schedule, mark: tuple[int, int] | None = None) -> str:
    """Draw one row per rank, and a column per unit of time when every action takes one unit.

    ``.`` is idle. A schedule that cannot run is drawn by step instead, without idle columns.
    ``mark`` = (rank, step) is pointed at.

    >>> print(Schedule.from_rows([["0F0", "0B0"], ["1F0", "1B0"]], name="naive").grid())
    rank 0  0F0 .   .   0B0
    rank 1  .   1F0 1B0 .
    """
    rows = [[str(action) for action in row] for row in schedule.actions]
    columns = [list(range(len(row))) for row in rows]
    if mark is None:
        path = longest_path(schedule)
        if path.complete:
            columns = [path.started[a:b].astype(int).tolist() for a, b in path.cell_slices]
    width = max((max(map(len, row)) for row in rows if row), default=1)
    length = max((c[-1] + 1 for c in columns if c), default=0)
    lines = []
    for rank, (row, where) in enumerate(zip(rows, columns, strict=True)):
        cells = ["."] * length
        for text, column in zip(row, where, strict=True):
            cells[column] = text
        label = f"rank {rank:<{len(str(len(rows) - 1))}}  "
        lines.append((label + " ".join(f"{cell:<{width}}" for cell in cells)).rstrip())
        if mark is not None and mark[0] == rank:
            lines.append(
                " " * (len(label) + mark[1] * (width + 1)) + "^" * len(row[mark[1]]) + " here"
            )
    return "\n".join(lines)
