"""The settings of torch that change what a model computes: they are per process, so they travel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import UsageError

_CUDA, _CUDNN = torch.backends.cuda, torch.backends.cudnn
_ATTENTION: tuple[tuple[Callable[[], bool], Callable[[bool], None]], ...] = (
    (_CUDA.flash_sdp_enabled, _CUDA.enable_flash_sdp),
    (_CUDA.mem_efficient_sdp_enabled, _CUDA.enable_mem_efficient_sdp),
    (_CUDA.math_sdp_enabled, _CUDA.enable_math_sdp),
    (_CUDA.cudnn_sdp_enabled, _CUDA.enable_cudnn_sdp),
)
"""The ways of scaled_dot_product_attention: whether each may be taken, and what allows it."""


@dataclass(frozen=True)
class Settings:
    """What the caller of a run has set in torch.

    matmul_precision, cudnn_tf32: None where the caller has used ``fp32_precision`` instead.
    fp32_precision: then, what it is of each backend; else nothing. attention: of each way, as in
    ``_ATTENTION``.
    """

    default_dtype: torch.dtype
    deterministic: bool
    warn_only: bool
    matmul_precision: str | None
    cudnn_tf32: bool | None
    fp32_precision: tuple[str, ...]
    cudnn_deterministic: bool
    cudnn_benchmark: bool
    attention: tuple[bool, ...]

    @classmethod
    def of_caller(cls) -> "Settings":
        """The settings of this process.

        Raises UsageError under autocast, which is a matter of one thread.
        """
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                raise UsageError(
                    f"autocast is on for {kind!r} where the run is started, and it is a matter of "
                    "one thread: ranks would compute without it. Leave the context, and pass "
                    "dtype='bfloat16' to have autocast on every rank."
                )
        matmul = _unless_replaced(torch.get_float32_matmul_precision)
        cudnn_tf32 = _unless_replaced(lambda: _CUDNN.allow_tf32)
        replaced = matmul is None or cudnn_tf32 is None
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            matmul,
            cudnn_tf32,
            tuple(backend.fp32_precision for backend in _backends()) if replaced else (),
            _CUDNN.deterministic,
            _CUDNN.benchmark,
            tuple(enabled() for enabled, _ in _ATTENTION),
        )

    def apply(self) -> None:
        """Set them in this process."""
        torch.set_default_dtype(self.default_dtype)
        algorithms = self.deterministic, self.warn_only
        if algorithms != (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ):  # only then: torch imports for a second to set them
            torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        if self.matmul_precision is not None:
            torch.set_float32_matmul_precision(self.matmul_precision)
        if self.cudnn_tf32 is not None:
            _CUDNN.allow_tf32 = self.cudnn_tf32
        for backend, precision in zip(_backends(), self.fp32_precision, strict=False):
            backend.fp32_precision = precision
        _CUDNN.deterministic = self.cudnn_deterministic
        _CUDNN.benchmark = self.cudnn_benchmark
        for (_, allow), enabled in zip(_ATTENTION, self.attention, strict=True):
            allow(enabled)


def _backends() -> tuple[Any, ...]:
    """What has an ``fp32_precision`` of its own, the general ones first."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    of_cuda = torch.backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn
    return torch.backends, *of_cuda, mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn


def _unless_replaced(read: Callable[[], Any]) -> Any:
    """What an older setting is; None where the newer one that replaces it has been used.

    torch then refuses to say.
    """
    try:
        return read()
    except RuntimeError:
        return None
