"""The gradients of shared parameters on their way to other ranks: one dense tensor, and back.

    layouts of all │ touched rows, values │ values │ touched rows, values │ …
                     sparse                 dense    sparse

A sparse gradient stays one, as with torch: an optimizer tells a row that was touched from one that
was not. So do absent gradients: nothing of them travels but their layout.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from ..job.exchange import Exchange, Shared
from ..job.program import Instruction
from ..job.reductions import Reduction
from ..job.values import Alone
from ..transport.protocol import Arrival
from .mail import Mail

Name = tuple[int, str]
"""(replica, name in the whole model) of a parameter on its rank."""
ABSENT, DENSE = 0, 1
"""Layouts; of a sparse gradient it is DENSE + its number of sparse dimensions."""


class Part(NamedTuple):
    """One holder's gradient of one parameter. touched: which rows of a sparse one; else None."""

    values: torch.Tensor
    touched: torch.Tensor | None


class SharedGradients:
    """The gradients of parameters that several ranks of the pipeline have, or one has twice.

    parameters: of the rank, by name. reductions: what each REDUCE_GRAD of the rank does, by atom.
    """

    def __init__(
        self,
        mail: Mail,
        parameters: dict[Name, nn.Parameter],
        exchange: Exchange,
        reductions: dict[int, Reduction],
    ):
        self._mail, self._parameters = mail, parameters
        self._exchange, self._reductions = exchange, reductions
        self._flat: dict[int, dict[int, torch.Tensor]] = {}
        """Those under way: number of the shared parameters -> number of the holder -> all."""

    def collect(self, instruction: Instruction, planned: float) -> tuple[list[Arrival], int]:
        """REDUCE_GRAD: send what others sum, and wait for what this rank sums now.

        planned: when the rank meant to be here (paced mode). Returns what arrived, and the bytes
        that were sent.
        """
        reduction, rank, sent_bytes = self._reductions[instruction.atom], self._mail.rank, 0
        for number in reduction.sends:
            shared = self._exchange.shared[number]
            flat = {i: flatten(parameters) for i, parameters in self.held(shared).items()}
            self._flat[number] = flat
            for transfer in shared.transfers():
                if transfer.source == rank:
                    own = Alone((flat[shared.holder_of(transfer)],))
                    sent_bytes += self._mail.send(transfer.target, transfer.message, own, planned)
        arrivals = []
        for number in reduction.sums:
            shared = self._exchange.shared[number]
            for transfer in shared.transfers():
                if transfer.target == rank:
                    value, arrival = self._mail.receive(transfer.message, instruction)
                    self._flat[number][shared.holder_of(transfer)] = value[0].clone()
                    self._mail.release(transfer.message, 1)
                    arrivals.append(arrival)
        return arrivals, sent_bytes

    def sum(self, instruction: Instruction) -> None:
        """REDUCE_GRAD: every gradient is the sum over all holders, in their order."""
        for number in self._reductions[instruction.atom].sums:
            shared = self._exchange.shared[number]
            held, flat = self.held(shared), self._flat.pop(number)
            like = next(iter(held.values()))
            totals = summed([flat[i] for i in range(len(shared.holders))], like)
            for k, total in enumerate(totals):
                for parameters in held.values():
                    parameters[k].grad = total if total is None or len(held) == 1 else total.clone()

    def held(self, shared: Shared) -> dict[int, list[nn.Parameter]]:
        """The parameters of each holder on this rank, by the holder's number."""
        held = {}
        for i, (replica, rank) in enumerate(shared.holders):
            if rank == self._mail.rank:
                named = [(replica, name) for name in shared.names[i]]
                held[i] = [self._parameters[key] for key in named if key in self._parameters]
        return held


def flatten(parameters: list[nn.Parameter]) -> torch.Tensor:
    """The gradients of some parameters as one tensor."""
    if not parameters:  # a worker of a mesh may have none of them
        return torch.empty(0)
    like = parameters[0]
    layouts = [_layout(parameter.grad) for parameter in parameters]
    heads = torch.tensor(layouts, dtype=like.dtype)
    pieces = [heads.to(like.device, non_blocking=True)]  # blocking, it would wait for the GPU
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            touched = gradient.values().new_zeros(gradient.shape[: gradient.sparse_dim()])
            touched[tuple(gradient.indices())] = 1
            pieces.append(touched.reshape(-1))
            gradient = gradient.to_dense()
        pieces.append(gradient.reshape(-1))
    return torch.cat(pieces)


def summed(flat: list[torch.Tensor], like: list[nn.Parameter]) -> list[torch.Tensor | None]:
    """The sums of what ``flatten`` made, one per parameter; None where no holder has a gradient.

    flat: of each holder, in the order of summing.
    """
    of_holders = zip(*(_opened(each, like) for each in flat), strict=True)
    return [_sum([part for part in parts if part is not None]) for parts in of_holders]


def _layout(gradient: torch.Tensor | None) -> int:
    if gradient is None:
        return ABSENT
    return DENSE + (gradient.sparse_dim() if gradient.is_sparse else 0)


def _opened(flat: torch.Tensor, like: list[nn.Parameter]) -> list[Part | None]:
    """The parts of what ``flatten`` made."""
    parts: list[Part | None] = []
    at = len(like)
    for layout, parameter in zip(flat[:at].real.int().tolist(), like, strict=True):
        if layout == ABSENT:
            parts.append(None)
            continue
        touched = None
        if layout > DENSE:
            shape = parameter.shape[: layout - DENSE]
            touched = flat[at : at + math.prod(shape)].view(shape)
            at += math.prod(shape)
        parts.append(Part(flat[at : at + parameter.numel()].view(parameter.shape), touched))
        at += parameter.numel()
    return parts


def _sum(parts: list[Part]) -> torch.Tensor | None:
    """The sum of the holders' gradients: sparse where all of them are."""
    if not parts:
        return None
    total = parts[0].values.clone()
    for part in parts[1:]:
        total = total + part.values
    marks = [part.touched for part in parts if part.touched is not None]
    if len(marks) < len(parts):
        return total
    touched = torch.stack(marks).sum(0).nonzero().t()
    return torch.sparse_coo_tensor(
        touched, total[tuple(touched)], total.shape, is_coalesced=True, check_invariants=False
    )
