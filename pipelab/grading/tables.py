"""Tables that open in a spreadsheet without running anything, and files that are whole.

A text that begins like a formula gets an apostrophe before it, which spreadsheets do not show.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_FORMULA, _NUMBER = re.compile(r"[=+\-@\t\r]"), re.compile(r"-?[\d.]+")
BOM = "\ufeff"
"""At the start of a CSV: by it a spreadsheet knows that letters are UTF-8."""


def cell(value: object) -> str:
    """A text that stays one in a spreadsheet."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace("\r", " ")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def cells(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV for a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(each) for each in row] for row in rows)
    return BOM + text.getvalue()


def read_cells(path: Path) -> list[list[str]]:
    """The rows of a CSV that `cells` or a spreadsheet wrote; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    separator = ";" if text.partition("\n")[0].count(";") else ","  # Excel's in half of Europe
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [[_text(each) for each in row] for row in rows if any(row)]


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that is whole, whoever looks and whenever this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
