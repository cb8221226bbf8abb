"""Layers measured one by one, beside the whole model's step and what the allocator held."""

from .common import (
    DEVICE,
    DRY,
    LARGE,
    MICROBATCHES,
    SMALL,
    middle,
    ms,
    row,
    told,
    unsplit,
    warm_half,
)

CLOSE = 0.1
"""Bar, relative, at the large size in float32: elsewhere the host is the limit."""
TURNS = 2 if DRY else 3


def profile():
    for size, config in (("large", LARGE), ("small", SMALL)):
        for dtype in ("float32", "bfloat16"):
            with told(f"profile {size} {dtype}"):
                one(size, config, dtype)


def one(size, config, dtype):
    """Both in turns: a drift of the machine is spread."""
    import pipelab
    from pipelab.model import workload

    job = workload(**config)
    inputs, targets = job.batches(0)
    options = {"microbatches": MICROBATCHES, "device": DEVICE, "dtype": dtype}
    sums, steps = [], []
    for _ in range(TURNS):
        found = pipelab.profile(job.model, inputs, targets, job.loss_fn, **options)
        rows = [*found.layers, found.loss]
        sums.append(sum(each.forward + each.input_grad + each.weight_grad for each in rows))
        _, took = unsplit(workload(**config), inputs, targets, dtype, 0.5)
        steps += warm_half(took)
    ratio = MICROBATCHES * middle(sums) / middle(steps)
    note = f"{MICROBATCHES} micro-batches of {', '.join(map(ms, sums))}, unsplit "
    note += f"{ms(middle(steps))}, {ms(min(steps))} to {ms(max(steps))}"
    if not DRY:
        held, counted = held_by(job, inputs, targets, dtype), sum(x.activation_bytes for x in rows)
        note += f"; activations counted {counted >> 20} MiB, the allocator's {held >> 20}"
    has_bar = (size, dtype) == ("large", "float32") and not DRY
    good = abs(ratio - 1) <= CLOSE if has_bar else None
    row(f"profile {size} {dtype}", f"{ratio:.2f} x the step", note, good=good)


def held_by(job, inputs, targets, dtype):
    """Bytes that the allocator holds between the forward of a micro-batch and its backward."""
    import torch

    model = torch.nn.Sequential(*job.model).cuda()
    x, y = (each.cuda().tensor_split(MICROBATCHES)[0] for each in (inputs, targets))
    for _ in range(2):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = job.loss_fn(model(x), y)
        held = torch.cuda.memory_allocated() - before
        loss.backward()
    return held
