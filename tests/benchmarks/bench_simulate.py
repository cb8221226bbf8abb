"""How long the simulator takes for 16 ranks and 128 micro-batches (bar: 10 ms), and how that grows
with the actions.

    .venv/bin/python tests/benchmarks/bench_simulate.py

Bars of the table of sizes: 64 × 1,024 with three kinds within a second; 1,024 × 4,096 built,
checked and simulated in 10 s and 3 GB; the cost of an action stays flat. There is no peer in a
registry to measure beside. A Schedule remembers that it was checked and a Timeline its numbers, so
each is made anew.
"""

import multiprocessing
import resource
import statistics
import time
from itertools import pairwise

from pipelab import Costs, build, check, simulate

RANKS, MICROBATCHES, REPEATS = 16, 128, 50


def median_ms(function, *arguments, **named):
    durations = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        function(*arguments, **named)
        durations.append(1000 * (time.perf_counter() - started))
    return statistics.median(durations[2:])  # the first two fill caches


def build_and_check(name, counts):
    check(build(name, **counts))


def metrics(schedule, costs):
    return simulate(schedule, costs).metrics


def idle(schedule, costs):
    return simulate(schedule, costs).idle


def main():
    costs = Costs(latency=0.1)
    print(f"{RANKS} ranks × {MICROBATCHES} micro-batches, median of {REPEATS}, ms")
    print(f"{'schedule':10}{'build':>8}{'check':>8}{'simulate':>10}{'metrics':>9}{'idle':>8}")
    for name in ("naive", "gpipe", "1f1b"):
        counts = {"ranks": RANKS, "microbatches": MICROBATCHES}
        schedule = build(name, **counts)
        cells = [
            median_ms(build, name, **counts),
            median_ms(build_and_check, name, counts),
            median_ms(simulate, schedule, costs),
            median_ms(metrics, schedule, costs),
            median_ms(idle, schedule, costs),
        ]
        print(
            f"{name:10}{cells[0]:8.2f}{cells[1]:8.2f}{cells[2]:10.2f}{cells[3]:9.2f}{cells[4]:8.2f}"
        )
    print("check includes the building, metrics and idle the simulation they are asked of")
    print(
        f"\n{'schedule':10}{'ranks':>6}{'m':>6}{'actions':>12}{'build':>8}{'check':>8}{'simulate':>10}{'µs/action':>11}{'GB':>6}"
    )
    for size in (
        ("1f1b", 4, 16),
        ("1f1b", 16, 128),
        ("zb-h1", 16, 128),
        ("1f1b", 64, 1024),
        ("zb-h1", 64, 1024),
        ("1f1b", 1024, 4096),
    ):
        process = multiprocessing.Process(target=grow, args=size)  # of its own, for its memory
        process.start()
        process.join()


def grow(name, ranks, microbatches):
    """Seconds of each part, of the whole per action, and the most memory."""
    marks = [time.perf_counter()]
    schedule = build(name, ranks=ranks, microbatches=microbatches)
    marks.append(time.perf_counter())
    assert check(schedule) is None
    marks.append(time.perf_counter())
    assert simulate(schedule, Costs(latency=0.1)).makespan > 0
    marks.append(time.perf_counter())
    built, checked, simulated = (after - before for before, after in pairwise(marks))
    actions, memory = len(schedule.kind), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    each = 1e6 * (marks[-1] - marks[0]) / actions
    print(
        f"{name:10}{ranks:6}{microbatches:6}{actions:12,}{built:8.2f}{checked:8.2f}{simulated:10.2f}{each:11.2f}{memory:6.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
