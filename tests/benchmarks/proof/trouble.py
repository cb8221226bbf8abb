"""Faults, memory, pace, the lab's live run, and runs one after the other."""

import time
from itertools import pairwise

from .common import DEVICE, DRY, LARGE, MEMORY, MICROBATCHES, SMALL, middle, ms, ours, row, told

SOON, LATE, PACED = 5.0, 0.1, 1.01
"""Bars: seconds until a fault is named, seconds by which an event is told late, of the law."""


def faults():
    import torch
    from torch import nn

    class Greedy(nn.Module):
        def forward(self, x):
            return x + torch.empty(1 << 50, device=x.device)[:1]

    class Broken(nn.Module):
        def forward(self, x):
            raise ArithmeticError("planted")

    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(30)
            return x

    class Nan(nn.Module):
        def forward(self, x):
            return x * float("nan")

    fault("none, server starting", nn.Tanh(), "no error", bar=60.0)
    fault("out of memory", Greedy(), "memory")
    fault("a layer raises", Broken(), "planted")
    fault("a layer hangs", Slow(), "stalled", timeout=3)
    fault("nan", Nan(), "nan")
    beyond = "out of bounds" if DRY else "on another rank of the same GPU"
    fault("class out of range", nn.Tanh(), beyond, beyond=99)
    fault("none, afterwards", nn.Tanh(), "no error")
    with told("cancelled"):
        cancel(Slow())


def arguments(odd, beyond=0):
    """Four layers of which one is odd, and their data."""
    import torch
    from torch import nn

    layers = [nn.Linear(16, 16), nn.Linear(16, 16), odd, nn.Linear(16, 16)]
    data = torch.randn(32, 16), torch.randint(16, (32,)) + beyond
    options = {"schedule": "1f1b", "ranks": 4, "microbatches": 4, "device": DEVICE}
    return (layers, *data, nn.functional.cross_entropy), options


def fault(what, odd, expected, beyond=0, bar=SOON, **options):
    import pipelab

    given, usual = arguments(odd, beyond)
    start = time.perf_counter()
    try:
        said = f"no error, losses {pipelab.run(*given, **usual | options).losses}"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    took = time.perf_counter() - start
    good = expected in said and took <= bar
    row(f"fault: {what}", f"{took:.1f} s", said[:170], good=good)


def cancel(slow):
    import pipelab

    given, usual = arguments(slow)
    run = pipelab.start(*given, **usual)
    time.sleep(3)
    start = time.perf_counter()
    run.cancel()
    try:
        run.wait(20)
    except pipelab.PipelabError as error:
        row("cancelled", f"{time.perf_counter() - start:.2f} s", type(error).__name__, good=True)


def memory():
    for name, workers in (
        ("1f1b", "processes"),
        ("gpipe", "processes"),
        ("1f1b", "threads"),
        ("gpipe", "threads"),
    ):
        with told(f"memory {name}, {workers}"):
            memory_of(name, workers)


def memory_of(name, workers, workspace=32 << 20):
    """What the allocator held, by what a rank needs.

    That is weights × (1 + gradient + Adam's 2) + activations + cuBLAS's workspace, and what an
    action needs while it computes. Ranks that share a process rarely need that at once.
    """
    import torch

    from pipelab.model import workload

    job = workload(**MEMORY)
    adam = {"optimizer": lambda ps: torch.optim.Adam(ps, lr=1e-4)}
    options = {"schedule": name, "ranks": 4, "workers": workers, "steps": 3}
    run, *_ = ours(job, *job.batches(0), **options, **adam)
    sizes = torch.tensor([sum(p.nbytes for p in layer.parameters()) for layer in job.model])
    weights = [int(part.sum()) for part in sizes.tensor_split(4)]
    offsets = run.schedule.offsets
    held = [int(run.timeline.bytes_held[a:b].max()) for a, b in pairwise(offsets)]
    if DRY:
        row(f"memory {name}, {workers}", f"activations {sum(held) >> 10} KiB")
        return
    peaks, reserved = run.peak_memory_bytes, max(run.peak_reserved_bytes) >> 20
    expected = [4 * w + h + workspace for w, h in zip(weights, held, strict=True)]
    if workers == "threads":
        peaks, expected = [max(peaks)], [sum(expected)]
    else:
        needs = needs_of_stages(job, *job.batches(0))
        expected = [e + need for e, need in zip(expected, needs, strict=True)]
    ratios = [peak / each for peak, each in zip(peaks, expected, strict=True)]
    good = all(0.95 <= ratio <= 1.05 for ratio in ratios[:3]) and ratios[-1] <= 1.2
    value = " ".join(f"{peak >> 20}" for peak in peaks) + " MiB"
    note = "measured / predicted " + " ".join(f"{ratio:.2f}" for ratio in ratios)
    row(f"memory {name}, {workers}", value, f"{note}; reserved {reserved} MiB", good=good)


