"""Where a run takes place: its device, its workers, and whose engine executes it."""

import os
from dataclasses import dataclass

from ...errors import UnknownName, UsageError
from .gpus import gpu_count, unusable_gpus

DEVICES = ("auto", "cpu", "cuda")
WORKERS = ("auto", "processes", "threads", "torchrun")
EXECUTORS = ("pipelab", "torch")


@dataclass(frozen=True)
class Where:
    """Where a run takes place.

    device: "cpu" or "cuda". workers: "processes", "threads" or "torchrun". executor: "pipelab" or
    "torch". note: why there, where a GPU was not used that might have been.
    """

    device: str = "cpu"
    workers: str = "processes"
    executor: str = "pipelab"
    note: str | None = None

    @classmethod
    def of(cls, device: str, workers: str, executor: str, *, paced: bool = False) -> "Where":
        """Find what "auto" stands for: GPUs by threads where there are any.

        paced: actions sleep most of their time. Raises UsageError for what this machine does not
        have.
        """
        for what, value, valid in (
            ("device", device, DEVICES),
            ("kind of workers", workers, WORKERS),
            ("executor", executor, EXECUTORS),
        ):
            if value not in valid:
                raise UnknownName(what, value, valid)
        if workers == "torchrun" and not under_torchrun():
            raise UsageError(
                "workers='torchrun' needs a process per rank that torchrun has started: "
                "torchrun --nproc-per-node RANKS your_script.py"
            )
        if device == "cuda":
            _require_gpu(executor)
        note = None
        if workers == "auto" and under_torchrun():
            workers = "torchrun"
        if device == "auto":
            device = "cpu"
            if executor == "pipelab" and workers != "processes":
                device, note = _best_device(paced=paced)
        if workers == "auto":
            workers = "threads" if device == "cuda" else "processes"
        return cls(device, workers, executor, note)


def _require_gpu(executor: str) -> None:
    """Raise UsageError where a GPU is asked for and there is none to use."""
    if not gpu_count():
        unusable = unusable_gpus()
        why = f" ({unusable})" if unusable else ""
        raise UsageError(
            "device='cuda', but torch sees no GPU here: leave device out to run on the "
            f"processor{why}."
        )
    if executor == "torch":
        raise UsageError(
            "executor='torch' runs on processors only, in processes with gloo: leave device out."
        )


def _best_device(*, paced: bool) -> tuple[str, str | None]:
    """GPUs where CUDA can use any; else the processor, and why.

    A paced run gains nothing from a GPU, which takes seconds to start in each new worker.
    """
    if gpu_count() and paced:
        return "cpu", "on the processor: a paced run is no faster on a GPU; device='cuda' takes it"
    if gpu_count():
        return "cuda", None
    unusable = unusable_gpus()
    return "cpu", f"on the processor: {unusable}" if unusable else None


def under_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
