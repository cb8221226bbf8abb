"""The step beside the unsplit model's and torch's own runtime: launch-bound, and GPU-bound."""

import time

from .common import (
    DEVICE,
    DRY,
    LARGE,
    MICROBATCHES,
    SMALL,
    acausal,
    middle,
    ms,
    ours,
    row,
    settle,
    told,
    unsplit,
    warm_half,
)

BAR = 0.9
"""Of the unsplit model's speed, for ranks that share one GPU, at the large size."""


def speed():
    measure("large", LARGE, 6 if DRY else 9)


def launch():
    measure("small", SMALL, 6 if DRY else 24)


def cases_of(size):
    cases = {
        "threads 4": {"schedule": "1f1b", "ranks": 4, "workers": "threads"},
        "threads 2": {"schedule": "1f1b", "ranks": 2, "workers": "threads"},
        "zb-h1 threads 4": {"schedule": "zb-h1", "ranks": 4, "workers": "threads"},
        "processes 2": {"schedule": "1f1b", "ranks": 2, "workers": "processes"},
    }
    if size == "small":
        cases["processes 4"] = cases["threads 4"] | {"workers": "processes"}
    else:
        cases["bf16 threads 4"] = cases["threads 4"] | {"dtype": "bfloat16"}
    return cases


def measure(size, config, steps):
    """The ranks' threads and the unsplit model in two turns: a drift of the machine is spread."""
    from pipelab.model import workload

    job, times, runs = workload(**config), {}, {}
    data, cases = job.batches(0), cases_of(size)
    both = list(cases)[:2]

    def plain(what, dtype="float32"):
        with told(f"{size}: {what}"):
            _, took = unsplit(workload(**config), *data, dtype, 0.2 if DRY else 1.0)
            times.setdefault(what, []).extend(warm_half(took))

    def split(what):
        with told(f"{size}: {what}"):
            runs[what], took, _ = ours(job, *data, steps=steps, **cases[what])
            times.setdefault(what, []).extend(took)

    for _ in range(2):
        plain("unsplit")
        for what in both:
            split(what)
    for what in list(times):
        tell(size, what, times, runs.get(what))
    if "threads 4" in runs:
        with told(f"{size}: overlap"):
            overlap(size, runs["threads 4"])
    for stages in (1, 4):
        what = f"torch's runtime, {stages} stages, one process"
        with told(f"{size}: {what}"):
            times[what] = torch_runtime(workload(**config), *data, stages, 0.2 if DRY else 1.5)
            tell(size, what, times)
    for what in list(cases)[2:]:
        if "bf16" in what:
            plain("bf16 unsplit", "bfloat16")
            tell(size, "bf16 unsplit", times)
        split(what)
        tell(size, what, times, runs.get(what))


def tell(size, what, times, run=None):
    took = times.get(what, [])
    if not took:  # it failed, which was said
        return
    step = middle(took)
    ratio = middle(times.get("bf16 unsplit" if "bf16" in what else "unsplit")) / step
    spread = (max(took) - min(took)) / step
    note = f"{ratio:.2f} x unsplit; {len(took)} steps, spread {spread:.0%}"
    if run:
        bubble, law = (t.metrics["bubble_fraction"] for t in (run.timeline, run.predicted))
        note += f"; bubble {bubble:.1%}, predicted {law:.1%}"
        note += f"; {run.advice}" if run.advice else ""
    has_bar = size == "large" and what in ("threads 2", "threads 4") and not DRY
    row(f"{size}: {what}", ms(step), note, good=ratio >= BAR if has_bar else None)


def overlap(size, run):
    """Whether ranks really compute at the same time on the one GPU."""
    import numpy as np

    t = run.timeline
    begins, ends = t.started[t.compute > 0], t.ended[t.compute > 0]
    edges = sorted([(moment, 1) for moment in begins] + [(moment, -1) for moment in ends])
    busy, before, shares = 0, 0.0, {}
    for moment, change in edges:
        shares[busy] = shares.get(busy, 0.0) + moment - before
        busy, before = busy + change, moment
    total = sum(shares.values())
    said = ", ".join(f"{k}: {v / total:.0%}" for k, v in sorted(shares.items()))
    schedule, forwards = t.schedule, []
    for stage in range(schedule.stages):
        of_stage = (schedule.stage == stage) & (schedule.kind == 0)
        forwards.append(ms(float(np.median(t.compute[of_stage]))))
    note = f"F per stage {' '.join(forwards)}; acausal {acausal(run) * 1e6:.0f} us"
    row(f"{size}: ranks computing at once", said, note)


def torch_runtime(job, inputs, targets, stages, seconds):
    """Seconds of each step of torch.distributed.pipelining with all stages in this process."""
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining import schedules as torchs

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    layers = list(job.model)
    cuts = torch.arange(len(layers)).tensor_split(stages)
    parts = [torch.nn.Sequential(*[layers[i] for i in cut]).to(DEVICE) for cut in cuts]
    device = torch.device(DEVICE)
    made = [PipelineStage(part, i, stages, device) for i, part in enumerate(parts)]
    for stage in made:
        stage._get_init_p2p_neighbors_ops = list  # there is nobody to greet
    runtime = torchs._PipelineScheduleRuntime(made, MICROBATCHES, loss_fn=job.loss_fn)
    kinds = torchs._ComputationType
    order = []
    for i in range(MICROBATCHES):
        order += [torchs._Action(s, kinds.FORWARD, i) for s in range(stages)]
        order += [torchs._Action(s, kinds.FULL_BACKWARD, i) for s in reversed(range(stages))]
    runtime._prepare_schedule_with_comms({0: order}, format="compute_only")
    x, y, took, begun = inputs.to(DEVICE), targets.to(DEVICE), [], time.perf_counter()
    while not took or time.perf_counter() - begun < seconds:
        for part in parts:
            part.zero_grad()
        start = time.perf_counter()
        runtime.step(x, target=y, losses=[])
        settle()
        took.append(time.perf_counter() - start)
    return warm_half(took)
