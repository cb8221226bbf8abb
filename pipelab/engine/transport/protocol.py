"""What a transport is: two verbs, send and receive with a deadline."""

from dataclasses import dataclass
from typing import Protocol

import torch

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
)
"""What can be sent, in the order of the codes that stand in headers."""
CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
MAX_DIMS = 8


@dataclass(slots=True)
class Arrival:
    """A received tensor.

    sent: the sender's clock when it handed the tensor over; planned: when it meant to (paced
    mode). parts: how many tensors the tuple has whose first this is; 0 for a tensor that stands
    alone.
    """

    tensor: torch.Tensor
    sent: float
    planned: float
    parts: int = 0


class Transport(Protocol):
    """How tensors get from rank to rank.

    carrier: its name for people. ``message`` numbers the tensors that cross between ranks in one
    step, and ``sequence`` the steps.
    """

    carrier: str

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Hand a tensor to rank ``to`` and return at once."""

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Wait for a tensor, valid until ``consumed``. Raises TimeoutError at ``deadline``."""
        ...

    def consumed(self, message: int, sequence: int) -> None:
        """The received tensor is no longer needed."""


def require_sendable(tensor: torch.Tensor) -> None:
    """Raise TypeError for a tensor that no header can describe."""
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"cannot send a tensor with layout {tensor.layout} between ranks: let the layer return "
            "it dense (to_dense()), or keep it and the layer behind on one stage (partition=[...])"
        )
    if tensor.dtype not in CODES or tensor.dim() > MAX_DIMS:
        raise TypeError(
            f"cannot send a tensor of {tensor.dtype} with {tensor.dim()} dimensions between ranks"
        )
