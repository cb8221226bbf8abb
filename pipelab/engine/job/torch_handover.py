"""Handing a Schedule to torch.distributed.pipelining's own runtime.

What that can take, and what it needs to know.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...schedule import Kind, Schedule
from ...schedule.kinds import KINDS, OF_MICROBATCH
from ..record.board import TRACE
from .values import Value

MODULE = "pipelab.engine.reference.torch_rank"
"""Imported by the worker server on request only: it takes a second and some 70 MiB."""
_CAN = OF_MICROBATCH & {row.kind for row in KINDS if row.torch}


@dataclass(frozen=True)
class TorchJob:
    """What torch's runtime needs to know.

    csv: the schedule as a file. store: the file by which the ranks find each other. stages: how
    many there are.
    """

    csv: str
    store: str
    stages: int

    @classmethod
    def of(cls, schedule: Schedule) -> "TorchJob":
        """Write the schedule to a file."""
        folder = Path(tempfile.mkdtemp(prefix="pipelab-"))
        (folder / "schedule.csv").write_text(schedule.to_csv())
        return cls(str(folder / "schedule.csv"), str(folder / "store"), schedule.stages)

    def remove(self) -> None:
        """Remove both files."""
        shutil.rmtree(Path(self.csv).parent, ignore_errors=True)


def refusal(schedule: Schedule, inputs: tuple[Value, ...]) -> str | None:
    """Why torch's runtime cannot run this schedule on these micro-batches, or None."""
    beyond = sorted(schedule.kinds - _CAN - {Kind.REDUCE_GRAD})
    if beyond:
        return f"it knows no {', '.join(f'{kind.name} ({kind.title})' for kind in beyond)}"
    if schedule.replicas > 1:
        return "it knows one copy of the model"
    if Kind.REDUCE_GRAD in schedule.kinds:
        return "it does not sum the gradients of weights that several stages share"
    if not all(x.alone for x in inputs):
        return "here it is given one tensor as input"
    sizes = [len(x[0]) for x in inputs]
    if len(set(sizes)) > 1:
        return (
            f"it weighs micro-batches of {sizes} samples alike, so its gradients would be wrong: "
            "make them even"
        )
    last = schedule.microbatch[(schedule.stage == schedule.stages - 1) & (schedule.kind == Kind.F)]
    if (last[1:] < last[:-1]).any():
        return (
            "it looks up the losses of the last stage by position, so micro-batches must come "
            "there in order"
        )
    return None


def with_senders(schedule: Schedule, rows: np.ndarray) -> np.ndarray:
    """Traces in which each input was sent when the rank that made it had it.

    Shape (steps, atoms, columns). For those who do not say when they send: torch's runtime, and
    hosts that send before their GPUs have what they send. The clocks of all ranks are the same, or
    were set to one another.
    """
    producer, remote = schedule.producer, np.flatnonzero(schedule.crosses)
    rows[:, remote, TRACE.index("sent")] = rows[:, producer[remote], TRACE.index("ended")]
    return rows
