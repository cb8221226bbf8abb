"""The course's data: its table, questions, goals, what a learner answered, and its pictures.

In: slugs such as "02-bubble". Out: questions whose answers are computed, goals as data, the one
file beside the notebooks that keeps guesses and goals reached, and pictures as SVG. ``trained``
trains one of the course's models for real and shows what it has learned; ``ending`` is the last
frame of a notebook.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .choosing import needs, planned, played
    from .diagrams import folded, pipe, scatter, waiting
    from .figures import Line, Picture, bars, lines, verdicts
    from .frameworks import configured
    from .lab_goals import goals
    from .last_frame import all_points, ending
    from .meshes import held, traffic, workers
    from .questions import question
    from .seen import trained
    from .stale import time_to_loss, versioned
    from .table import Lesson, Task, lessons

_LATE = {
    "Lesson": "table",
    "Line": "figures",
    "Picture": "figures",
    "Task": "table",
    "all_points": "last_frame",
    "bars": "figures",
    "configured": "frameworks",
    "ending": "last_frame",
    "folded": "diagrams",
    "goals": "lab_goals",
    "held": "meshes",
    "lessons": "table",
    "lines": "figures",
    "needs": "choosing",
    "pipe": "diagrams",
    "planned": "choosing",
    "played": "choosing",
    "question": "questions",
    "scatter": "diagrams",
    "time_to_loss": "stale",
    "traffic": "meshes",
    "trained": "seen",
    "verdicts": "figures",
    "versioned": "stale",
    "waiting": "diagrams",
    "workers": "meshes",
}
__all__ = [
    "Lesson", "Line", "Picture", "Task",
    "all_points", "bars", "configured", "ending", "folded", "goals", "held", "lessons", "lines",
    "needs", "pipe", "planned", "played", "question", "scatter", "time_to_loss", "traffic",
    "trained", "verdicts", "versioned", "waiting", "workers",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'pipelab.course' has no attribute {name!r}")
    module = import_module(f".{_LATE[name]}", __name__)
    value = globals()[name] = getattr(module, name)
    return value
