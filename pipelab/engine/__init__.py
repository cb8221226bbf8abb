"""Real training: the engine executes any legal Schedule in worker processes and measures a Timeline.

In: a model, data, a loss and a Schedule. Out: a Run with losses, gradients and what happened when.
Way of the data: run → pool (server that forks workers) → worker → interpreter → stage and transport → trace → run.
"""

from .plan import gpu_names
from .pool import shutdown, warm
from .run import Event, Run, run, start

__all__ = ["Event", "Run", "gpu_names", "run", "shutdown", "start", "warm"]
