"""Tensors between processes that share nothing: torch.distributed's send and receive.

Messages between two ranks and in one direction arrive in the order in which they are sent (NCCL
knows no other way), so each receives them in that order, which follows from the schedule, and keeps
what it does not need yet.

Tensors travel by gloo from the processor, and by NCCL from a GPU that is the process's own:

    host of rank 0    queue F ▸ queue send ▸ header by gloo ─╮
    its GPU           F ────────▸ send ═══════════════════╗  │ what comes, in which shape
    host of rank 1                                        ║  ╰▸ queue receive ▸ queue F
    its GPU                                               ╚═══▸ receive ▸ F

A host asks NCCL for a tensor only when its header is there, so that the sender's GPU has it in its
queue already: no receive waits for one that waits for it.

The first step of a run goes through the host's memory. CUDA loads a kernel when it is first used,
for which it waits until the GPU is idle; a send by NCCL, which waits for its receive, keeps it
busy. Two ranks could wait for each other so, and never end.
"""

import struct
import time
from collections import deque
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .protocol import CODES, DTYPES, MAX_DIMS, Arrival, require_sendable

SLOWEST = 1800.0
"""Seconds a wait may last where the run sets no limit: torch's own default."""
_HEADER = struct.Struct(f"<6q{MAX_DIMS}q2d")
"""message, sequence, parts, way, dtype, dims, shape, planned, sent"""
_BY_GLOO, _BY_LANE, _FROM_GPU = range(3)
"""Ways: from processor to processor, by NCCL, and by gloo from GPU to GPU."""
_HEADER_TAG, _DATA_TAG = 1, 2
FIRST_STEP = 1
"""The sequence of messages in the first step of a run, after which all kernels are loaded."""


