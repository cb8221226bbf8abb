from functools import lru_cache
from itertools import product

import pipelab
from pipelab.errors import UsageError
from pipelab.layout.planner import Layout

USABLE = 0.85


def estimated(model, machine, gpus, batch, layout):
    split = layout.get("tensor", 1) > 1
    try:
        whole = Layout(batch=batch, flash=True, sequence_parallel=split, **layout)
        return pipelab.estimate(model, whole, device=machine, gpus=gpus)
    except UsageError:
        return None


def divisors(number):
    return [i for i in range(1, number + 1) if number % i == 0]


def orders(model, p, m):
    if p == 1:
        return [("1f1b", 1)]
    found = [("1f1b", 1)]
    if m >= p:
        found.append(("zb-h1", 1))
    if m % p == 0:
        found += [("interleaved-1f1b", v) for v in (2, 3, 4, 6, 8) if model.layers % (p * v) == 0]
    return found


def layouts(model, machine, gpus, batch):
    for t in divisors(gpus):
        if model.heads % t or model.kv_heads % t:
            continue
        for p in divisors(gpus // t):
            if model.layers % p:
                continue
            d = gpus // t // p
            for b, recompute in product((1, 2, 4, 8, 16), ("none", "full")):
                if batch % (d * b):
                    continue
                for schedule, v in orders(model, p, batch // (d * b)):
                    for zero in range(4) if d > 1 else (0,):
                        yield {
                            "tensor": t, "pipeline": p, "data": d, "stages_per_rank": v,
                            "microbatch": b, "schedule": schedule, "recompute": recompute,
                            "zero": zero,
                        }  # fmt: skip


@lru_cache
def ranked(model, machine, gpus, batch):
    found = []
    for layout in layouts(model, machine, gpus, batch):
        one = estimated(model, machine, gpus, batch, layout)
        if one is not None and one.bytes["total"] <= USABLE * machine.memory * 1e9:
            found.append((one.seconds, layout))
    return sorted(found, key=lambda pair: pair[0])


def best(model, machine, gpus, batch):
    return ranked(model, machine, gpus, batch)[0][1]


def needed(model, machine, gpus, batch):
    found = ranked(model, machine, gpus, batch)
    with_one = [seconds for seconds, layout in found if layout["pipeline"] > 1]
    without = [seconds for seconds, layout in found if layout["pipeline"] == 1]
    if not without or (with_one and 1.1 * min(with_one) < min(without)):
        return "yes"
    if not with_one or 1.1 * min(without) < min(with_one):
        return "no"
    return "optional"


def defend(model, machine, gpus, batch, mine, rival):
    ours = estimated(model, machine, gpus, batch, mine)
    theirs = estimated(model, machine, gpus, batch, rival)
    too_many = theirs.bytes["total"] - USABLE * machine.memory * 1e9
    if too_many > 0:
        return "memory", too_many
    lost = {name: s - ours.seconds_by_part[name] for name, s in theirs.seconds_by_part.items()}
    part = max(lost, key=lambda name: lost[name])
    return part, lost[part]
