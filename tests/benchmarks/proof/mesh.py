"""Copies and tensor-parallel workers on one GPU, a process each, beside a loop of plain torch."""

from .common import DEVICE, DRY, MICROBATCHES, middle, ms, ours, row, told, unsplit, warm_half
from .nccl import go

MESH = {"name": "gpt", "layers": 10, "width": 64 if DRY else 512, "batch": 32 if DRY else 128}
CLOSE = 1e-4
"""Bar of gradients, and of weights after two steps, relative."""
CASES = {
    "2 × 2": {"data": 2},
    "zb-h1, 2 × 2, ZeRO 3": {"data": 2, "zero": 3, "schedule": "zb-h1"},
    "2 × 1 × 2, sequence": {"tensor": 2, "sequence_parallel": True},
    "2 × 2 × 2, ZeRO 1": {"data": 2, "tensor": 2, "zero": 1},
}
"""Ranks × copies × tensor."""
PLAN = {"[02468].0": "column", "[1357].0": "row"}


def sgd(parameters):
    import torch

    return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)


def mesh():
    from pipelab.model import workload

    way = "own" if DRY else "shared"
    go("mesh, NCCL, 2 × 2, ZeRO 3", 4, way, "1f1b", limit=60, mesh={"data": 2, "zero": 3})
    tensor = {"tensor": 2, "tensor_plan": PLAN}
    go("mesh, NCCL, 2 × 1 × 2", 4, way, "1f1b", limit=60, mesh=tensor)
    job = workload(**MESH)
    data = job.batches(0)
    _, took = unsplit(workload(**MESH), *data, seconds=0.2)
    row("mesh: unsplit", ms(middle(warm_half(took))))
    truth = trained(workload(**MESH), *data)
    for what, options in CASES.items():
        with told(f"mesh {what}"):
            one(what, job, data, truth, options)


def trained(job, inputs, targets):
    """Two steps of plain torch: the last gradients, and the weights."""
    import torch

    model = torch.nn.Sequential(*job.model).to(DEVICE)
    updates, x, y = sgd(model.parameters()), inputs.to(DEVICE), targets.to(DEVICE)
    for _ in range(2):
        updates.zero_grad()
        for a, b in zip(x.tensor_split(MICROBATCHES), y.tensor_split(MICROBATCHES), strict=True):
            (job.loss_fn(model(a), b) / MICROBATCHES).backward()
        updates.step()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters()}
    return gradients, {name: value.cpu() for name, value in model.state_dict().items()}


def one(what, job, data, truth, options):
    from pipelab.engine.reference.unsplit import gradient_error

    options = {"schedule": "1f1b", "ranks": 2, "workers": "auto", "optimizer": sgd} | options
    options |= {"microbatches": MICROBATCHES // options.get("data", 1)}
    run, *_ = ours(job, *data, steps=2, **options)
    errors = [
        gradient_error(found, right)
        for found, right in zip((run.gradients, run.state_dict), truth, strict=True)
    ]
    peaks = [sum(each.values()) >> 20 for each in run.peak_bytes]
    sent = sum(sum(each.values()) for each in run.bytes_by_collective) >> 20
    inside = float(run.timeline.collective.sum() / run.timeline.compute.sum())
    note = f"weights after 2 steps {errors[1]:.1e}; step {ms(run.timeline.makespan)}; {sent} MiB a "
    note += f"step; collectives inside of actions {inside:.0%}; peaks {peaks} MiB; {run.transport}"
    row(f"mesh {what}", f"error {errors[0]:.1e}", note, good=max(errors) <= CLOSE)
