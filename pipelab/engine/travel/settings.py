"""The settings of torch that change what a model computes: they are per process, so they travel."""

from dataclasses import dataclass

import torch

from ...errors import UsageError


@dataclass(frozen=True)
class Settings:
    """What the caller of a run has set in torch."""

    default_dtype: torch.dtype
    deterministic: bool
    warn_only: bool
    matmul_precision: str
    cudnn_deterministic: bool
    cudnn_benchmark: bool

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
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
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
        torch.set_float32_matmul_precision(self.matmul_precision)
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
