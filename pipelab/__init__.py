"""pipelab: see, predict and run pipeline parallelism.

A Schedule says what each rank does; ``simulate`` predicts its Timeline, ``run`` trains for real and
measures one. Importing pipelab is light: torch, plotly and the notebook widgets load when a
function needs them.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .catalogue import build
from .errors import PipelabError
from .schedule import Action, Kind, Mesh, Schedule, check, read_csv
from .simulator import Costs, Link, Memory, Nodes, simulate
from .timeline import Timeline

if TYPE_CHECKING:
    from .engine import Run, evaluate, measure_machine, profile, run, start, train_layout
    from .grading import grade
    from .layout import Partition, Plan, Profile, estimate, fit_link, partition, plan
    from .model import layers
    from .plots import plot
    from .widgets.cuts import cuts
    from .widgets.guess import guess
    from .widgets.lab import lab
    from .widgets.memory import memory
    from .widgets.planner import planner
    from .widgets.shapes import shapes

try:
    __version__ = version("pipelab")
except PackageNotFoundError:  # a checkout that nobody has installed
    __version__ = "0+unknown"
__all__ = [
    "Action", "Costs", "Kind", "Link", "Memory", "Mesh", "Nodes", "Partition", "PipelabError",
    "Plan", "Profile", "Run", "Schedule", "Timeline", "build", "check", "cuts", "estimate",
    "evaluate", "fit_link", "grade", "guess", "lab", "layers", "measure_machine", "memory",
    "partition", "plan", "planner", "plot", "profile", "read_csv", "run", "shapes", "simulate",
    "start", "train_layout",
]  # fmt: skip

_LATE = {
    "Run": "engine",
    "evaluate": "engine",
    "measure_machine": "engine",
    "profile": "engine",
    "run": "engine",
    "start": "engine",
    "train_layout": "engine",
    "grade": "grading",
    "Partition": "layout",
    "Plan": "layout",
    "Profile": "layout",
    "estimate": "layout",
    "fit_link": "layout",
    "partition": "layout",
    "plan": "layout",
    "layers": "model",
    "plot": "plots",
    "cuts": "widgets",
    "guess": "widgets",
    "lab": "widgets",
    "memory": "widgets",
    "planner": "widgets",
    "shapes": "widgets",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'pipelab' has no attribute {name!r}")
    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
