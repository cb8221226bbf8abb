"""A group of processes that share nothing: torch.distributed's all-to-all.

    hosts, by gloo      who posts how many numbers, and when   ▸ all have come
    gloo, or NCCL       each sends each what that one needs

Every sum is made by its reader, in the order of the members: gloo's and NCCL's own are in others.
The host waits until its GPU has what came. So no GPU waits in a kernel of NCCL for a host that
loads one of its own, and a trace tells what took how long.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist

from ..record.board import COMPUTING, TOGETHER
from .group import Met, Span
from .network import SLOWEST, wait

_GROUPS: dict[tuple[str, tuple[int, ...]], tuple[Any, Any]] = {}
"""(backend, workers) -> the process group that all of it belongs to, and theirs."""


def make_groups(all_workers: list[list[int]], backends: set[str]) -> None:
    """Make the groups of all processes, which every one of them does in the same order."""
    world, limit = dist.group.WORLD, timedelta(seconds=SLOWEST)
    for backend in sorted(backends):
        for workers in all_workers:
            key = backend, tuple(workers)
            if key not in _GROUPS or _GROUPS[key][0] is not world:
                _GROUPS[key] = world, dist.new_group(workers, timeout=limit, backend=backend)


def abort_groups() -> None:
    """End what NCCL has under way in groups."""
    for backend, workers in list(_GROUPS):
        if backend == "nccl":
            _, group = _GROUPS.pop((backend, workers))
            if group is not dist.GroupMember.NON_GROUP_MEMBER:
                dist.distributed_c10d._abort_process_group(group)


class NetworkGroup:
    """A group of torchrun's processes.

    workers: the members, of a group that ``make_groups`` has made. offset: what this process's
    clock must add to show rank 0's. limit: seconds that a wait may last. waits: told what this
    process does, before and after a wait. device: a GPU from which tensors go by NCCL; else they
    pass through the host's memory.
    """

    def __init__(
        self,
        workers: list[int],
        worker: int,
        offset: float,
        limit: float,
        waits: Callable[[float], None],
        device: torch.device | None = None,
    ):
        self.size, self.index = len(workers), workers.index(worker)
        self._hosts = _GROUPS["gloo", tuple(workers)][1]
        self._way = self._hosts if device is None else _GROUPS["nccl", tuple(workers)][1]
        self._device = device or torch.device("cpu")
        self._offset, self._limit, self._waits = offset, limit, waits
        self._counts: list[int] = []
        self._mine = torch.empty(0)

    def post(self, tensors: list[torch.Tensor], planned: float = 0.0) -> None:
        """Let all members read some tensors of one dtype, one after the other."""
        self._mine = torch.cat([t.detach().reshape(-1).to(self._device) for t in tensors])
        self._finish()
        self._when = time.perf_counter() + self._offset, planned and planned + self._offset

    def arrived(self) -> Met:
        """Wait until all members have posted. Returns when the last had, on this host's clock."""
        head = torch.tensor([len(self._mine), *self._when], dtype=torch.float64)
        heads = [torch.zeros_like(head) for _ in range(self.size)]
        self._wait(dist.all_gather(heads, head, group=self._hosts, async_op=True))
        self._counts = [int(each[0]) for each in heads]
        last, planned = torch.stack(heads)[:, 1:].amax(0).tolist()
        return last - self._offset, planned - self._offset

    def posted(self) -> list[torch.Tensor]:
        """What each member has posted, flat."""
        whole = [(0, len(self._mine))] * self.size
        return self._exchange(whole, self._counts)

    def slices(self, spans: list[Span]) -> list[torch.Tensor]:
        """Of what each member has posted: the span of this one, flat."""
        low, high = spans[self.index]
        return self._exchange(spans, [high - low] * self.size)

    def release(self) -> None:
        """What came is the reader's own; what was posted is no longer needed."""
        self._mine = torch.empty(0)

    def _exchange(self, spans: list[Span], counts: list[int]) -> list[torch.Tensor]:
        """Send each member a span of what was posted. counts: how many numbers come from each."""
        mine, size = self._mine, self._mine.element_size()
        there = torch.cat([mine[low:high] for low, high in spans]).view(torch.uint8)
        here = torch.empty(sum(counts), dtype=mine.dtype, device=mine.device)
        given, taken = [size * (high - low) for low, high in spans], [size * n for n in counts]
        raw = here.view(torch.uint8)
        work = dist.all_to_all_single(raw, there, taken, given, group=self._way, async_op=True)
        self._wait(work)
        return [here[end - n : end] for n, end in zip(counts, accumulate(counts), strict=True)]

    def _wait(self, work: Any) -> None:
        """Raises TimeoutError where a member does not come, ConnectionError where it is gone."""
        self._waits(TOGETHER)
        deadline = time.perf_counter() + self._limit
        wait(work, deadline)
        self._finish(deadline)
        self._waits(COMPUTING)

    def _finish(self, deadline: float = float("inf")) -> None:
        """Wait for what is queued on the GPU."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()
        event.record()
        while not event.query():
            if time.perf_counter() > deadline:
                raise TimeoutError
            time.sleep(0)
