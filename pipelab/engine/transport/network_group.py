"""A group of processes that share nothing: what all of them post, by gloo.

Every member gets what every other has posted, and sums it itself in their order: gloo's own sum is
in another order from three members on. GPUs' tensors pass through the host's memory.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from ..record.board import COMPUTING, TOGETHER
from .network import SLOWEST

_GROUPS: dict[tuple[int, ...], tuple[object, object]] = {}
"""Workers -> the process group that all of it belongs to, and theirs."""


def make_groups(all_workers: list[list[int]]) -> None:
    """Make the groups of all processes, which every one of them does in the same order."""
    world = dist.group.WORLD
    for workers in all_workers:
        key = tuple(workers)
        if key not in _GROUPS or _GROUPS[key][0] is not world:
            limit = timedelta(seconds=SLOWEST)
            _GROUPS[key] = world, dist.new_group(workers, timeout=limit, backend="gloo")


class NetworkGroup:
    """A group of torchrun's processes.

    workers: the members, of a group that ``make_groups`` has made. offset: what this process's
    clock must add to show rank 0's. waits: told what this process does, before and after a wait.
    """

    def __init__(
        self, workers: list[int], worker: int, offset: float, waits: Callable[[float], None]
    ):
        self.size, self.index = len(workers), workers.index(worker)
        self._group = _GROUPS[tuple(workers)][1]
        self._offset, self._waits = offset, waits
        self._mine = torch.empty(0)
        self._parts: list[torch.Tensor] = []

    def post(self, tensors: list[torch.Tensor]) -> None:
        """Let all members read some tensors of one dtype, one after the other."""
        self._mine = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._when = time.perf_counter() + self._offset

    def arrived(self) -> float:
        """Wait until all members have posted. Returns when the last had, on this host's clock."""
        self._waits(TOGETHER)
        mine, head = self._mine, torch.zeros(2, dtype=torch.float64)
        head[:] = torch.tensor([len(mine), self._when], dtype=torch.float64)
        heads = [torch.zeros_like(head) for _ in range(self.size)]
        dist.all_gather(heads, head, group=self._group)
        counts = [int(each[0]) for each in heads]
        padded = torch.zeros(max(counts), dtype=mine.dtype)
        padded[: len(mine)] = mine
        found = [torch.zeros_like(padded) for _ in range(self.size)]
        raw = [_as_bytes(each) for each in found]
        dist.all_gather(raw, _as_bytes(padded), group=self._group)
        self._parts = [part[:count] for part, count in zip(found, counts, strict=True)]
        self._waits(COMPUTING)
        return max(float(each[1]) for each in heads) - self._offset

    def part(self, member: int, low: int = 0, high: int | None = None) -> torch.Tensor:
        """Elements of what a member has posted, flat, to be read before ``release``."""
        return self._parts[member][low:high]

    def release(self) -> None:
        """What the others have posted is no longer needed."""
        self._parts = []


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A view that gloo can send whatever the dtype."""
    return tensor.view(torch.uint8)
