"""What the parts share: rows, the unsplit model, a run of ours, and the dry run without a GPU."""

import os
import statistics
import time
from contextlib import contextmanager
from itertools import pairwise

DRY = os.environ.get("PROOF_DRY") == "1"
"""Small sizes on the processor: it tries the script, not a GPU."""
DEVICE = "cpu" if DRY else "cuda"
MICROBATCHES = 8
SMALL = {"name": "gpt", "layers": 10, "width": 512, "batch": 32}
"""256 tokens a micro-batch: the host is the limit."""
LARGE = {"name": "gpt", "layers": 10, "width": 1024, "batch": 256}
"""2,048 tokens a micro-batch: the GPU is the limit."""
MEMORY = {"name": "gpt", "layers": 10, "width": 512, "batch": 256}
TRUTH = {"name": "gpt", "layers": 18, "width": 64, "batch": 16}
if DRY:
    SMALL, LARGE, MEMORY = ({**size, "width": 32, "batch": 16} for size in (SMALL, LARGE, MEMORY))


def row(what, value, note="", good=None):
    """One line of the table. good: whether a bar was met, where there is one."""
    verdict = {None: "", True: "ok", False: "MISSED"}[good]
    cells = (str(x).replace("\t", " ").replace("\n", " | ") for x in (what, value, note, verdict))
    print("ROW\t" + "\t".join(cells), flush=True)


def ms(seconds):
    return f"{1e3 * seconds:.2f} ms"


@contextmanager
def told(what):
    """Whatever goes wrong inside becomes a row, and the part goes on."""
    try:
        yield
    except BaseException as error:
        row(what, "FAILED", f"{type(error).__name__}: {str(error)[:200]}", good=False)


def settle():
    """Wait until the GPU has done what is queued."""
    import torch

    if not DRY:
        torch.cuda.synchronize()


def unsplit(job, inputs, targets, dtype="float32", seconds=0.0):
    """(gradients, seconds of each step) of the unsplit model, micro-batch by micro-batch."""
    import torch

    model = torch.nn.Sequential(*job.model).to(DEVICE)
    xs = inputs.to(DEVICE).tensor_split(MICROBATCHES)
    ys = targets.to(DEVICE).tensor_split(MICROBATCHES)
    took, begun = [], time.perf_counter()
    while len(took) < 3 or time.perf_counter() - begun < seconds:
        model.zero_grad()
        start = time.perf_counter()
        for x, y in zip(xs, ys, strict=True):
            with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = job.loss_fn(model(x), y) / MICROBATCHES
            loss.backward()
        settle()
        took.append(time.perf_counter() - start)
    return {name: p.grad.cpu() for name, p in model.named_parameters()}, took


def warm_half(took):
    """Seconds without the first third, in which clocks rise and caches fill."""
    return took[len(took) // 3 :]


def ours(job, inputs, targets, **options):
    """(run, seconds of its warm steps, how late each of its events was told)"""
    import pipelab

    ends, late = {}, []

    def told_of(event):
        ends[event.step] = max(ends.get(event.step, 0.0), event.ended)
        late.append(time.perf_counter() - event.ended)

    options = {"microbatches": MICROBATCHES, "device": DEVICE, "steps": 1} | options
    if DRY:
        options = {"workers": "threads"} | options
    run = pipelab.run(job.model, inputs, targets, job.loss_fn, on_event=told_of, **options)
    times = [ends[step] for step in sorted(ends)]
    return run, warm_half([after - before for before, after in pairwise(times)]), late


def acausal(run):
    """Seconds by which a result was used before it was there: 0 or less is right."""
    timeline, producer = run.timeline, run.schedule.producer
    used = producer >= 0
    return float((timeline.ended[producer[used]] - timeline.started[used]).max())


def middle(values):
    """The median; nan where nothing was measured."""
    return statistics.median(values) if values else float("nan")
