"""Real training: the engine executes any legal Schedule in real workers and measures a Timeline.

In: a model, data, a loss and a Schedule. Out: a Run with losses, gradients and what happened when.
Way of the data: training → setup (what is checked) → job (what a rank is given) → travel → hosts
(the driver) → workers → rank (interpreter and update) with its stages, what they do with others of
a mesh, and transport between ranks → record (board, trace). reference is what others compute.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .workers.pool import shutdown, warm

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate
    from .going import Event
    from .job.gpus import gpu_names, unusable_gpus
    from .measuring import Trained, measure_machine, train_layout
    from .outcome import Run
    from .profiling import profile
    from .training import run, start

__all__ = [
    "Evaluation",
    "Event",
    "Run",
    "Trained",
    "evaluate",
    "gpu_names",
    "measure_machine",
    "profile",
    "run",
    "shutdown",
    "start",
    "train_layout",
    "unusable_gpus",
    "warm",
]

# These import torch, which takes seconds; ``warm`` does not, so that the server can import it at
# the same time.
_LATE = dict.fromkeys(("gpu_names", "unusable_gpus"), "job.gpus")
_LATE |= {"Evaluation": "evaluation", "evaluate": "evaluation", "profile": "profiling"}
_LATE |= dict.fromkeys(("Trained", "measure_machine", "train_layout"), "measuring")
_LATE |= dict.fromkeys(("run", "start"), "training") | {"Event": "going", "Run": "outcome"}


def __getattr__(name: str):
    if name not in _LATE:
        raise AttributeError(f"module 'pipelab.engine' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LATE[name]}", __name__), name)
    return value
