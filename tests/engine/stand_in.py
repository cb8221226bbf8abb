"""Whole runs of the code for GPUs in threads of this process, with the stand-in for torch.cuda."""

import threading
from dataclasses import replace

import torch
import torch.fx.experimental.symbolic_shapes  # by the first backward, else by two threads at once
from torch.nn import functional

from pipelab.engine.hosts.seat import run_rank
from pipelab.engine.job.rank_job import board_sizes, part_of_worker, rank_job
from pipelab.engine.job.recipe import Recipe
from pipelab.engine.job.setup import set_up
from pipelab.engine.job.where import Where
from pipelab.engine.record.board import Board
from pipelab.engine.transport import gpu
from pipelab.engine.transport.threads import Hub, ThreadTransport
from pipelab.engine.travel.ship import copied, unpack

from .fake_cuda import Cuda


class HostTransport(ThreadTransport):
    """What StagedTransport gives it leaves the GPU, for which the host waits: to copy a tensor on
    the stand-in does not."""

    def send(self, *what):
        Cuda.current_stream(None).synchronize()
        super().send(*what)


class StandInSeat:
    """The seat of a rank that is a thread of this process, with the processor for its GPU."""

    def __init__(self, setup, hub, board, ready, *, staged):
        self.bases, self._setup, self._hub, self._board = hub.bases, setup, hub, board
        self._ready, self._staged = ready, staged

    def open_board(self, sizes):
        return self._board

    def device(self, rank):
        self._rank = rank
        return torch.device("cpu")

    def transport(self, board, rank, device, clock):
        if self._staged:
            return gpu.StagedTransport(HostTransport(self._hub, rank), device)
        return gpu.GpuTransport(self._hub, rank, device, clock)

    def ask(self, what, value=None):
        if what == "ready":
            return self._ready.wait(20)
        return part_of_worker(self._setup.data.batch(value), self._setup, self._rank)


def run_on_stand_in(model, data, schedule, steps, *, staged=False, **recipe):
    """The schedule, what every rank brought home, its board: of threads with a stand-in for their
    GPU.
    """
    recipe = Recipe(steps=steps, seed=1, timeout=20, **recipe)
    sizes = {"schedule": schedule, "ranks": 2, "microbatches": 4}
    where = Where("cuda", "threads", "pipelab")
    setup = set_up(model, *data, functional.cross_entropy, where=where, recipe=recipe, **sizes)
    ranks = setup.schedule.ranks
    board, hub = Board(None, **board_sizes(setup)), Hub(ranks)
    results, errors, ready = [None] * ranks, [], threading.Barrier(ranks)

    def work(number):
        try:
            torch.set_num_threads(1)
            job = rank_job(setup, number)
            job = replace(job, stages=copied(job.stages))  # ranks change what they are given
            seat = StandInSeat(setup, hub, board, ready, staged=staged)
            results[number] = run_rank(seat, job)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors and not any(thread.is_alive() for thread in threads), errors
    return setup.schedule, results, board


def gradients_of(results):
    return {name: g for result in results for name, g in unpack(result.gradients).items()}
