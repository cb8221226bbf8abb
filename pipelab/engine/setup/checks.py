"""What a schedule, a recipe and an executor exclude of each other."""

from typing import Any

from ...errors import UsageError
from ...schedule import Kind, Schedule
from ...schedule.versions import require_versions
from ..job.batches import Data
from ..job.recipe import Recipe
from ..job.torch_handover import refusal
from ..job.where import Where
from ..record.board import TRACE

MAX_TRACE_BYTES = 4 << 30


def require_sizes(schedule: Schedule, given: dict[str, int | None]) -> None:
    """Refuse other sizes than those of a Schedule."""
    for name, wanted in given.items():
        if wanted is not None and wanted != getattr(schedule, name):
            raise UsageError(
                f"The schedule {schedule.name} has {name} = {getattr(schedule, name)}, not "
                f"{wanted}."
            )


def check_steps(schedule: Schedule, recipe: Recipe) -> None:
    """Check what a schedule that steps the optimizer itself needs, and excludes."""
    if Kind.STEP not in schedule.kinds:
        return
    if recipe.optimizer is None:
        raise UsageError(
            f"The schedule {schedule.name} steps the optimizer between micro-batches (STEP), so "
            "it needs one: pass optimizer=…, such as lambda params: torch.optim.SGD(params, "
            "lr=0.1)."
        )
    if recipe.clip is not None:
        raise UsageError(
            "clip needs the gradients of all stages at one moment, and the schedule "
            f"{schedule.name} steps the optimizer of each stage at a time of its own. Use a "
            "schedule without STEP."
        )
    require_versions(schedule)


def check_trace(schedule: Schedule, steps: int) -> None:
    """Check that the timelines of all steps fit into memory."""
    bytes_of_step = len(schedule.kind) * 8 * len(TRACE)
    if steps * bytes_of_step > MAX_TRACE_BYTES:
        raise UsageError(
            f"The timelines of {steps:,} steps of this schedule would take "
            f"{steps * bytes_of_step / 2**30:.0f} GiB: use at most "
            f"{MAX_TRACE_BYTES // bytes_of_step:,} steps in one run, and pass on its state_dict to "
            "the next."
        )


def check_torch(
    schedule: Schedule, data: Data, recipe: Recipe, where: Where, given: dict[str, Any]
) -> None:
    """Raise UsageError for what torch's own runtime cannot do."""
    given = given | {
        "recompute": recipe.recompute,
        "clip": recipe.clip,
        "latency": recipe.latency,
        "workers": where.workers != "processes",
        "dtype": recipe.dtype != "float32",
    }
    reason = refusal(schedule, data.batch(0).inputs or ())
    for name, value in given.items():
        if reason is None and value:
            reason = f"it knows no {name}=…"
    if reason is not None:
        raise UsageError(
            f"executor='torch' hands the schedule to torch.distributed.pipelining, and {reason}."
        )
