"""What a person takes away from the lab: files, by format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import UnknownName
from ..plots import page_text, svg
from ..timeline import Timeline


class File(NamedTuple):
    """A file to be: its ending, its media type, its text."""

    ending: str
    media_type: str
    text: str


FORMATS: dict[str, tuple[str, Callable[[list[Timeline]], str]]] = {
    "svg": ("image/svg+xml", lambda timelines: svg(timelines[-1])),
    "html": ("text/html", lambda timelines: page_text(*timelines)),
    "csv": ("text/csv", lambda timelines: timelines[-1].schedule.to_csv()),
    "json": ("application/json", lambda timelines: json.dumps(timelines[-1].to_chrome())),
}
"""Ending -> media type, and the text made of the timelines that are shown, the measured one last
where there is one.
"""


def make(ending: str, timelines: list[Timeline]) -> File:
    """Make a file: an SVG, a page that plays, the schedule as CSV, or a trace for Perfetto.

    Raises UnknownName, which lists the endings.
    """
    if ending not in FORMATS:
        raise UnknownName("format", ending, FORMATS)
    media_type, write = FORMATS[ending]
    return File(ending, media_type, write(timelines))


def save(path: str | Path, timelines: list[Timeline]) -> Path:
    """Write the file that the path's ending names, and returns the path."""
    path = Path(path)
    path.write_text(make(path.suffix.removeprefix("."), timelines).text, encoding="utf-8")
    return path
