"""What the processes of torchrun must have alike: the call, the model, and the data of every step.

Rank 0 trains on its own inputs, the last rank on its own targets. Where each process shuffles for
itself, one sample's input would meet another's target, and nothing would say so.
"""

import time

import torch
import torch.distributed as dist

from ...errors import UsageError
from ..job.batches import Batch
from ..job.values import Value
from ..setup.setup import Setup
from ..transport.network import wait
from ..travel.fingerprint import SIZE, fingerprint
from .group import gather
from .watch import DataEnded, Watch

PARTS = ("inputs", "targets", "weights of micro-batches")
_SAME_DATA = (
    "rank 0 uses its inputs and the last rank its targets, so every process must bring the same "
    "batch. Shuffle with one seed everywhere (DataLoader(..., shuffle=True, "
    "generator=torch.Generator().manual_seed(0))), without a DistributedSampler."
)
_SAME_CALL = "every process must make the same call."
_SAME_MODEL = f"{_SAME_CALL} Seed the model with torch.manual_seed before it is built."


def require_same_run(setup: Setup) -> None:
    """Raise UsageError unless every process makes the same call, one process per rank."""
    schedule, workers = setup.schedule, setup.world.ranks
    if dist.get_world_size() != workers:
        has = f"the schedule has {workers} ranks"
        if workers != schedule.ranks:
            mesh = setup.mesh
            has = (
                f"data={mesh.data} × ranks={schedule.ranks} × tensor={mesh.tensor} are {workers} "
                "workers"
            )
        raise UsageError(
            f"torchrun started {dist.get_world_size()} processes, but {has}: start one process per "
            "rank (nodes × --nproc-per-node)."
        )
    tensors: dict[str, torch.Tensor] = {}
    for _, layer, module in setup.layers:
        held = (*module.named_parameters(), *module.named_buffers())
        tensors |= {f"{layer}.{name}": tensor for name, tensor in held}
    fixed = setup.data.fixed
    data = zip(PARTS, _fingerprints(fixed), strict=True) if fixed else ()
    call = {
        "schedule": schedule.to_csv(),
        "device": setup.where.device,
        "checkpoint": setup.first_step,
        "mesh": setup.mesh,
        "tensor_plan": dict(setup.plan.modules),
        **{f"value of {name}": v for name, v in setup.recipe.comparable().items()},
        "model": fingerprint(tensors),
        "kind of data": fixed is None,
        **dict(data),
    }
    for rank, other in enumerate(gather(call)):
        different = next((name for name, value in call.items() if other[name] != value), None)
        if different:
            what, remedy = f"another {different}", _SAME_CALL
            if different == "model":
                remedy = _SAME_MODEL
            if different in PARTS:
                what, remedy = f"other {different}", _SAME_DATA
            raise UsageError(
                f"Rank {rank} was started with {what} than rank {dist.get_rank()}: {remedy}"
            )


def agreed_batch(watch: Watch, step: int, limit: float) -> Batch:
    """The data of a step, which all processes have alike.

    limit: seconds that waiting for the others may last. Raises UsageError where the data differ,
    DataEnded where there are none, TimeoutError.
    """
    failed: DataEnded | UsageError | None = None
    mine = [bytes(SIZE)] * len(PARTS)
    try:
        batch = watch.batch(step)
        mine = _fingerprints(batch)
    except (DataEnded, UsageError) as error:  # the others must know
        failed = error
    everyones = _gathered(b"".join(mine), time.perf_counter() + limit)
    if failed:
        raise failed
    nothing = bytes(SIZE * len(PARTS))
    for rank, theirs in enumerate(everyones):
        if theirs == nothing:
            raise DataEnded(f"Rank {rank} had no data for step {step}: {_SAME_DATA}")
    first, *others = [_in_parts(each) for each in everyones]
    for rank, other in enumerate(others, 1):
        differ = [name for name, a, b in zip(PARTS, first, other, strict=True) if a != b]
        if differ:
            raise UsageError(
                f"Rank {rank} brought other {' and '.join(differ)} than rank 0 to step {step}: "
                f"{_SAME_DATA}"
            )
    return batch


def _fingerprints(batch: Batch) -> list[bytes]:
    shares = {"shares": torch.tensor(batch.shares, dtype=torch.float64)}
    return [_of_values(batch.inputs), _of_values(batch.targets), fingerprint(shares)]


def _of_values(values: tuple[Value, ...] | None) -> bytes:
    named = {(i, k): t for i, value in enumerate(values or ()) for k, t in enumerate(value)}
    return fingerprint(named)


def _gathered(mine: bytes, deadline: float) -> list[bytes]:
    """The bytes of all ranks; in ``group.gather`` no deadline is possible."""
    sent = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    taken = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    wait(dist.all_gather(taken, sent, async_op=True), deadline)
    return [each.numpy().tobytes() for each in taken]


def _in_parts(joined: bytes) -> list[bytes]:
    return [joined[at : at + SIZE] for at in range(0, len(joined), SIZE)]
