"""Right, and unlike the others: from each mesh either the order or the rest is changed, while that helps."""

from itertools import product

import pipelab
from pipelab.errors import UsageError
from pipelab.layout.planner import Layout

CHOICES = {
    "microbatch": (1, 2, 4, 8, 16),
    "zero": (0, 1, 2, 3),
    "recompute": ("none", "full"),
    "order": (("1f1b", 1), ("zb-h1", 1), *(("interleaved-1f1b", v) for v in (2, 3, 4, 6, 8))),
}


def as_dict(point):
    layout = {key: value for key, value in point.items() if key != "order"}
    layout["schedule"], layout["stages_per_rank"] = point["order"]
    return layout


def value(job, layout):
    """Seconds; of what does not fit, more the more it holds; None for what cannot be or is slow to simulate."""
    model, machine, gpus, batch = job
    m, p = batch // (layout["data"] * layout["microbatch"]), layout["pipeline"]
    if p > 1 and (m < p if layout["schedule"] == "zb-h1" else layout["stages_per_rank"] > 1 and m % p):
        return None
    try:
        whole = Layout(batch=batch, flash=True, sequence_parallel=layout["tensor"] > 1, **layout)
        one = pipelab.estimate(model, whole, device=machine, gpus=gpus)
    except UsageError:
        return None
    if one.fits == "no":
        return 1e9 + one.bytes["total"]
    return one.seconds


def climbed(job, mesh):
    point = dict(mesh, microbatch=1, zero=3 if mesh["data"] > 1 else 0, recompute="full", order=("1f1b", 1))
    now = value(job, as_dict(point))
    if now is None:
        return None
    memory = ("microbatch", "zero", "recompute")  # what costs memory goes together with what saves it
    together = [dict(zip(memory, each)) for each in product(*(CHOICES[key] for key in memory))]
    steps = together + [{"order": order} for order in CHOICES["order"]]
    while True:
        around = []
        for step in steps:
            other = point | step
            found = value(job, as_dict(other))
            if found is not None:
                around.append((found, str(other), other))
        best = min(around)
        if best[0] >= now:
            return now, as_dict(point)
        now, point = best[0], best[2]


def tops(job):
    gpus = job[2]
    for t in range(1, gpus + 1):
        for p in range(1, gpus // t + 1):
            if gpus % (t * p) == 0:
                top = climbed(job, {"tensor": t, "pipeline": p, "data": gpus // (t * p)})
                if top is not None and top[0] < 1e9:
                    yield top


def best(*job):
    return min(tops(job), key=lambda top: top[0])[1]


def needed(*job):
    piped, plain = [], []
    for seconds, layout in tops(job):
        (piped if layout["pipeline"] > 1 else plain).append(seconds)
    if not plain:
        return "yes"
    if not piped:
        return "no"
    ratio = min(plain) / min(piped)
    return "yes" if ratio > 1.1 else "no" if ratio < 1 / 1.1 else "optional"


def defend(model, machine, gpus, batch, mine, rival):
    parts = []
    for layout in (mine, rival):
        whole = Layout(batch=batch, flash=True, sequence_parallel=layout.get("tensor", 1) > 1, **layout)
        parts.append(pipelab.estimate(model, whole, device=machine, gpus=gpus))
    over = parts[1].bytes["total"] - 0.85 * machine.memory * 10**9
    if over > 0:
        return ("memory", over)
    differences = {name: parts[1].seconds_by_part[name] - parts[0].seconds_by_part[name] for name in parts[0].seconds_by_part}
    return max(differences.items(), key=lambda item: item[1])
