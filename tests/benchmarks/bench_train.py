"""A real step of ours against torch.distributed.pipelining on gloo: same model, same cut, same run.

    .venv/bin/python tests/benchmarks/bench_train.py [gpt] [mlp] [tiny] [m=4,8,16] [p=2,4] [gpipe]
    [1f1b] [interleaved-1f1b] …

Bars, as the geometric mean of torch/ours per model: GPT 1.1, MLP 1.5, tiny 2.5; no cell under 0.97.

Both keep their processes while the other one's turn is on, and take turns of some steps, so that
what else the machine does hits both. A step is the time from the last end of one step to the last
end of the next, over all ranks: whatever lies between two steps counts. Our tracing is on. Each
cell also compares the gradients of both, to show that they do the same work, and says what a
compute action takes of the processors, the model's own work included: all CPU time of all ranks
over the number of actions, in ms. For the tiny model that is overhead.
"""

import os
from itertools import pairwise

os.environ["OMP_NUM_THREADS"] = "1"

import itertools
import math
import multiprocessing
import statistics
import sys
import tempfile
import time

import psutil
import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.engine.workers.pool import worker_source
from pipelab.model import split, workload

ROUNDS, STEPS, WARM_UP = 5, 12, 2
MODELS = {
    "gpt": dict(name="gpt", layers=10, width=128, batch=32),
    "mlp": dict(name="mlp", layers=16, width=256, batch=512),
    "tiny": dict(name="mlp", layers=8, width=8, batch=64),
}
BARS = {"gpt": 1.1, "mlp": 1.5, "tiny": 2.5}
TORCH = {
    "gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B", "interleaved-1f1b": "ScheduleInterleaved1F1B",
    "interleaved-zb": "ScheduleInterleavedZeroBubble", "zb-v": "ScheduleZBVZeroBubble",
}  # fmt: skip


def torch_rank(rank, ranks, store, model, name, microbatches, pipe):
    """One rank of torch's pipeline; answers "steps" with the ends of its steps, "gradients" with
    its gradients.
    """
    import torch.distributed as dist
    from torch.distributed import pipelining

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    job = workload(**MODELS[model])
    inputs, targets = job.batches(0)
    order = pipelab.build(name, ranks=ranks, microbatches=microbatches)
    mine = [stage for (_, stage), home in order.placement.items() if home == rank]
    parts = split(job.model, order.stages)
    stages = [
        pipelining.PipelineStage(parts[i], i, order.stages, torch.device("cpu")) for i in mine
    ]
    several = order.stages > ranks
    schedule = getattr(pipelining, TORCH[name])(
        stages if several else stages[0], microbatches, loss_fn=job.loss_fn
    )
    arguments = (inputs,) if 0 in mine else ()
    target = {"target": targets, "losses": []} if order.stages - 1 in mine else {}
    parameters = {name: parameter for i in mine for name, parameter in parts[i].named_parameters()}
    while (order := pipe.recv()) != "end":
        if order == "gradients":
            pipe.send({name: parameter.grad for name, parameter in parameters.items()})
            continue
        used = time.process_time()
        ends = []
        for _ in range(STEPS):
            for parameter in parameters.values():
                parameter.grad = None
            schedule.step(*arguments, **target)
            ends.append(time.perf_counter())
        pipe.send((ends, time.process_time() - used))
    dist.destroy_process_group()


class Torch:
    """torch's pipeline: a process per rank, kept from turn to turn."""

    def __init__(self, model, name, ranks, microbatches):
        context = multiprocessing.get_context("spawn")
        store = os.path.join(tempfile.mkdtemp(), "store")
        self.pipes, self.processes, self.used = [], [], []
        for rank in range(ranks):
            here, there = context.Pipe()
            process = context.Process(
                target=torch_rank,
                args=(rank, ranks, store, model, name, microbatches, there),
                daemon=True,
            )
            process.start()
            self.pipes.append(here)
            self.processes.append(process)

    def ask(self, order):
        for pipe in self.pipes:
            pipe.send(order)
        return [pipe.recv() for pipe in self.pipes]

    def turn(self):
        answers = self.ask("steps")
        self.used.append(sum(used for _, used in answers) / STEPS)
        return [max(ends) for ends in zip(*(ends for ends, _ in answers), strict=True)]

    def cpu_time(self):
        """Seconds of a step on all processors together."""
        return statistics.median(self.used)

    def gradients(self):
        return {name: gradient for part in self.ask("gradients") for name, gradient in part.items()}

    def end(self):
        for pipe in self.pipes:
            pipe.send("end")
        for process in self.processes:
            process.join()


