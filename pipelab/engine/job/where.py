"""Where a run takes place: its device, its workers, and whose engine executes it."""

import os
from dataclasses import dataclass, replace

from ...errors import UnknownName, UsageError
from ...schedule import Kind, Schedule
from .gpus import gpu_count, unusable_gpus

DEVICES = ("auto", "cpu", "cuda")
WORKERS = ("auto", "processes", "threads", "torchrun")
EXECUTORS = ("pipelab", "torch")
MOST_THREADS, MOST_THREADS_SPLIT = 2, 1
"""Ranks with a GPU each that one Python keeps busy; fewer where backwards are split, since then
more of an action is Python. Estimated from processor time, not measured on GPUs.
"""
MUCH = 0.2
"""Share of its time that a GPU may wait for Python before something should be done."""


@dataclass(frozen=True)
class Where:
    """Where a run takes place.

    device: "cpu" or "cuda". workers: "processes", "threads" or "torchrun"; on GPUs also "auto",
    until the schedule is known. executor: "pipelab" or "torch". note: why there, where there was a
    choice.
    """

    device: str = "cpu"
    workers: str = "processes"
    executor: str = "pipelab"
    note: str | None = None

    @classmethod
    def of(cls, device: str, workers: str, executor: str, *, paced: bool = False) -> "Where":
        """Find what "auto" stands for: GPUs where there are any.

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
        if workers == "auto" and device == "cpu":
            workers = "processes"
        return cls(device, workers, executor, note)

    def settled(self, schedule: Schedule) -> "Where":
        """What the workers on GPUs are for a schedule, and why."""
        if self.device == "cpu" or self.workers == "torchrun":
            return self
        ranks, gpus = schedule.ranks, gpu_count()
        workers, note = self.workers, None
        if workers == "auto":
            splits = Kind.W in schedule.kinds
            keeps_up = ranks <= (MOST_THREADS_SPLIT if splits else MOST_THREADS)
            workers = "threads" if keeps_up or ranks > gpus else "processes"
            if 1 < ranks <= gpus:
                why = " with split backwards" if splits else ""
                note = f"one Python keeps {ranks} GPUs busy{why}"
                if workers == "processes":
                    note = f"a process for each GPU: {ranks} of them would wait for one Python{why}"
        if ranks > gpus:
            shared = "a GPU" if gpus == 1 else f"{gpus} GPUs"
            note = (
                f"{ranks} ranks share {shared}: an action lasts longer while others compute there, "
                "so the bubble is not that of the schedule, as it is in a paced run"
            )
        return replace(self, workers=workers, note=note)

    def advice(self, waited: list[float], ranks: int) -> str:
        """How long GPUs waited for Python, and what to do about it. waited: share of each rank."""
        said = f"GPUs waited for Python in {max(waited):.0%} of the time in which a rank computed"
        if max(waited) <= MUCH:
            return said
        also = ""
        if self.workers == "threads" and ranks <= gpu_count():
            also = ", or a process for each rank (workers='processes')"
        return f"{said}: larger micro-batches or layers would help{also}"


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
