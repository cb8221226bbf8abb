"""Layouts that `plan` ranks for this machine, trained for real: predicted against measured.

    .venv/bin/python tests/benchmarks/bench_here.py [MODEL] [WORKERS]

The machine is measured first (measure_machine), then the best row of every mesh and schedule is
trained, in two turns. ratio: measured / predicted. The rows stand in the order of the plan, so
that measured seconds that grow downwards confirm it. It needs as many quiet cores as workers.
"""

import statistics
import sys

import pipelab

BATCH, TURNS = 32, 2


def main(model="gpt", workers="2"):
    """Print a line per layout."""
    machine = pipelab.measure_machine(model, workers=int(workers))
    found = pipelab.plan(model, device=machine, gpus=int(workers), batch=BATCH)
    best = {}
    for row in found.rows:
        one = row.layout
        best.setdefault((one.pipeline, one.data, one.zero, one.schedule, one.recompute), row)
    times = {key: [] for key in best}
    for _ in range(TURNS):
        for key, row in best.items():
            times[key].append(pipelab.train_layout(model, row.layout).seconds)
    print("  p  d  v   b schedule           zero recompute predicted measured")
    ratios = []
    for key, row in best.items():
        one, seconds = row.layout, statistics.median(times[key])
        ratios.append(seconds / row.estimate.seconds)
        print(
            f"{one.pipeline:3}{one.data:3}{one.stages_per_rank:3}{one.microbatch:4} "
            f"{one.schedule:18}{one.zero:5} {one.recompute:9} {1e3 * row.estimate.seconds:6.1f} ms "
            f"{1e3 * seconds:6.1f} ms  ratio {ratios[-1]:.2f}"
        )
    print(f"the median ratio is {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