def needs_of_stages(job, inputs, targets):
    """Bytes that each holds only while it computes, beyond its activations, by torch alone."""
    import torch

    value, y = inputs.cuda().tensor_split(MICROBATCHES)[0], targets.cuda()
    y, needs = y.tensor_split(MICROBATCHES)[0], []
    cuts = torch.arange(len(job.model)).tensor_split(4)
    for part in cuts:
        stage = torch.nn.Sequential(*[job.model[i] for i in part]).cuda()
        x = value.detach().requires_grad_(value.is_floating_point())
        for _ in range(2):  # gradients are there from the second on
            x.grad = None
            torch.cuda.reset_peak_memory_stats()
            value = stage(x)
            end = job.loss_fn(value, y) if part is cuts[-1] else value
            held = torch.cuda.memory_allocated()
            end.backward(torch.ones_like(end))
            need = torch.cuda.max_memory_allocated() - held
        needs.append(need)
    return needs


def paced():
    cases = [(2, (0.02, 0.04), "mlp"), (4, (0.01, 0.02), "mlp"), (8, (0.01, 0.02), "mlp")]
    cases += [(8, (0.01, 0.02), "gpt")]
    for ranks, pace, model in cases[: 1 if DRY else None]:
        for workers, device in (("threads", DEVICE), ("processes", "cpu")):
            what = f"paced {model}, {ranks} ranks, {device} {workers}"
            with told(what):
                paced_one(what, ranks, pace, model, workers=workers, device=device)


def paced_one(what, ranks, pace, model, **where):
    from pipelab.errors import UsageError
    from pipelab.model import workload

    job = workload(model, layers=max(ranks, 4), width=64, batch=4 * MICROBATCHES)
    options = {"schedule": "1f1b", "ranks": ranks, "pace": pace, "steps": 3}
    try:
        run, *_ = ours(job, *job.batches(0), **options, **where)
    except UsageError as refusal:
        row(what, "refused", str(refusal)[:170])
        return
    law = run.predicted.makespan
    spans = [t.makespan / law for t in run.timelines]
    bubbles = [t.metrics["bubble_fraction"] for t in (run.timeline, run.predicted)]
    note = f"worst {max(spans):.4f}; ideal {ms(law)}; bubble {bubbles[0]:.3f}, law {bubbles[1]:.3f}"
    row(what, f"{middle(spans):.4f} of ideal", note, good=middle(spans) <= PACED)


def lab():
    """What the live lab does when one presses "Run for real", without the browser."""
    for config in (SMALL, LARGE):
        what = f"lab, width {config['width']}"
        with told(what):
            lab_one(what, config)


def lab_one(what, config):
    import torch

    from pipelab.engine import start
    from pipelab.model import workload

    job, late, seen, first = workload(**config), [], set(), None
    begun = time.perf_counter()
    run = start(
        job.model,
        job.batches,
        None,
        job.loss_fn,
        schedule="1f1b",
        ranks=4,
        microbatches=MICROBATCHES,
        steps=8,
        device=DEVICE,
        optimizer=lambda p: torch.optim.Adam(p),
        on_event=lambda event: late.append(time.perf_counter() - event.ended),
    )
    while not run.done:
        snapshot = run.snapshot()
        bars = len(snapshot["columns"]["started"])
        if bars:
            first = first or time.perf_counter() - begun
            seen.add((snapshot["step"], bars))
        time.sleep(1 / 12)
    run.wait()
    late.sort()
    note = f"{len(seen)} pictures in 8 steps of {ms(run.timeline.makespan)}; told late by "
    note += f"{ms(middle(late))}, at most {ms(late[-1])}; "
    note += f"losses {run.losses[0]:.2f} to {run.losses[-1]:.2f}"
    value = f"first bar after {first or float('nan'):.1f} s"
    row(what, value, note, good=middle(late) <= LATE)


def endurance(seconds=15):
    import psutil
    import torch

    from pipelab.engine.workers.pool import worker_source
    from pipelab.model import workload

    job = workload("mlp", layers=8, width=64, batch=32)
    data, before, after, done, losses = job.batches(0), None, None, 0, set()
    ours(job, *data, schedule="1f1b", ranks=4)  # starts the server
    begun = time.perf_counter()
    while time.perf_counter() - begun < (4 if DRY else seconds):
        run, *_ = ours(job, *data, schedule=("1f1b", "zb-h1")[done % 2], ranks=4)
        losses.add((done % 2, run.losses[0]))
        server = psutil.Process(worker_source().pid)
        free = 0 if DRY else torch.cuda.mem_get_info()[0] >> 20
        after = server.num_fds(), server.memory_info().rss >> 20, free
        before = before or after
        done += 1
    note = f"{len(losses)} different losses (2 is right); server's files, MiB, and GPU MiB free: "
    good = len(losses) == 2 and before[0] == after[0]
    took = f"{done} in {time.perf_counter() - begun:.0f} s"
    row("runs one after the other", took, f"{note}{before} then {after}", good=good)
