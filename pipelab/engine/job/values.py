"""What passes between layers, and between ranks."""

from collections.abc import Callable

import torch

MAX_PARTS = 8
"""The most tensors in a tuple between stages."""


class Value(tuple[torch.Tensor, ...]):
    """The tensors of a flat tuple that a layer returned.

    A tensor that was not in a tuple is ``Alone``. So everything inside the engine works with a
    tuple, and a layer still gets what the layer before it returned.
    """

    alone = False

    def opened(self) -> "torch.Tensor | tuple[torch.Tensor, ...]":
        """What the layer returned: a tensor or a tuple."""
        return self[0] if self.alone else tuple(self)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Value":
        """The same with every tensor changed."""
        return type(self)(map(change, self))


class Alone(Value):
    """One tensor that was not in a tuple."""

    alone = True


def describe(what: object) -> str:
    """A thing that is not what it should be, for people."""
    if what is None:
        return "None"
    if isinstance(what, torch.Tensor):
        shape = f"shape {tuple(what.shape)}" if what.dim() else "no dimensions"
        return f"a {'complex ' if what.is_complex() else ''}tensor of {shape}"
    return f"a {type(what).__name__}"


def closed(what: torch.Tensor | tuple[torch.Tensor, ...]) -> Value:
    """The inverse of ``Value.opened``."""
    return Alone((what,)) if isinstance(what, torch.Tensor) else Value(what)


def joined(pieces: tuple[Value, ...]) -> Value:
    """Micro-batches as one batch."""
    return type(pieces[0])(torch.cat(parts) for parts in zip(*pieces, strict=True))
