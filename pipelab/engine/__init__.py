"""Real training: the engine executes any legal Schedule in worker processes and measures a Timeline.

In: a model, data, a loss and a Schedule. Out: a Run with losses, gradients and what happened when.
Way of the data: run → pool (server that forks workers) → worker → interpreter → stage and transport → trace → run.
"""

from .pool import shutdown, warm
from .run import Run, run, start

__all__ = ["Run", "run", "shutdown", "start", "warm"]
