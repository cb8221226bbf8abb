"""CUDA IPC: processes of one host that read each other's GPU.

    rank 0's stream    0F0 ▸ copy into a block ▸ event
    rank 1's copies                                ╰ wait ▸ copy out
    rank 1's stream                                             ╰ 1F0

As between threads, what waits is a stream, not the host. The block lies on the sender's GPU, and
its event comes with it. A ticket that names both goes through shared memory; when the receiver has
its copy, it gives the ticket back, and the block is used again.

Not every system allows it. So all ranks read a block of each other before they begin, and unless
every one could, the run goes through the host's memory and says why.
"""

import ctypes
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .gpu import StagedTransport
from .protocol import CODES, DTYPES, MAX_DIMS, Arrival, require_sendable
from .shared_memory import SharedMemoryTransport

_HANDLE_BYTES = 64
_TICKET = struct.Struct(f"<{_HANDLE_BYTES}s{_HANDLE_BYTES}sqqhh{MAX_DIMS}q")
"""Handles of memory and event, offset, sender, dtype, dims, shape."""
GREETING = 16
"""Numbers by which a rank sees that it reads what another wrote."""


class CudaDriver:
    """The calls of CUDA's driver by which processes share memory: torch has no public ones.

    They are about the GPU that is the thread's current one. All raise RuntimeError where CUDA
    refuses. OSError without a driver.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def handle_of(self, address: int) -> tuple[bytes, int]:
        """By what others can open memory of this process, and how far in it an address lies."""
        base, size, handle = ctypes.c_uint64(), ctypes.c_size_t(), _Handle()
        at = ctypes.c_uint64(address)
        self._call("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(size), at)
        self._call("cuIpcGetMemHandle", ctypes.byref(handle), base)
        return bytes(handle), address - base.value

    def open(self, handle: bytes) -> int:
        """The address here of another process's memory, of this GPU or one that it reaches."""
        address, allow_peers = ctypes.c_uint64(), ctypes.c_uint(1)
        whose = _Handle.from_buffer_copy(handle)
        self._call("cuIpcOpenMemHandle_v2", ctypes.byref(address), whose, allow_peers)
        return address.value

    def copy(self, to: int, source: int, count: int, stream: int) -> None:
        """Queue a copy of ``count`` bytes between GPUs."""
        here, there = ctypes.c_uint64(to), ctypes.c_uint64(source)
        self._call("cuMemcpyAsync", here, there, ctypes.c_size_t(count), ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(text))
            said = (text.value or b"an error that it does not know").decode()
            raise RuntimeError(f"{name}: {said} ({code})")


class _Handle(ctypes.Structure):
    _fields_ = (("reserved", ctypes.c_ubyte * _HANDLE_BYTES),)


@dataclass(slots=True, eq=False)
class _Block:
    """Memory of this rank that others read. handles: of it and of its event, and its offset."""

    memory: torch.Tensor
    event: Any
    handles: tuple[bytes, bytes]
    offset: int


