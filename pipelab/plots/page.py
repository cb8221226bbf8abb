"""Timelines as one HTML file that plays by itself.

It draws on our own canvas, without plotly, and requests nothing from anywhere.
"""

import base64
import json
import os
import tempfile
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ..errors import UsageError
from ..timeline import Timeline
from .bundle import FRONTEND, bundle
from .view import Message, caption, view


def page_text(*timelines: Timeline) -> str:
    """The page as text.

    timelines: one, or several to lie under each other on one time axis, such as ``run.predicted,
    run.timeline``; all with the same unit. Raises UsageError for none, or for units that differ.
    """
    if not timelines or len({timeline.unit for timeline in timelines}) > 1:
        raise UsageError(
            "A page needs at least one timeline, and all of them in the same unit of time."
        )
    messages = [as_text(view(timeline)) for timeline in timelines]
    style = (FRONTEND / "picture.css").read_text(encoding="utf-8")
    return assemble(caption(timelines[0]), style, messages, bundle(FRONTEND / "page.js"))


def assemble(title: str, style: str, data: Any, script: str) -> str:
    """A page of these parts; the data, as JSON, stands in it."""
    return Template((FRONTEND / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=style,
        # "</" would end the script element wherever it stood, in a schedule's name for instance
        data=json.dumps(data).replace("</", "<\\/"),
        script=script,
    )


def write_page(path: str | os.PathLike[str], *timelines: Timeline) -> Path:
    """Write ``page_text`` of the timelines, whole or not at all, and return its path."""
    return write_whole(path, page_text(*timelines))


def write_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file, which appears whole or not at all, and return its path."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # a temporary file is private; a page is for others
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def as_text(message: Message) -> Message:
    """The message with its arrays in base64."""
    text = dict(message)
    for name, value in message.items():
        if isinstance(value, bytes):
            text[name] = base64.b64encode(value).decode()
    return text