class Lanes:
    """NCCL's ways between GPUs: a group of all ranks upwards, and one downwards.

    What two ranks send each other in one group waits in one line, where two sends would wait for
    each other; a lane has one direction. They are kept from run to run.
    """

    def __init__(self, rank: int, device: torch.device, backend: str = "nccl"):
        self.rank, self.device, self.world = rank, device, dist.group.WORLD
        self._up, self._down = (
            dist.new_group(backend=backend, timeout=timedelta(seconds=SLOWEST)) for _ in range(2)
        )
        self._connected: set[tuple[int, int]] = set()

    def connect(self, links: set[tuple[int, int]]) -> None:
        """Use each link once, in an order that is everybody's.

        A first transfer sets a link up, for which both hosts wait.
        """
        hello = torch.zeros(1, dtype=torch.uint8, device=self.device)
        for source, target in sorted(links - self._connected):
            if self.rank == source:
                wait(self.send(hello, target))
            elif self.rank == target:
                wait(self.receive(hello, source))
        self._connected |= links

    def abort(self) -> None:
        """End what still waits for another rank."""
        for group in (self._up, self._down):
            dist.distributed_c10d._abort_process_group(group)

    def takes(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is on the rank's GPU; a number goes with the host, which needs it."""
        return tensor.device == self.device and tensor.dim() > 0

    def send(self, data: torch.Tensor, to: int) -> Any:
        """Queue a send behind what makes the bytes."""
        return dist.isend(data, to, group=self._up if to > self.rank else self._down)

    def receive(self, data: torch.Tensor, source: int) -> Any:
        """Queue a receive."""
        return dist.irecv(data, source, group=self._up if source < self.rank else self._down)


class DistributedTransport:
    """Between processes that share nothing: torch.distributed's send and receive.

    incoming: for each rank that sends to this one, the messages of a step's actions in the order of
    its sends. exchanged: the messages between two steps and who sends them. offset: what this
    process's clock must add to show rank 0's. lanes: between GPUs, or None.
    """

    carrier: str = "torch.distributed"

    def __init__(
        self,
        incoming: dict[int, list[int]],
        exchanged: dict[int, int],
        offset: float,
        lanes: Lanes | None = None,
    ):
        self._offset, self._lanes = offset, lanes
        self._source = dict(exchanged)
        for rank, order in incoming.items():
            self._source |= dict.fromkeys(order, rank)
        self._last = {order[-1] for order in incoming.values()} | exchanged.keys()
        self._headers: dict[int, tuple[Any, torch.Tensor]] = {}
        self._kept: dict[tuple[int, int], Arrival] = {}
        self._under_way: deque[tuple[Any, torch.Tensor]] = deque()

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Hand a tensor to rank ``to`` and return at once.

        Raises TypeError for what cannot be sent.
        """
        require_sendable(tensor)
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        shape = tuple(tensor.shape) + (0,) * (MAX_DIMS - tensor.dim())
        times = planned + self._offset, time.perf_counter() + self._offset
        way, lanes = _BY_GLOO, self._lanes
        if lanes is not None and lanes.takes(tensor):
            way = _FROM_GPU if sequence <= FIRST_STEP else _BY_LANE
        data = tensor.view(-1).view(torch.uint8)
        if way != _BY_LANE:
            data = data.cpu()
        kind = CODES[tensor.dtype], tensor.dim()
        what = message, sequence, parts, way
        packed = _HEADER.pack(*what, *kind, *shape, *times)
        header = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        try:
            self._under_way.append((dist.isend(header, to, tag=_HEADER_TAG), header))
            if len(data) and lanes is not None and way == _BY_LANE:
                self._under_way.append((lanes.send(data, to), data))
            elif len(data):
                self._under_way.append((dist.isend(data, to, tag=_DATA_TAG), data))
        except RuntimeError as error:
            raise ConnectionError(str(error).splitlines()[0]) from None
        while self._under_way and self._under_way[0][0].is_completed():
            self._under_way.popleft()

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Wait for a message, keeping those that come before it.

        Raises TimeoutError at ``deadline``.
        """
        while (message, sequence) not in self._kept:  # all parts of a message come with its first
            self._take(self._source[message], deadline)
        return self._kept.pop((message, sequence))

    def consumed(self, message: int, sequence: int) -> None:
        """Received tensors are the receiver's own."""

    def finish(self, deadline: float) -> None:
        """Wait until everything that was sent has been taken."""
        while self._under_way:
            wait(self._under_way.popleft()[0], deadline)

    def _take(self, source: int, deadline: float) -> None:
        """Receive all parts of a link's next message, and ask for the header of the one after."""
        asked = self._headers.pop(source) if source in self._headers else self._ask(source)
        message, parts = self._take_one(source, asked, deadline)
        for _ in range(1, parts):
            self._take_one(source, self._ask(source), deadline)
        # Only where another is sure to come: nothing is left waiting at the end.
        if message not in self._last:
            self._headers[source] = self._ask(source)

    def _take_one(
        self, source: int, asked: tuple[Any, torch.Tensor], deadline: float
    ) -> tuple[int, int]:
        """Receive one tensor. Returns its message and how many parts that has."""
        work, header = asked
        wait(work, deadline)
        message, sequence, parts, way, code, dims, *rest = _HEADER.unpack(header.numpy().tobytes())
        shape, (planned, sent) = rest[:dims], rest[MAX_DIMS:]
        lanes = self._lanes if way != _BY_GLOO else None
        if lanes is not None and way == _BY_LANE:
            tensor = torch.empty(shape, dtype=DTYPES[code], device=lanes.device)
            if tensor.numel():
                wait(lanes.receive(tensor.view(-1).view(torch.uint8), source))
        else:
            tensor = torch.empty(shape, dtype=DTYPES[code])
            if tensor.numel():
                data = tensor.view(-1).view(torch.uint8)
                wait(dist.irecv(data, source, tag=_DATA_TAG), deadline)
            tensor = tensor if lanes is None else tensor.to(lanes.device)
        self._kept[message, sequence] = Arrival(
            tensor, sent - self._offset, planned - self._offset, parts
        )
        return message, parts

    def _ask(self, source: int) -> tuple[Any, torch.Tensor]:
        header = torch.empty(_HEADER.size, dtype=torch.uint8)
        return dist.irecv(header, source, tag=_HEADER_TAG), header


def wait(work: Any, deadline: float | None = None) -> None:
    """Wait for a transfer until ``deadline``.

    Without one, of a transfer by NCCL, only the stream waits.
    """
    try:
        if deadline is None:
            work.wait()
        else:
            work.wait(timedelta(seconds=max(1e-3, min(deadline - time.perf_counter(), SLOWEST))))
    except RuntimeError as error:
        if deadline is not None and time.perf_counter() >= deadline - 1e-3:
            raise TimeoutError from None
        raise ConnectionError(str(error).splitlines()[0]) from None
