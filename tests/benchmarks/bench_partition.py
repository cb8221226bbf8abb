"""How long the best cuts take to find, and what they gain over even cuts and cuts by parameters.

    .venv/bin/python tests/benchmarks/bench_partition.py

Layers with random costs, and a chain like a GPT's: equal blocks and a heavy head. seconds: of
pipelab.partition, the simulation of its three makespans included. even, parameters: their slowest
rank over that of the best.
"""

import random
import time

import pipelab
from pipelab.layout import LayerProfile, Profile

SIZES = [(1000, 64, 1, None), (200, 16, 1, None), (64, 8, 2, "loop"), (64, 8, 2, "v"),
         (48, 4, 3, "loop"), (32, 4, 4, "v")]  # fmt: skip


def chain(kind, layers):
    draw = random.Random(0)
    rows = []
    for i in range(layers):
        blocks = draw.uniform(0.5, 2) if kind == "random" else draw.gauss(1, 0.01)
        t = 5.0 if kind == "gpt" and i == layers - 1 else blocks
        p = draw.randint(1, 9) if kind == "random" else 4
        rows.append(LayerProfile(str(i), t / 3, t / 3, t / 3, 100, 10, 8, p))
    return Profile("cpu", "float32", 1, tuple(rows), LayerProfile("loss", 0, 0, 0, 10, 0, 4, 0))


def main():
    head = f"{'layers':>6}{'ranks':>6}{'v':>3} {'place':6}{'chain':8}{'limit':>7}"
    print(f"{head}{'seconds':>9}{'even':>7}{'parameters':>12}")
    for layers, ranks, v, placement in SIZES:
        for kind in ("random", "gpt"):
            limit = None
            for share in (None, 0.9):
                profile = chain(kind, layers)
                began = time.perf_counter()
                found = pipelab.partition(
                    profile, ranks=ranks, stages_per_rank=v, placement=placement, memory_limit=limit
                )
                seconds = time.perf_counter() - began
                even = found.even.slowest / found.slowest
                parameters = found.parameters.slowest / found.slowest
                print(
                    f"{layers:6}{ranks:6}{v:3} {placement or '':6}{kind:8}{share or '':>7}"
                    f"{seconds:9.2f}{even:7.2f}{parameters:12.2f}",
                    flush=True,
                )
                limit = 0.9 * max(rank["total"] for rank in found.bytes)


if __name__ == "__main__":
    main()
