"""Which transport carries tensors between the workers of one host."""

from .gpu import GpuTransport, StagedTransport
from .protocol import Transport
from .shared_memory import SharedMemoryTransport
from .threads import ThreadTransport


def class_for(device: str, workers: str) -> type[Transport]:
    """The transport for ranks on "cpu" or "cuda", as "processes" or "threads"."""
    if workers == "threads":
        return GpuTransport if device == "cuda" else ThreadTransport
    return StagedTransport if device == "cuda" else SharedMemoryTransport
