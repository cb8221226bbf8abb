"""Which transport carries tensors between the workers of one host."""

from .gpu import GpuTransport
from .ipc import IpcTransport
from .protocol import Transport
from .shared_memory import SharedMemoryTransport
from .threads import ThreadTransport


def class_for(device: str, workers: str) -> type[Transport]:
    """The transport for ranks on "cpu" or "cuda", as "processes" or "threads".

    Processes on GPUs see only when they meet whether the system allows it: ``ipc``.
    """
    if workers == "threads":
        return GpuTransport if device == "cuda" else ThreadTransport
    return IpcTransport if device == "cuda" else SharedMemoryTransport
