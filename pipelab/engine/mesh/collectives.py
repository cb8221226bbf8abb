"""All-reduce, all-gather and reduce-scatter over a group, each in two or three lines.

Every sum is made in the order of the members, so all have the same bits, and they are those of a
loop over the copies.

Bytes are what a member sends: of n elements in a group of size k, an all-reduce 2(k − 1)/k · n, a
gather or a reduce-scatter (k − 1)/k · n, as for rings (Patarasuk and Yuan 2009).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise

import torch

from ..transport.group import Group, Span


class Collectives:
    """What one worker does with its group.

    seconds, bytes: since they were set to 0. planned: when the action in which it does so means to
    end (paced mode), the latest of all members that it has met there.
    """

    def __init__(self, group: Group):
        self.group, self.size, self.index = group, group.size, group.index
        self.seconds = self.planned = 0.0
        self.bytes = 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the members, in their order."""
        with self._timed(tensor):
            self._meet([tensor])
            return self.finish_all_reduce(0, tensor.numel()).view_as(tensor).to(tensor.device)

    def finish_all_reduce(self, low: int, high: int) -> torch.Tensor:
        """The sum of a span of what all have posted, flat: each member makes a slice of it."""
        if self.size == 2:  # a slice each would be sent once more
            total = self.take_sum([(low, high)] * 2)
            self.bytes += total.nbytes
            return total
        length = high - low
        bounds = [low + length * member // self.size for member in range(self.size + 1)]
        mine = self.take_sum(list(pairwise(bounds)))
        self.group.post([mine])
        self.group.arrived()
        total = torch.cat(self.group.posted())
        self.group.release()
        self.bytes += total.nbytes - mine.nbytes + (self.size - 1) * mine.nbytes
        return total

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """What each member has, in their order; they may differ in their first dimension."""
        with self._timed(tensor):
            self._meet([tensor])
            found, shape = [], tensor.shape[1:]
            for part in self.group.posted():
                own = part.to(tensor.device, copy=True)
                found.append(own.view(-1, *shape) if tensor.dim() else own)
            self.group.release()
            self.bytes += (self.size - 1) * tensor.nbytes
            return found

    def reduce_scatter(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        """The sum of this worker's piece. pieces: one for each member."""
        mine = pieces[self.index]
        with self._timed(mine):
            self._meet(pieces)
            ends = list(accumulate((piece.numel() for piece in pieces), initial=0))
            total = self.take_sum(list(pairwise(ends))).view(mine.shape)
            self.bytes += sum(piece.nbytes for piece in pieces) - mine.nbytes
            return total.to(mine.device)

    def _meet(self, tensors: list[torch.Tensor]) -> None:
        self.group.post(tensors, self.planned)
        _, planned = self.group.arrived()
        self.planned = max(self.planned, planned)

    def take_sum(self, spans: list[Span]) -> torch.Tensor:
        """The sum of this member's span of what all have posted, in the order of the members.

        spans: of each member.
        """
        first, second, *others = self.group.slices(spans)
        total = first + second
        for part in others:
            total += part
        self.group.release()
        return total

    @contextmanager
    def _timed(self, tensor: torch.Tensor) -> Iterator[None]:
        """Count the seconds from where a GPU has what it gives."""
        if tensor.is_cuda:
            torch.cuda.current_stream(tensor.device).synchronize()
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


class Exchanged(torch.autograd.Function):
    """One way forward and another back: each a method of ``Ways``."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, there: Callable, back: Callable):
        """Do the one."""
        ctx.back = back
        return there(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Do the other."""
        return ctx.back(gradient), None, None


class Ways:
    """What tensor-parallel workers do with a tensor, as functions for autograd.

        all have the whole x ──same──▸ each uses it for its part      gradients: ──total──
        each has a summand   ──total─▸ all have the sum               gradients: ──same───
        each has a slice     ──whole─▸ all have the whole             gradients: ──part──, or
                                                                       ──part_of_total──
        all have the whole   ──part──▸ each has a slice               gradients: ──whole──

    Source: f and g of Shoeybi et al. 2019, "Megatron-LM", §3; their relatives for sequences of
    Korthikanti et al. 2022, §4.2.2.
    """

    def __init__(self, together: Collectives):
        self._together = together

    def copy(self, x: torch.Tensor) -> torch.Tensor:
        """Every member uses x for its part of the work."""
        return Exchanged.apply(x, _same, self._total)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of what the members have."""
        return Exchanged.apply(x, self._total, _same)

    def gather(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """The slices of all members; what follows is the same on each."""
        return Exchanged.apply(x, self._whole(dim), self._part(dim))

    def gather_for_parts(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """The slices of all members, each of which does a part of the work with it."""
        return Exchanged.apply(x, self._whole(dim), self._part_of_total(dim))

    def scatter(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """A slice of what all have."""
        return Exchanged.apply(x, self._part(dim), self._whole(dim))

    def sum_and_scatter(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """A slice of the sum."""
        return Exchanged.apply(x, self._part_of_total(dim), self._whole(dim))

    def _total(self, x: torch.Tensor) -> torch.Tensor:
        return self._together.all_reduce(x)

    def _whole(self, dim: int) -> Callable:
        def whole(x: torch.Tensor) -> torch.Tensor:
            parts = self._together.gather(x.transpose(0, dim).contiguous())
            return torch.cat(parts).transpose(0, dim).contiguous()

        return whole

    def _part(self, dim: int) -> Callable:
        def part(x: torch.Tensor) -> torch.Tensor:
            return self._pieces(x, dim)[self._together.index].contiguous()

        return part

    def _part_of_total(self, dim: int) -> Callable:
        def part(x: torch.Tensor) -> torch.Tensor:
            return self._together.reduce_scatter(list(self._pieces(x, dim)))

        return part

    def _pieces(self, x: torch.Tensor, dim: int) -> tuple[torch.Tensor, ...]:
        return x.tensor_split(self._together.size, dim)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x.view_as(x)
