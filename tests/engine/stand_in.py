"""Whole runs of the code for GPUs in threads of this process, with the stand-in for torch.cuda."""

import os
import threading
from dataclasses import replace
from functools import partial

import torch
import torch.fx.experimental.symbolic_shapes  # by the first backward, else by two threads at once
from torch.nn import functional

from pipelab.engine.job.recipe import Recipe
from pipelab.engine.job.where import Where
from pipelab.engine.record.board import Board
from pipelab.engine.setup.rank_jobs import board_sizes, part_of_worker, rank_job
from pipelab.engine.setup.setup import set_up
from pipelab.engine.transport import gpu, ipc
from pipelab.engine.transport.shared_memory import SharedMemoryTransport
from pipelab.engine.transport.threads import Hub, ThreadTransport
from pipelab.engine.travel.ship import copied, unpack
from pipelab.engine.workers.seat import run_rank

from .fake_cuda import Cuda


class HostTransport(ThreadTransport):
    """What StagedTransport gives it leaves the GPU, for which the host waits: to copy a tensor on
    the stand-in does not."""

    def send(self, *what):
        Cuda.current_stream(None).synchronize()
        super().send(*what)


class StandInSeat:
    """The seat of a rank that is a thread of this process, with the processor for its GPU.

    way: "copies" as between threads, "staged" through the host, or "ipc" as between processes.
    """

    def __init__(self, setup, hub, board, all_ranks, way):
        self.bases, self._setup, self._hub, self._board = hub.bases, setup, hub, board
        self._all, self._way = all_ranks, way

    def open_board(self, sizes):
        return self._board

    def device(self, rank):
        self._rank = rank
        return torch.device("cpu")

    def transport(self, job, board, device, clock):
        if self._way == "ipc":
            over = SharedMemoryTransport(board, job.worker, *self._all.pipes(job.worker))
            meet = partial(self.ask, "meet")
            return ipc.between_processes(over, job.worker, job.pipeline, device, meet)
        if self._way == "staged":
            return gpu.StagedTransport(HostTransport(self._hub, job.worker), device)
        return gpu.GpuTransport(self._hub, job.worker, device, clock)

    def ask(self, what, value=None):
        if what in ("ready", "meet"):
            return self._all.meet(self._rank, value)
        return part_of_worker(self._setup.data.batch(value), self._setup, self._rank)


class AllRanks:
    """What the driver does for them, and their pipes."""

    def __init__(self, ranks):
        self._barrier, self._brought = threading.Barrier(ranks), [None] * ranks
        self._pipes = [os.pipe() for _ in range(ranks)]

    def meet(self, rank, value):
        self._brought[rank] = value
        self._barrier.wait(20)
        everything = list(self._brought)
        self._barrier.wait(20)
        return everything

    def pipes(self, rank):
        return [write for _, write in self._pipes], self._pipes[rank][0]

    def close(self):
        for descriptor in sum(self._pipes, ()):
            os.close(descriptor)


def run_on_stand_in(model, data, schedule, steps, *, way="copies", **recipe):
    """The schedule, what every rank brought home, its board: of threads with a stand-in for their
    GPU.
    """
    recipe = Recipe(steps=steps, seed=1, timeout=20, **recipe)
    sizes = {"schedule": schedule, "ranks": 2, "microbatches": 4}
    where = Where("cuda", "threads", "pipelab")
    setup = set_up(model, *data, functional.cross_entropy, where=where, recipe=recipe, **sizes)
    ranks = setup.schedule.ranks
    board, hub = Board(None, **board_sizes(setup)), Hub(ranks)
    results, errors, all_ranks = [None] * ranks, [], AllRanks(ranks)

    def work(number):
        try:
            torch.set_num_threads(1)
            job = rank_job(setup, number)
            job = replace(job, stages=copied(job.stages))  # ranks change what they are given
            seat = StandInSeat(setup, hub, board, all_ranks, way)
            results[number] = run_rank(seat, job)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    all_ranks.close()
    assert not errors and not any(thread.is_alive() for thread in threads), errors
    return setup.schedule, results, board


def gradients_of(results):
    return {name: g for result in results for name, g in unpack(result.gradients).items()}