class Ours:
    """pipelab.run, with a pool that stays warm from turn to turn."""

    def __init__(self, model, name, ranks, microbatches):
        self.job = workload(**MODELS[model])
        self.arguments = dict(schedule=name, ranks=ranks, microbatches=microbatches, steps=STEPS)
        self.run = None

    def turn(self):
        ends = [0.0] * STEPS

        def ended(event):
            ends[event.step] = max(ends[event.step], event.ended)

        self.run = pipelab.run(
            self.job.model, *self.job.batches(0), self.job.loss_fn, **self.arguments, on_event=ended
        )
        return ends

    def cpu_time(self):
        """Seconds of a step on all processors together: what a run takes more that has more
        steps.
        """
        return (self._workers(4 * STEPS) - self._workers(STEPS)) / (3 * STEPS)

    def _workers(self, steps):
        """Seconds on all processors that the workers of a run have used."""
        before = workers_time()
        pipelab.run(
            self.job.model,
            *self.job.batches(0),
            self.job.loss_fn,
            **self.arguments | {"steps": steps},
        )
        return workers_time() - before

    def gradients(self):
        return self.run.gradients


def workers_time():
    """Seconds on all processors that all workers of the pool have used that have ended."""
    times = psutil.Process(worker_source().pid).cpu_times()
    return times.children_user + times.children_system


def step_times(ends):
    """Seconds from step to step, without the first ones of a turn."""
    return [after - before for before, after in pairwise(ends[WARM_UP:])]


def cell(model, name, ranks, microbatches):
    """Of torch and of ours: the median step, and CPU time per action, in ms; and how far their
    gradients are apart.
    """
    theirs, ours = (engine(model, name, ranks, microbatches) for engine in (Torch, Ours))
    times = {theirs: [], ours: []}
    for _ in range(ROUNDS):
        for engine, collected in times.items():
            collected += step_times(engine.turn())
    expected, found = theirs.gradients(), ours.gradients()
    error = max(((found[n] - g).norm() / max(g.norm(), 1e-3)).item() for n, g in expected.items())
    actions = len(ours.run.schedule.kind)
    used = [1000 * engine.cpu_time() / actions for engine in times]
    theirs.end()
    return [1000 * statistics.median(collected) for collected in times.values()], used, error


def main(words):
    torch.set_num_threads(1)
    numbers = {w[0]: [int(n) for n in w[2:].split(",")] for w in words if w[1:2] == "="}
    models, names = (
        [w for w in words if w in MODELS] or MODELS,
        [w for w in words if w in TORCH] or TORCH,
    )
    print(
        f"median ms of {ROUNDS} turns of {STEPS} steps each, taken in turns; {os.cpu_count()} cores"
    )
    print(
        f"{'model':6}{'schedule':18}{'ranks':>5}{'m':>4}{'torch':>10}{'ours':>10}"
        f"{'ratio':>8}{'CPU':>9}{'CPU':>7}   "
        "gradients"
    )
    for model in models:
        ratios = []
        for name, ranks, m in itertools.product(
            names, numbers.get("p", [2, 4]), numbers.get("m", [8])
        ):
            (theirs, ours), (their_cpu, our_cpu), error = cell(model, name, ranks, m)
            ratios.append(theirs / ours)
            print(
                f"{model:6}{name:18}{ranks:5}{m:4}{theirs:10.2f}{ours:10.2f}{ratios[-1]:8.2f}"
                f"{their_cpu:9.3f}{our_cpu:7.3f}   {error:.0e}", flush=True,
            )  # fmt: skip
        mean = math.exp(statistics.mean(map(math.log, ratios)))
        print(
            f"{model:6}geometric mean {mean:.2f} (bar {BARS[model]}), least {min(ratios):.2f} "
            "(bar 0.97)",
            flush=True,
        )
    shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
