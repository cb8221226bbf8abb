"""A group of workers that do something together: everybody posts, and everybody reads.

    post      what I have, for all to read            │ waits until all have read what I posted
              two operations ago: its memory is used  │ again
    arrived   when the last has posted                │ waits for the slowest
    posted    what each has posted
    slices    of what each has posted, my part alone
    release   I have read all that I need

All members do the same operations in the same order, because they run the same program. Numbers of
operations stand in shared memory and only grow: a worker that is woken for something else looks
again, so no wake-up can be lost.
"""

import math
import os
import struct
import time
from collections.abc import Callable
from typing import Protocol

import torch

from ..record.board import COMPUTING, TOGETHER, Board
from .protocol import CODES, DTYPES
from .shared_memory import SharedMemoryTransport

_NUMBER = struct.Struct("<q")
_POST = struct.Struct("<qqqdd")  # offset, elements, dtype, when, when by the plan
_RELEASED_AT, _POSTS_AT = 8, 16
Met = tuple[float, float]
"""When the last member posted, and when the last one meant to (paced mode)."""
Span = tuple[int, int]
"""Elements of what was posted, flat: the first, and the one after the last."""
SOON = 1e-3
"""Seconds after which a worker looks again whether others have read what it posted."""
MOST_VIEWS = 1024
GLANCES = 20
"""How often a worker looks, and lets others compute, before it sleeps: peers are seldom far."""


class Group(Protocol):
    """How one worker sees its group. size: how many members; index: its own place among them."""

    size: int
    index: int

    def post(self, tensors: list[torch.Tensor], planned: float = 0.0) -> None:
        """Let all members read some tensors of one dtype, one after the other.

        planned: when this worker meant to (paced mode).
        """

    def arrived(self) -> Met:
        """Wait until all members have posted. Returns when the last had, on the host's clock."""
        ...

    def posted(self) -> list[torch.Tensor]:
        """What each member has posted, flat, to be read before ``release``. All members ask."""
        ...

    def slices(self, spans: list[Span]) -> list[torch.Tensor]:
        """Of what each member has posted: the span of this one, flat, to be read likewise.

        spans: of each member, the same on all.
        """
        ...

    def release(self) -> None:
        """What the others have posted is no longer needed."""


class SharedMemoryGroup:
    """A group of processes of one host.

    workers: the members. limit: seconds that a wait may last. waits: told what this worker does,
    before and after each. Raises TimeoutError where a member does not come.
    """

    def __init__(
        self,
        board: Board,
        transport: SharedMemoryTransport,
        workers: list[int],
        worker: int,
        kind: int,
        limit: float = math.inf,
        waits: Callable[[float], None] = lambda _: None,
    ):
        self.size, self.index = len(workers), workers.index(worker)
        self._memory, self._transport = board.memory, transport
        self._others = [each for each in workers if each != worker]
        self._heads = [board.group_head(each, kind) for each in workers]
        self._own = self._heads[self.index]
        self._limit, self._waits = limit, waits
        self._number = 0
        self._views: dict[tuple[int, int, int], torch.Tensor] = {}
        self._buffers: list[tuple[int, int]] = [(0, 0), (0, 0)]  # offset, size

    def post(self, tensors: list[torch.Tensor], planned: float = 0.0) -> None:
        """Let all members read some tensors of one dtype, one after the other."""
        self._until(_RELEASED_AT, self._number - 1, patience=SOON)
        self._number += 1
        even = self._number % 2
        count, dtype = sum(t.numel() for t in tensors), tensors[0].dtype
        offset, size = self._buffers[even]
        needed = count * tensors[0].element_size()
        if needed > size:
            offset, size = self._transport.exchange_block(offset, size, needed)
            self._buffers[even] = offset, size
        block = self._view(offset, count, CODES[dtype])
        if len(tensors) == 1:
            block.copy_(tensors[0].detach().reshape(-1))
        else:
            at = 0
            for tensor in tensors:
                block[at : at + tensor.numel()].view(tensor.shape).copy_(tensor.detach())
                at += tensor.numel()
        at = self._own + _POSTS_AT + even * _POST.size
        when = time.perf_counter(), planned
        _POST.pack_into(self._memory, at, offset, count, CODES[dtype], *when)
        _NUMBER.pack_into(self._memory, self._own, self._number)
        self._transport.wake_up(self._others)

    def arrived(self) -> Met:
        """Wait until all members have posted. Returns when the last had, on the host's clock."""
        self._until(0, self._number)
        posts = [self._post_of(member) for member in range(self.size)]
        return max(post[3] for post in posts), max(post[4] for post in posts)

    def posted(self) -> list[torch.Tensor]:
        """What each member has posted, flat, to be read before ``release``."""
        posts = [self._post_of(member) for member in range(self.size)]
        return [self._view(offset, count, code) for offset, count, code, *_ in posts]

    def slices(self, spans: list[Span]) -> list[torch.Tensor]:
        """Of what each member has posted: the span of this one, flat, to be read likewise."""
        low, high = spans[self.index]
        posts = [self._post_of(member) for member in range(self.size)]
        return [
            self._view(offset + low * DTYPES[code].itemsize, high - low, code)
            for offset, _, code, *_ in posts
        ]

    def release(self) -> None:
        """What the others have posted is no longer needed.

        Nobody is woken: hardly ever does somebody wait for it, and who does looks again soon.
        """
        _NUMBER.pack_into(self._memory, self._own + _RELEASED_AT, self._number)

    def _view(self, offset: int, count: int, code: int) -> torch.Tensor:
        """Shared memory as a tensor.

        Steps repeat, and so do their views: to make one costs more than to sum some thousand
        numbers.
        """
        key = offset, count, code
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= MOST_VIEWS:
                self._views.clear()
            dtype = DTYPES[code]
            if count <= 0:
                view = torch.empty(0, dtype=dtype)
            else:
                view = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=offset)
            self._views[key] = view
        return view

    def _post_of(self, member: int) -> tuple[int, int, int, float, float]:
        at = self._heads[member] + _POSTS_AT + self._number % 2 * _POST.size
        return _POST.unpack_from(self._memory, at)

    def _until(self, at: int, number: int, patience: float = 60.0) -> None:
        """Wait until all members have come to an operation.

        patience: seconds after which a worker that nobody has woken looks again.
        """
        heads, memory = [head + at for head in self._heads], self._memory

        def there() -> bool:
            for head in heads:
                if _NUMBER.unpack_from(memory, head)[0] < number:
                    return False
            return True

        for _ in range(GLANCES):
            if there():
                return
            os.sched_yield()
        self._waits(TOGETHER)
        self._transport.wait_until(there, time.perf_counter() + self._limit, patience)
        self._waits(COMPUTING)
