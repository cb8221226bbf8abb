"""Ranks on GPUs: threads of one process, each with a stream of its own, on the GPUs of one host.

    rank 0's stream   0F0 ▸ event            0F1 ▸ event
    rank 1's stream         ╰ wait ▸ copy ▸ 1F0 ╰ wait …

The host queues and goes on; what waits is the stream, for the event that the sender recorded behind
its result. Ranks may share a GPU (then nothing is copied) or have their own: the code is the same.
Ranks may be processes too: with a GPU each they send by NCCL (network.py), and on one GPU, which
NCCL refuses, through the host's memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from ..record.clock import EventClock, HostClock
from .protocol import Arrival, Transport
from .threads import Hub, ThreadTransport


def device_of(number: int) -> torch.device:
    """The GPU of a rank, by its number on this host.

    GPUs are dealt out in turn; several ranks share one where there are more ranks than GPUs.
    """
    return torch.device("cuda", number % torch.cuda.device_count())


@contextmanager
def on_own_stream(device: torch.device) -> Iterator[None]:
    """While it lasts, this thread queues its work on a new stream of the GPU."""
    torch.cuda.init()
    torch.cuda.set_device(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        yield


class GpuTransport(ThreadTransport):
    """Between ranks on GPUs.

    clock: this rank's, whose stamps go with what it sends. cuda: torch.cuda.
    """

    carrier: ClassVar[str] = "device copies behind events"

    def __init__(
        self, hub: Hub, rank: int, device: torch.device, clock: HostClock, cuda: Any = torch.cuda
    ):
        super().__init__(hub, rank)
        self._device, self._clock, self._cuda = device, clock, cuda

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Queue the hand-over behind what made the tensor and return at once."""
        sent, ready = self._clock.stamp(), self._cuda.Event()
        ready.record()  # who has waited for this may read the stamp
        self._put(to, message, sequence, Arrival(tensor.detach(), sent, planned, parts), ready)

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """The tensor on this rank's GPU, for use behind it on this rank's stream.

        Raises TimeoutError at ``deadline``.
        """
        arrival, ready = self._take(message, sequence, deadline)
        stream, source = self._cuda.current_stream(self._device), arrival.tensor.device
        stream.wait_event(ready)
        if arrival.tensor.is_cuda and source != self._device:
            # torch copies on this thread's stream of the source.
            stream = self._cuda.current_stream(source)
            stream.wait_event(ready)
        if arrival.tensor.is_cuda:
            # Its memory is not given away before this stream has used it.
            arrival.tensor.record_stream(stream)
        arrival.tensor = arrival.tensor.to(self._device, non_blocking=True)
        return arrival


class StagedTransport:
    """Through the host's memory, between processes that do not reach each other's GPU.

    It works over a transport of the host. Its price is what threads save: to hand a tensor over,
    the host waits until the GPU has computed it.
    """

    carrier: ClassVar[str] = "shared memory, through the host's memory"

    def __init__(self, over: Transport, device: torch.device):
        self._over, self._device = over, device

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Hand a copy of the tensor to rank ``to``, when it has been computed."""
        self._over.send(to, message, sequence, tensor.detach().cpu(), planned, parts)

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """A copy on this rank's GPU. Raises TimeoutError at ``deadline``."""
        arrival = self._over.receive(message, sequence, deadline)
        arrival.tensor = arrival.tensor.to(self._device, copy=True)
        self._over.consumed(message, sequence)
        return arrival

    def consumed(self, message: int, sequence: int) -> None:
        """The copy is the receiver's own."""


def clock_of(board: Any, rank: int, device: torch.device, *, paced: bool) -> HostClock:
    """Events where actions run as fast as they can.

    A pace is kept by the host, which then waits for each action.
    """
    if paced:
        return HostClock(board, rank, settle=torch.cuda.current_stream(device).synchronize)
    return EventClock(board, rank, device)
