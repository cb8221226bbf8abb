"""The models that come with the course, their data, and how a model is cut.

In: a name and a size, or anybody's list of layers. Out: a `Workload` (model,
batches, loss) and the stages of a pipeline. Every model is an `nn.Sequential`.
"""

from .exported import layers
from .partition import split
from .workload import Workload, workload

__all__ = ["Workload", "layers", "split", "workload"]
