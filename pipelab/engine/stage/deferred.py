"""What I leaves to W, and the bytes that it holds until then."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from .saved_bytes import storages

Gradients = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""(parameter, its gradient)"""


@dataclass(slots=True)
class Deferred:
    """Weight gradients that W will compute.

    saved: (address, bytes) of the activations it needs; None: not counted.
    """

    compute: Callable[[], Gradients]
    gradient: torch.Tensor
    saved: list[tuple[int, int]] | None


def kept_bytes(queue: list[Deferred]) -> tuple[int, int]:
    """Bytes that W still needs: of activations, and of output gradients.

    Each address counts once.
    """
    activations = {address: size for deferred in queue for address, size in deferred.saved or ()}
    gradients = storages(deferred.gradient for deferred in queue)
    others = [size for address, size in gradients.items() if address not in activations]
    return sum(activations.values()), sum(others)
