"""The memory of a forward: exact bytes of what autograd keeps for the backward."""

from collections.abc import Iterable

import torch
from torch.autograd.graph import saved_tensors_hooks


def storages(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    """Where tensors lie in memory: address -> bytes. A sparse one lies in several places."""
    found: dict[int, int] = {}
    for tensor in tensors:
        for part in _parts(tensor):
            storage = part.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found


def nbytes(tensor: torch.Tensor) -> int:
    """The bytes of a tensor, sparse ones included."""
    return sum(part.nbytes for part in _parts(tensor))


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    if tensor.layout is torch.strided:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
    names = ("crow_indices", "col_indices") if by_row else ("ccol_indices", "row_indices")
    return [*(getattr(tensor, name)() for name in names), tensor.values()]


class SavedBytes:
    """Counts the bytes that autograd saves for the backward.

    Each storage counts once, parameters and buffers not at all. log: (address, bytes) of every
    tensor that was saved, in order.
    """

    def __init__(self, excluded: set[int]):
        self._excluded = excluded
        self.log: list[tuple[int, int]] = []
        self._hooks = saved_tensors_hooks(self._pack, _unpack)

    @property
    def total(self) -> int:
        """Bytes, each storage once."""
        return sum(dict(self.log).values())

    def _pack(self, tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
        for address, size in storages([tensor]).items():
            if address not in self._excluded:
                self.log.append((address, size))
        return tensor, tensor._version

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._hooks.__exit__(*exception)


def _unpack(saved: tuple[torch.Tensor, int]) -> torch.Tensor:
    """Autograd's own check, which it leaves to hooks where there are some."""
    tensor, version = saved
    if tensor._version != version:
        raise RuntimeError(
            f"a tensor of shape {tuple(tensor.shape)} that the backward needs was changed in "
            "place after the forward had saved it. The forward of the next micro-batch may come "
            "before: a buffer that a layer counts in needs a new tensor each time (self.seen = "
            "self.seen + 1)"
        )
    return tensor
