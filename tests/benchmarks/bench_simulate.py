"""How long the simulator takes for 16 ranks and 128 micro-batches. The bar: 10 ms.

    .venv/bin/python tests/benchmarks/bench_simulate.py

A Schedule remembers that it was checked and a Timeline its numbers, so each is made anew.
"""

import statistics
import time

from pipelab import Costs, build, check, simulate

RANKS, MICROBATCHES, REPEATS = 16, 128, 50


def median_ms(function, *arguments, **named):
    durations = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        function(*arguments, **named)
        durations.append(1000 * (time.perf_counter() - started))
    return statistics.median(durations[2:])  # the first two fill caches


def main():
    print(f"{RANKS} ranks × {MICROBATCHES} micro-batches, median of {REPEATS}, ms")
    print(f"{'schedule':10}{'build':>8}{'check':>8}{'simulate':>10}{'metrics':>9}{'idle':>8}")
    for name in ("naive", "gpipe", "1f1b"):
        counts = {"ranks": RANKS, "microbatches": MICROBATCHES}
        schedule = build(name, **counts)
        cells = [
            median_ms(build, name, **counts),
            median_ms(lambda: check(build(name, **counts))),
            median_ms(lambda: simulate(schedule, Costs(latency=0.1))),
            median_ms(lambda: simulate(schedule, Costs(latency=0.1)).metrics),
            median_ms(lambda: simulate(schedule, Costs(latency=0.1)).idle),
        ]
        print(f"{name:10}{cells[0]:8.2f}{cells[1]:8.2f}{cells[2]:10.2f}{cells[3]:9.2f}{cells[4]:8.2f}")
    print("check includes the building, metrics and idle the simulation they are asked of")


if __name__ == "__main__":
    main()