class IpcTransport(StagedTransport):
    """Between processes that reach each other's GPU.

    over: carries the tickets. rank: this one. driver: calls of CUDA. cuda: torch.cuda.
    """

    carrier: str = "CUDA IPC"
    over: SharedMemoryTransport

    def __init__(
        self,
        over: SharedMemoryTransport,
        rank: int,
        device: torch.device,
        driver: CudaDriver,
        cuda: Any = torch.cuda,
    ):
        super().__init__(over, device, cuda)
        self._rank, self._driver = rank, driver
        self._free: list[_Block] = []
        self._lent: deque[tuple[_Block, int, int]] = deque()
        self._addresses: dict[bytes, int] = {}
        self._events: dict[bytes, Any] = {}
        self._lanes: dict[int, Any] = {}

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Queue a copy into a block, and hand its ticket to rank ``to``.

        Raises TypeError for what cannot be sent.
        """
        require_sendable(tensor)
        block, ticket = self._filled(tensor.detach())
        self.over.send(to, message, sequence, ticket, planned, parts)
        self._lent.append((block, message, sequence))

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """A copy on this rank's GPU, for use behind it on this rank's stream.

        Raises TimeoutError at ``deadline``.
        """
        arrival = self.over.receive(message, sequence, deadline)
        arrival.tensor, done = self._fetched(arrival.tensor)
        self._copying.append((done, message, sequence))
        self._give_back()
        return arrival

    def finish(self) -> None:
        """Wait until this rank has read all that was sent to it."""
        while self._copying:
            self._copying.popleft()[0].synchronize()

    def greeting(self) -> tuple[bytes, list[int]]:
        """A ticket for other ranks, and the numbers in its block.

        Raises RuntimeError where CUDA does not share memory.
        """
        numbers = torch.frombuffer(bytearray(os.urandom(8 * GREETING)), dtype=torch.int64)
        block, ticket = self._filled(numbers)
        self._greeting = block  # it stays as it is
        return ticket.numpy().tobytes(), numbers.tolist()

    def read(self, greeting: tuple[bytes, list[int]]) -> None:
        """Read another rank's block. Raises RuntimeError where that cannot be done."""
        ticket, numbers = greeting
        found, done = self._fetched(torch.frombuffer(bytearray(ticket), dtype=torch.uint8))
        done.synchronize()
        if found.tolist() != numbers:
            raise RuntimeError("what is read there is not what was written")

    def _filled(self, tensor: torch.Tensor) -> tuple[_Block, torch.Tensor]:
        """A block with a copy of the tensor, queued on this rank's stream, and its ticket."""
        block = self._block(tensor.nbytes)
        if tensor.numel():
            block.memory[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
        block.event.record()
        shape = tuple(tensor.shape) + (0,) * (MAX_DIMS - tensor.dim())
        what = block.offset, self._rank, CODES[tensor.dtype], tensor.dim()
        ticket = bytearray(_TICKET.pack(*block.handles, *what, *shape))
        return block, torch.frombuffer(ticket, dtype=torch.uint8)

    def _block(self, size: int) -> _Block:
        """The smallest block that came back and is large enough, or a new one."""
        for _ in range(len(self._lent)):
            block, message, sequence = self._lent.popleft()
            if self.over.was_consumed(message, sequence):
                self._free.append(block)
            else:
                self._lent.append((block, message, sequence))
        fitting = [block for block in self._free if block.memory.nbytes >= size]
        if fitting:
            block = min(fitting, key=lambda block: block.memory.nbytes)
            self._free.remove(block)
            return block
        memory = torch.empty(max(size, 1), dtype=torch.uint8, device=self._device)
        event = self._cuda.Event(interprocess=True)
        handle, offset = self._driver.handle_of(memory.data_ptr())
        return _Block(memory, event, (handle, event.ipc_handle()), offset)

    def _fetched(self, ticket: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """A copy of what a ticket names, for use on this rank's stream, and when it is there.

        A stream for each sender does nothing else, so that one late sender holds up no other.
        """
        memory, event, offset, sender, code, dims, *shape = _TICKET.unpack(ticket.numpy().tobytes())
        if memory not in self._addresses:
            self._addresses[memory] = self._driver.open(memory)
        if event not in self._events:
            self._events[event] = self._cuda.Event.from_ipc_handle(self._device, event)
        if sender not in self._lanes:
            self._lanes[sender] = self._cuda.Stream(self._device)
        lane, stream = self._lanes[sender], self._cuda.current_stream(self._device)
        done = self._cuda.Event(blocking=True)
        with self._cuda.stream(lane):
            lane.wait_event(self._events[event])
            copy = torch.empty(shape[:dims], dtype=DTYPES[code], device=self._device)
            if copy.numel():
                source = self._addresses[memory] + offset
                self._driver.copy(copy.data_ptr(), source, copy.nbytes, lane.cuda_stream)
            done.record(lane)
        stream.wait_event(done)
        copy.record_stream(stream)
        return copy, done


def between_processes(
    over: SharedMemoryTransport,
    rank: int,
    peers: list[int],
    device: torch.device,
    meet: Callable[[Any], list],
) -> StagedTransport:
    """By CUDA IPC where all ranks can, else through the host's memory.

    peers: the ranks of its pipeline. meet: what every rank of the run gives, by rank.
    """
    ipc, greeting, why = None, None, ""
    try:
        ipc = IpcTransport(over, rank, device, CudaDriver())
        greeting = ipc.greeting()
    except (OSError, RuntimeError) as error:
        why = f"rank {rank} cannot share its GPU's memory: {_first_line(error)}"
    greetings = meet(greeting)
    for peer in peers:
        if ipc is None or peer == rank or greetings[peer] is None:
            continue
        try:
            ipc.read(greetings[peer])
        except RuntimeError as error:
            why = why or f"rank {rank} cannot read that of rank {peer}: {_first_line(error)}"
    refused = next(filter(None, meet(why)), "")
    if ipc is None or refused:
        return StagedTransport(over, device, refused=refused)
    return ipc


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
