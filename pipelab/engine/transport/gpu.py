"""Ranks on GPUs: threads of one process, each with a stream of its own, on the GPUs of one host.

    rank 0's stream    0F0 ▸ event       0F1 ▸ event
    rank 1's copies          ╰ wait ▸ copy     ╰ wait ▸ copy
    rank 1's stream                      ╰ 1F0             ╰ 1F1

The host queues and goes on; what waits is a stream, for the event that the sender recorded behind
its result. Where ranks share a GPU, nothing is copied.
Ranks may be processes too: the pool's read each other's GPU (ipc.py), or send through the host's
memory where that is not allowed; so do torchrun's on one GPU, which NCCL refuses. With a GPU each
torchrun's send by NCCL (network.py).
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import numpy as np
import torch

from ..record.board import Board
from ..record.clock import EventClock, HostClock
from .protocol import Arrival, Transport
from .shared_memory import SharedMemoryTransport
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
    with torch.cuda.stream(torch.cuda.Stream(device)):
        with _FIRST_PRODUCT:
            _multiply(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield


_FIRST_PRODUCT = threading.Lock()
"""torch 2.9 notes the workspace of each thread's cuBLAS in a table that nothing guards."""


def _multiply(device: torch.device) -> None:
    """A matrix product, for which cuBLAS gets ready on this thread and its stream."""
    square = torch.zeros(8, 8, device=device)
    square.mm(square)


class GpuTransport(ThreadTransport):
    """Between ranks on GPUs.

    clock: this rank's, whose stamps go with what it sends. cuda: torch.cuda.
    """

    carrier: str = "device copies behind events"

    def __init__(
        self, hub: Hub, rank: int, device: torch.device, clock: HostClock, cuda: Any = torch.cuda
    ):
        super().__init__(hub, rank)
        self._device, self._clock, self._cuda = device, clock, cuda
        self._lanes: dict[torch.device, tuple[Any, Any]] = {}

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
        stream, tensor = self._cuda.current_stream(self._device), arrival.tensor
        if tensor.is_cuda and tensor.device != self._device:
            arrival.tensor = self._fetched(tensor, ready, stream)
            return arrival
        stream.wait_event(ready)
        if tensor.is_cuda:
            # Its memory is not given away before this stream has used it.
            tensor.record_stream(stream)
        arrival.tensor = tensor.to(self._device, non_blocking=True)
        return arrival

    def _fetched(self, tensor: torch.Tensor, ready: Any, stream: Any) -> torch.Tensor:
        """A copy from another GPU, by two streams that do nothing else, for use on a third.

        torch copies on this thread's stream of the source, and first waits for this thread's stream
        here. By default the one is the same for all threads, the other is busy computing.
        """
        source = tensor.device
        if source not in self._lanes:
            self._lanes[source] = self._cuda.Stream(source), self._cuda.Stream(self._device)
        there, here = self._lanes[source]
        done = self._cuda.Event()
        with self._cuda.stream(there), self._cuda.stream(here):
            there.wait_event(ready)
            tensor.record_stream(there)
            copy = tensor.to(self._device, non_blocking=True)
            done.record(here)
        stream.wait_event(done)
        copy.record_stream(stream)
        return copy


class StagedTransport:
    """Through the host's memory, between processes that do not reach each other's GPU.

    It works over a transport of the host. Its price is what threads save: to hand a tensor over,
    the host waits until the GPU has computed it. cuda: torch.cuda. refused: why there is no better
    way.
    """

    carrier: str = "shared memory, through the host's memory"

    def __init__(
        self, over: Transport, device: torch.device, cuda: Any = torch.cuda, refused: str = ""
    ):
        self.over, self._device, self._cuda = over, device, cuda
        if refused:
            self.carrier = f"{self.carrier} (CUDA IPC is not possible: {refused})"
        self._copying: deque[tuple[Any, int, int]] = deque()

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
        self.over.send(to, message, sequence, tensor.detach(), planned, parts)

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """A copy on this rank's GPU. Raises TimeoutError at ``deadline``."""
        arrival = self.over.receive(message, sequence, deadline)
        arrival.tensor = arrival.tensor.to(self._device, non_blocking=True, copy=True)
        done = self._cuda.Event()
        done.record()
        self._copying.append((done, message, sequence))
        self._give_back()
        return arrival

    def _give_back(self) -> None:
        """Say which tensors have been copied."""
        while self._copying and self._copying[0][0].query():
            _, copied, when = self._copying.popleft()
            self.over.consumed(copied, when)

    def consumed(self, message: int, sequence: int) -> None:
        """The copy is the receiver's own."""


class RegisteredTransport(SharedMemoryTransport):
    """Shared memory that CUDA knows: it copies straight between a block and the GPU.

    Each side registers a block when it first sees it. Where the system does not allow that (memory
    that may be locked is limited), copies take a detour, and take longer. cuda: torch.cuda.
    """

    grain: ClassVar[int] = 4096  # pages: blocks that share one cannot both be registered

    def __init__(
        self,
        board: Board,
        rank: int,
        wake: Sequence[int],
        inbox: int,
        device: torch.device,
        cuda: Any = torch.cuda,
    ):
        super().__init__(board, rank, wake, inbox)
        self._device, self._cuda = device, cuda
        self._base = np.frombuffer(board.memory, np.uint8, 1).ctypes.data
        self._registered: set[int] = set()
        self._allowed = True

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Wait for a message and return a view of it, valid until ``consumed``."""
        arrival = super().receive(message, sequence, deadline)
        if arrival.tensor.numel():
            self._register(arrival.tensor.data_ptr(), arrival.tensor.nbytes)
        return arrival

    def _block(self, size: int) -> int:
        """An offset with ``size`` free bytes that CUDA knows."""
        offset = super()._block(size)
        self._register(self._base + offset, size)
        return offset

    def _register(self, address: int, size: int) -> None:
        if not self._allowed or address in self._registered:
            return
        size = -(-size // self.grain) * self.grain
        self._registered.add(address)
        if int(self._cuda.cudart().cudaHostRegister(address, size, 0)) != 0:
            self._allowed = False
            with suppress(RuntimeError):  # CUDA reports what failed once more, here
                torch.zeros(1, device=self._device).add_(1)


def clock_of(
    board: Board, rank: int, device: torch.device, bases: dict, *, paced: bool
) -> HostClock:
    """Events where actions run as fast as they can.

    A pace is kept by the host, which then waits for each action.
    """
    if paced:
        return HostClock(board, rank, settle=torch.cuda.current_stream(device).synchronize)
    return EventClock(board, rank, device, bases)
