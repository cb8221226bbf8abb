"""What a mesh asks of a schedule and of a model, before anything starts."""

from torch import nn

from ...errors import UsageError
from ...schedule import Kind, Mesh, Schedule
from ...schedule.kinds import COLLECTIVES
from ..job.exchange import Layer
from ..job.where import Where

MAX_WORKERS = 16
"""Of a mesh on one machine, but for torchrun, which may have many."""


def require_mesh(schedule: Schedule, mesh: Mesh, where: Where) -> None:
    """Refuse a mesh that cannot run here, or whose copies the schedule forgets."""
    workers = mesh.workers(schedule.ranks)
    if mesh.planes == 1:
        beyond = sorted((schedule.kinds & COLLECTIVES) - {Kind.REDUCE_GRAD})
        if beyond:
            names = " and ".join(kind.name for kind in beyond)
            raise UsageError(
                f"A run of one copy of the pipeline cannot do {names}: its ranks keep their "
                "weights whole. Use data=2 or more with zero=3, leave them out, or simulate the "
                "schedule."
            )
        return
    if workers > MAX_WORKERS and where.workers != "torchrun":
        raise UsageError(
            f"data={mesh.data} × ranks={schedule.ranks} × tensor={mesh.tensor} are {workers} "
            f"workers, and a mesh may have {MAX_WORKERS} here: make one of them smaller."
        )
    if where.executor == "torch" or where.workers == "threads":
        raise UsageError(
            "A mesh (data= or tensor= of 2 or more) runs in processes, with our own engine: leave "
            "executor and workers out."
        )


def with_collectives(schedule: Schedule, mesh: Mesh) -> Schedule:
    """The schedule with what copies do together, where it does not say so itself."""
    if mesh.data == 1:
        return schedule
    if not schedule.kinds & COLLECTIVES:
        return schedule.with_data_parallel(zero=mesh.zero)
    is_wanted = {
        Kind.UNSHARD: (mesh.zero > 0, "gathers weights"),
        Kind.RESHARD: (mesh.zero == 3, "gives weights back"),
        Kind.REDUCE_GRAD: (True, "sums gradients"),
    }
    for kind, (wanted, what) in is_wanted.items():
        there = schedule.kind == kind
        parts = zip(schedule.replica[there].tolist(), schedule.stage[there].tolist(), strict=True)
        has = set(parts)
        if has != (set(schedule.placement) if wanted else set()):
            every = "every stage" if wanted else "no stage"
            here = "nowhere"
            if has:
                here = "on some stages alone" if wanted else "all the same"
            raise UsageError(
                f"With zero={mesh.zero} {every} {what} ({kind.name}), and the schedule "
                f"{schedule.name} does so {here}. Build it with "
                f"schedule.with_data_parallel(zero={mesh.zero}), or leave its collectives out."
            )
    return schedule


def require_own_memory(stages: list[list[Layer]]) -> None:
    """Refuse parameters that are views of one another: divided, they would be two."""
    first: dict[int, tuple[nn.Parameter, str]] = {}
    for _, layer, module in (each for stage in stages for each in stage):
        for name, parameter in module.named_parameters():
            address = parameter.untyped_storage().data_ptr()
            other, known = first.setdefault(address, (parameter, f"{layer}.{name}"))
            if other is not parameter and address:
                raise UsageError(
                    f"{known} and {layer}.{name} are two parameters with one memory. Divided among "
                    "workers they would no longer change together: let the layers share one "
                    "parameter, or use tensor=1 and zero=0."
                )
