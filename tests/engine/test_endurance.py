"""Many runs, many at once, and what they leave behind."""

import gc
import os
import threading
import time

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import errors
from pipelab.catalogue import entry, names
from pipelab.engine.workers.pool import worker_source

from .conftest import batch, mlp
from .test_faults import assert_nothing_left


def once(**options):
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 2} | options
    return pipelab.run(mlp(4), *batch(), functional.cross_entropy, **options)


def shared_memory():
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


@pytest.mark.timing
def test_a_hundred_runs_in_a_row():
    """No process, descriptor, thread or segment is left, and neither side's memory grows with the
    runs.
    """
    expected = once().losses
    gc.collect()
    server, me = psutil.Process(worker_source().pid), psutil.Process()
    files, segments, threads = me.num_fds(), shared_memory(), threading.active_count()
    server_files, before = server.num_fds(), (server.memory_info().rss, me.memory_info().rss)
    for number in range(100):
        assert once(workers=("processes", "threads")[number % 2]).losses == expected
    assert_nothing_left()
    gc.collect()
    assert (me.num_fds(), server.num_fds()) == (files, server_files)
    assert shared_memory() == segments and threading.active_count() <= threads
    grown = [
        after - old
        for after, old in zip((server.memory_info().rss, me.memory_info().rss), before, strict=True)
    ]
    assert max(grown) < 32 << 20, grown


def test_ten_reconfigurations_in_a_row():
    server = worker_source().pid
    for ranks, schedule in zip(
        (1, 2, 3, 4, 1, 4, 3, 2, 4, 1),
        ("gpipe", "1f1b", "zb-h1", "naive", "eager-1f1b") * 2,
        strict=True,
    ):
        assert once(ranks=ranks, schedule=schedule, microbatches=4).gradient_error <= 1e-5
    assert_nothing_left()
    assert worker_source().pid == server


class Greedy(nn.Module):
    """Asks for more memory than there is."""

    def forward(self, x):
        return x + torch.empty(1 << 50).sum()


@pytest.mark.parametrize("workers", ["processes", "threads"])
def test_out_of_memory_on_one_rank(workers):
    model = mlp(4)
    model[2] = Greedy()
    with pytest.raises(errors.WorkerError) as caught:
        pipelab.run(
            model,
            *batch(),
            functional.cross_entropy,
            schedule="1f1b",
            ranks=4,
            microbatches=4,
            workers=workers,
        )
    assert "Rank 2 raised RuntimeError" in str(caught.value) and "allocate" in str(caught.value)
    assert_nothing_left()
    assert once().gradient_error <= 1e-5


@pytest.mark.parametrize("name", names())
def test_paced_runs_keep_the_order_of_the_schedule(name):
    """Per rank the order is the schedule's, and no action starts before its input by more than half
    an action.
    """
    if name == "auto":
        pytest.skip("builds one of the others")
    order = entry(name).build(2, 4)
    asynchronous = (
        {"optimizer": lambda ps: torch.optim.SGD(ps, lr=0.01)}
        if name.startswith("pipedream")
        else {}
    )
    run = pipelab.run(
        mlp(order.stages),
        *batch(),
        functional.cross_entropy,
        schedule=order,
        pace=(0.008, 0.008, 0.008),
        **asynchronous,
    )
    order, measured, planned = run.schedule, run.timeline, run.predicted
    for low, high in zip(order.offsets[:-1], order.offsets[1:], strict=True):
        assert (np.diff(measured.started[low:high]) >= 0).all()
    producer = order.producer
    used = np.flatnonzero(producer >= 0)
    assert (measured.started[used] >= measured.ended[producer[used]] - 0.004).all()
    assert measured.makespan >= 0.98 * planned.makespan


def test_two_labs_at_once():
    from pipelab.widgets import lab

    labs = [lab(schedule, ranks=2, microbatches=4) for schedule in ("gpipe", "1f1b")]
    for each in labs:
        each.run()
    for each in labs:
        assert each.wait(90)
        assert each.progress["state"] == "done", each.progress["message"]
        assert each.progress["gradient_error"] <= 1e-5
        each.close()
    assert_nothing_left()


def test_a_lab_that_is_closed_takes_its_run_with_it():
    from pipelab.widgets import lab

    widget = lab("1f1b", ranks=2, microbatches=4)
    widget.run()
    deadline = time.monotonic() + 60
    while widget.progress["state"] == "starting" and time.monotonic() < deadline:
        time.sleep(0.02)
    widget.close()
    assert_nothing_left()
