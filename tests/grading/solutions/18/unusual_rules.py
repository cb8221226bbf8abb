"""Right, and unlike the others: rules first (a layer stays in its node), and layouts without what is 1."""

import pipelab
from pipelab.errors import PipelabError
from pipelab.layout.planner import Layout


def seconds_and_bytes(model, machine, gpus, batch, layout):
    one = Layout(batch=batch, flash=True, sequence_parallel=layout.get("tensor", 1) > 1, **layout)
    try:
        return pipelab.estimate(model, one, device=machine, gpus=gpus)
    except PipelabError:
        return None


def fits(machine, one):
    return one is not None and one.fits in ("yes", "tight")


def two_to_the(most):
    size = 1
    while size <= most:
        yield size
        size *= 2


def search(model, machine, gpus, batch):
    found = {}
    for t in two_to_the(min(machine.node_size, gpus)):
        for p in two_to_the(gpus // t):
            d = gpus // (t * p)
            for b in two_to_the(16):
                m, rest = divmod(batch, d * b)
                if rest or m == 0:
                    continue
                names = ["1f1b"] if p == 1 or m < p else ["zb-h1", "1f1b"]
                options = [(name, 1) for name in names]
                if p > 1 and m % p == 0:
                    options += [("interleaved-1f1b", v) for v in (2, 3, 4, 6, 8)]
                for name, v in options:
                    for zero in (0, 1, 2, 3):
                        for recompute in ("none", "full"):
                            whole = dict(tensor=t, pipeline=p, data=d, microbatch=b, schedule=name,
                                         stages_per_rank=v, zero=zero, recompute=recompute)
                            layout = {k: x for k, x in whole.items() if x not in (0, 1, "1f1b", "none")}
                            one = seconds_and_bytes(model, machine, gpus, batch, layout)
                            if fits(machine, one):
                                found[one.seconds] = layout
                                break  # the next only holds less, and takes longer
    return found


def best(model, machine, gpus, batch):
    found = search(model, machine, gpus, batch)
    return found[min(found)]


def needed(model, machine, gpus, batch):
    found = search(model, machine, gpus, batch)
    times = {True: float("inf"), False: float("inf")}
    for seconds, layout in found.items():
        piped = "pipeline" in layout
        times[piped] = min(times[piped], seconds)
    if times[True] * 1.1 < times[False]:
        return "yes"
    return "no" if times[False] * 1.1 < times[True] else "optional"


def defend(model, machine, gpus, batch, mine, rival):
    one = seconds_and_bytes(model, machine, gpus, batch, mine)
    other = seconds_and_bytes(model, machine, gpus, batch, rival)
    if not fits(machine, other):
        return "memory", other.bytes["total"] - machine.memory * 850_000_000
    more = sorted((other.seconds_by_part[part] - one.seconds_by_part[part], part) for part in other.seconds_by_part)
    return more[-1][::-1]
