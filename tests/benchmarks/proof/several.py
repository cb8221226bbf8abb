"""A GPU for each rank: threads of one Python beside a process for each, at both sizes."""

from .common import DRY, LARGE, SMALL, acausal, middle, ms, ours, row, told, unsplit, warm_half

BAR = 0.85
"""Of what a step should take, by its measured costs, where GPUs are the limit."""


def several():
    from pipelab.engine.job.gpus import gpu_count

    gpus = 2 if DRY else min(gpu_count(), 8)
    if gpus < 2:
        row("several GPUs", "one GPU here", "what ranks on GPUs of their own take is not measured")
        return
    for size, config in (("large", LARGE), ("small", SMALL)):
        for ranks in sorted({2, gpus}):
            compare(size, config, ranks)


def compare(size, config, ranks):
    from pipelab.model import workload

    job = workload(**config)
    data = job.batches(0)
    _, took = unsplit(workload(**config), *data, seconds=0.2 if DRY else 1.0)
    whole = middle(warm_half(took))
    for schedule in ("1f1b", "zb-h1"):
        for workers in ("threads", "processes"):
            what = f"several: {size}, {schedule}, {ranks} {workers}"
            with told(what):
                options = {"schedule": schedule, "ranks": ranks, "workers": workers}
                run, steps, _ = ours(job, *data, steps=6, **options)
                one(what, run, middle(steps), whole, has_bar=size == "large" and not DRY)


def one(what, run, step, whole, *, has_bar):
    t, law = run.timeline, run.predicted
    bubbles = [each.metrics["bubble_fraction"] for each in (t, law)]
    note = f"{whole / step:.2f} x one GPU; step by its costs {ms(law.makespan)}; bubble "
    note += f"{bubbles[0]:.1%}, predicted {bubbles[1]:.1%}; transfer {ms(t.transfer.sum())}; "
    note += f"acausal {1e6 * acausal(run):.0f} us; {run.transport}; {run.advice or ''}"
    row(what, ms(step), note, good=law.makespan / step >= BAR if has_bar else None)
