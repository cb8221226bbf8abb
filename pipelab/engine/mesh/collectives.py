"""All-reduce, all-gather and reduce-scatter over a group, each in two or three lines.

Every sum is made in the order of the members, so all have the same bits, and they are those of a
loop over the copies.

Bytes are what a member sends: of n elements in a group of size k, an all-reduce 2(k − 1)/k · n, a
gather or a reduce-scatter (k − 1)/k · n, as for rings (Patarasuk and Yuan 2009).
"""

import time
from collections.abc import Callable

import torch

from ..transport.group import Group


class Collectives:
    """What one worker does with its group. seconds, bytes: since they were set to 0."""

    def __init__(self, group: Group):
        self.group, self.size, self.index = group, group.size, group.index
        self.seconds = 0.0
        self.bytes = 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the members, in their order."""
        began, flat = time.perf_counter(), tensor.detach().reshape(-1).cpu()
        self.group.post([flat])
        self.group.arrived()
        total = self.finish_all_reduce(0, flat.numel())
        self.seconds += time.perf_counter() - began
        return total.view_as(tensor).to(tensor.device)

    def finish_all_reduce(self, low: int, high: int) -> torch.Tensor:
        """The sum of a span of what all have posted, flat: each member makes a slice of it."""
        length = high - low
        if self.size == 2:  # a slice each would be sent once more
            total = self.take_sum(low, high)
            self.bytes += length * total.element_size()
            self.group.release()
            return total
        mine = self.take_sum(*self._slice(self.index, low, high))
        self.group.release()
        self.group.post([mine])
        self.group.arrived()
        total = torch.cat([self.group.part(member) for member in range(self.size)])
        self.group.release()
        own = mine.numel() * mine.element_size()
        self.bytes += total.element_size() * length - own + (self.size - 1) * own
        return total

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """What each member has, in their order; they may differ in their first dimension."""
        began = time.perf_counter()
        self.group.post([tensor.detach().cpu()])
        self.group.arrived()
        shape = tensor.shape[1:]
        found = []
        for member in range(self.size):
            part = self.group.part(member).clone()
            found.append(part.view(-1, *shape).to(tensor.device) if tensor.dim() else part)
        self.group.release()
        self.bytes += (self.size - 1) * tensor.nbytes
        self.seconds += time.perf_counter() - began
        return found

    def reduce_scatter(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        """The sum of this worker's piece. pieces: one for each member."""
        began, mine = time.perf_counter(), pieces[self.index]
        self.group.post([piece.detach().cpu() for piece in pieces])
        self.group.arrived()
        low = sum(piece.numel() for piece in pieces[: self.index])
        total = self.take_sum(low, low + mine.numel()).view(mine.shape)
        self.group.release()
        self.bytes += sum(piece.nbytes for piece in pieces) - mine.nbytes
        self.seconds += time.perf_counter() - began
        return total.to(mine.device)

    def take_sum(self, low: int, high: int) -> torch.Tensor:
        """The sum of elements that all members have posted, in the order of the members."""
        total = self.group.part(0, low, high) + self.group.part(1, low, high)
        for member in range(2, self.size):
            total += self.group.part(member, low, high)
        return total

    def _slice(self, member: int, low: int, high: int) -> tuple[int, int]:
        """The part of a span that a member sums."""
        length = high - low
        return low + length * member // self.size, low + length * (member + 1) // self.size


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
