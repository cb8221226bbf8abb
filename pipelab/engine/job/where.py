"""Where a run takes place: its device, its workers, and whose engine executes it."""

import os
from dataclasses import dataclass

import torch

from ...errors import UnknownName, UsageError

DEVICES = ("auto", "cpu", "cuda")
WORKERS = ("auto", "processes", "threads", "torchrun")
EXECUTORS = ("pipelab", "torch")


@dataclass(frozen=True)
class Where:
    """Where a run takes place.

    device: "cpu" or "cuda". workers: "processes", "threads" or "torchrun". executor: "pipelab" or
    "torch".
    """

    device: str = "cpu"
    workers: str = "processes"
    executor: str = "pipelab"

    @classmethod
    def of(cls, device: str, workers: str, executor: str) -> "Where":
        """Find what "auto" stands for: GPUs by threads where there are any.

        Raises UsageError for what this machine does not have.
        """
        for what, value, valid in (
            ("device", device, DEVICES),
            ("kind of workers", workers, WORKERS),
            ("executor", executor, EXECUTORS),
        ):
            if value not in valid:
                raise UnknownName(what, value, valid)
        gpus = torch.cuda.device_count()
        if device == "cuda" and not gpus:
            raise UsageError(
                "device='cuda', but torch sees no GPU here: leave device out to run on the "
                "processor."
            )
        ours_on_gpus = bool(gpus) and executor == "pipelab"
        if workers == "auto":
            by_threads = device == "cuda" or (device == "auto" and ours_on_gpus)
            workers = "threads" if by_threads else "processes"
            if under_torchrun():
                workers = "torchrun"
        elif workers == "torchrun" and not under_torchrun():
            raise UsageError(
                "workers='torchrun' needs a process per rank that torchrun has started: "
                "torchrun --nproc-per-node RANKS your_script.py"
            )
        if device == "cuda" and executor == "torch":
            raise UsageError(
                "executor='torch' runs on processors only, in processes with gloo: leave device "
                "out."
            )
        if device == "auto":
            device = "cuda" if ours_on_gpus and workers in ("threads", "torchrun") else "cpu"
        return cls(device, workers, executor)


def under_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def gpu_names() -> list[str]:
    """The GPUs of this machine, by name."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
