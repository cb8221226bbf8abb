"""What the copies of a pipeline do with the weights of one rank: data parallelism and ZeRO.

    UNSHARD       every copy posts its rows of the weights   ▸ all have the whole
    RESHARD       the whole is given back, the rows stay
    REDUCE_GRAD   every copy posts its gradients             ▸ the sum: whole, or own rows alone

    ZeRO      weights    gradients   optimizer's state
    0         whole      whole       whole
    1         whole      whole       rows
    2         whole      rows        rows
    3         rows       rows        rows

A copy holds rows of each parameter (``cuts.share_of``), so the optimizer sees tensors of the same
number of dimensions, under their own names.
"""

from collections.abc import Iterable
from itertools import accumulate, pairwise

import torch
from torch import nn

from ..transport.group import Met
from .collectives import Collectives
from .cuts import share_of, share_size

Part = tuple[int, int]
"""(replica, stage)"""


class Copies:
    """The weights of one rank, as one of the copies of its pipeline has them.

    Args:
        together: with the copies.
        zero: the stage of ZeRO.
        parts: the trained parameters of each (replica, stage).
        reduced: what each REDUCE_GRAD of the rank sums, by atom.
    """

    def __init__(
        self,
        together: Collectives,
        zero: int,
        parts: dict[Part, list[nn.Parameter]],
        reduced: dict[int, list[nn.Parameter]],
    ):
        self._together, self._zero, self._parts = together, zero, parts
        self.pieces: dict[nn.Parameter, nn.Parameter] = {}
        """Under ZeRO, the rows of each parameter that this copy's optimizer has."""
        self._whole: dict[nn.Parameter, int] = {}
        """ZeRO 3: how many stages need a parameter whole now."""
        self.gathered = self.most_gathered = 0
        """Bytes of weights that are there for a while, with ZeRO 3."""
        self._reduced = {atom: _by_dtype(mine) for atom, mine in reduced.items()}
        if zero:
            self._divide(dict.fromkeys(p for mine in parts.values() for p in mine))

    def _divide(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep this copy's rows apart, and with ZeRO 3 nothing else."""
        size, index = self._together.size, self._together.index
        for parameter in parameters:
            rows = share_of(parameter.detach(), size, index).clone()
            self.pieces[parameter] = nn.Parameter(rows)
            self._whole[parameter] = 0
            if self._zero == 3:  # memory of its own, which can be given back
                parameter.data = parameter.detach().clone()
                parameter.untyped_storage().resize_(0)

    def trained(self, parameter: nn.Parameter) -> nn.Parameter | None:
        """What the optimizer has of a parameter; None where this copy has none of its rows."""
        piece = self.pieces.get(parameter, parameter)
        return piece if piece.numel() else None

    def clear(self) -> None:
        """Forget the gradients of the rows."""
        for piece in self.pieces.values():
            piece.grad = None

    # UNSHARD and RESHARD.

    def post_weights(self, part: Part, planned: float) -> Met | None:
        """UNSHARD, its waiting. Returns when the last copy came, None where nothing is missing.

        planned: when this one meant to come (paced mode).
        """
        if not self._missing(part):
            return None
        return self._post([self.pieces[p] for p in _by_dtype(self._missing(part))[0]], planned)

    def gather(self, part: Part) -> None:
        """UNSHARD: the weights of a stage are whole."""
        for i, mine in enumerate(_by_dtype(self._missing(part))):
            if i:
                self._post([self.pieces[p] for p in mine])
            self._take_weights(mine)
        for parameter in self._parts[part]:
            self._whole[parameter] += self._zero == 3

    def give_back(self, part: Part) -> None:
        """RESHARD: where no other stage needs the weights, their memory is free."""
        for parameter in self._parts[part]:
            self._whole[parameter] -= 1
            if not self._whole[parameter]:
                self.gathered -= parameter.nbytes
                parameter.untyped_storage().resize_(0)

    def _missing(self, part: Part) -> list[nn.Parameter]:
        return [p for p in self._parts[part] if not self._whole[p]]

    def _take_weights(self, parameters: list[nn.Parameter]) -> None:
        together, at = self._together, [0] * self._together.size
        posted = together.group.posted()
        with torch.no_grad():
            for parameter in parameters:
                if self._zero == 3:
                    parameter.untyped_storage().resize_(parameter.nbytes)
                    self.gathered += parameter.nbytes
                for member in range(together.size):
                    rows = share_of(parameter.data, together.size, member)
                    low, at[member] = at[member], at[member] + rows.numel()
                    if rows.numel():
                        rows.copy_(posted[member][low : at[member]].view(rows.shape))
        self.most_gathered = max(self.most_gathered, self.gathered)
        together.group.release()
        own = sum(self.pieces[p].nbytes for p in parameters)
        together.bytes += (together.size - 1) * own

    # REDUCE_GRAD.

    def post_gradients(self, atom: int, planned: float) -> Met | None:
        """REDUCE_GRAD, its waiting. Returns when the last copy came; None: nothing to sum."""
        groups = self._reduced[atom]
        return self._post_of(groups[0], planned) if groups else None

    def reduce(self, atom: int) -> None:
        """REDUCE_GRAD: the sum over the copies, in their order."""
        for i, mine in enumerate(self._reduced[atom]):
            if i:
                self._post_of(mine)
            (self._reduce_rows if self._zero else self._reduce_whole)(mine)

    def _post_of(self, parameters: list[nn.Parameter], planned: float = 0.0) -> Met:
        """Post which gradients there are, and those."""
        here = [p.grad for p in parameters]
        if any(g is not None and g.is_sparse for g in here):
            raise TypeError(
                "a sparse gradient cannot be summed over copies of the pipeline: make the layer "
                "dense (sparse=False), or use data=1"
            )
        like = parameters[0]
        there = torch.tensor([g is not None for g in here], dtype=like.dtype, device=like.device)
        gradients = [
            like.new_zeros(p.shape) if g is None else g
            for p, g in zip(parameters, here, strict=True)
        ]
        if self._zero:
            members = range(self._together.size)
            rows = [share_of(g, len(members), member) for member in members for g in gradients]
            return self._post([there, *rows], planned)
        return self._post([there, *gradients], planned)

    def _absent(self, count: int) -> list[bool]:
        """Which parameters have a gradient on no copy."""
        together = self._together
        marks = together.group.slices([(0, count)] * together.size)
        return (torch.stack(marks).abs().sum(0) == 0).tolist()

    def _reduce_whole(self, parameters: list[nn.Parameter]) -> None:
        count = len(parameters)
        absent = self._absent(count)
        flat = self._together.finish_all_reduce(count, count + sum(p.numel() for p in parameters))
        at = 0
        for parameter, none in zip(parameters, absent, strict=True):
            gradient = flat[at : at + parameter.numel()].view(parameter.shape)
            at += parameter.numel()
            parameter.grad = None if none else gradient.clone().to(parameter.device)

    def _reduce_rows(self, parameters: list[nn.Parameter]) -> None:
        together, count = self._together, len(parameters)
        absent = self._absent(count)
        sizes = (
            sum(share_size(p, together.size, member) for p in parameters)
            for member in range(together.size)
        )
        flat = together.take_sum(list(pairwise(accumulate(sizes, initial=count))))
        whole = sum(p.numel() for p in parameters)
        together.bytes += (whole - flat.numel()) * flat.element_size()
        at = 0
        for parameter, none in zip(parameters, absent, strict=True):
            piece = self.pieces[parameter]
            gradient = flat[at : at + piece.numel()].view(piece.shape)
            at += piece.numel()
            parameter.grad = None
            if none:
                continue
            gradient = gradient.clone().to(piece.device)
            piece.grad = gradient if piece.grad is None else piece.grad + gradient

    def _post(self, tensors: list[torch.Tensor], planned: float = 0.0) -> Met:
        self._together.group.post(tensors, planned)
        return self._together.group.arrived()


def _by_dtype(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters of one dtype can be posted together."""
    groups: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.dtype, []).append(parameter)
    return list(groups.values())
