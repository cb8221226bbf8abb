"""Ranks as threads of one process: the same results as processes, and the same answers to
trouble.
"""

import os
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import errors
from pipelab.catalogue import names
from pipelab.engine.workers.pool import worker_source

from .conftest import mlp
from .test_faults import assert_nothing_left, fail, train


def run(model, data, **options):
    options = {"schedule": "1f1b", "ranks": 3, "microbatches": 5, "workers": "threads"} | options
    return pipelab.run(model, *data, functional.cross_entropy, **options)


@pytest.mark.parametrize("schedule", names())
def test_threads_compute_what_processes_compute_to_the_bit(model, data, schedule):
    options = {"schedule": schedule, "ranks": 2, "microbatches": 4, "steps": 2}
    options["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    threads, processes = (
        run(model, data, **options, workers=workers) for workers in ("threads", "processes")
    )
    assert (threads.workers, threads.transport) == ("threads", "references in one process")
    assert (processes.workers, processes.transport) == ("processes", "shared memory")
    assert threads.losses == processes.losses
    for name, gradient in processes.gradients.items():
        assert torch.equal(threads.gradients[name], gradient), name
    for name, value in processes.state_dict.items():
        assert torch.equal(threads.state_dict[name], value), name
    assert threads.metrics["peak_in_flight"] == processes.metrics["peak_in_flight"]
    assert threads.peak_activation_bytes == processes.peak_activation_bytes


def test_dropout_does_not_depend_on_what_the_ranks_are(data):
    """The random generator is one per process, so the threads that draw from it take turns."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.3)) if i % 2 else nn.Linear(16, 16)
        for i in range(8)
    ]
    threads, processes = (
        run(layers, data, ranks=4, microbatches=8, seed=5, workers=workers)
        for workers in ("threads", "processes")
    )
    assert threads.losses == processes.losses
    for name, gradient in processes.gradients.items():
        assert torch.equal(threads.gradients[name], gradient), name


def test_threads_are_ranks_of_one_worker(model, data):
    seen = []
    run(model, data, on_event=lambda event: seen.append(event.rank))
    assert set(seen) == {0, 1, 2}
    assert_nothing_left()


def test_threads_can_be_paced(model, data):
    paced = run(model, data, ranks=2, microbatches=4, pace=(0.02, 0.04))
    assert paced.predicted.makespan == pytest.approx(0.3)
    assert 0.29 < paced.timeline.makespan


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_thread_that_raises_is_named(where):
    with pytest.raises(errors.WorkerError) as caught:
        train(fail, where, workers="threads")
    assert "Rank 2 raised ArithmeticError: planted fault\n" in str(caught.value)
    assert "in fail" in str(caught.value)
    assert_nothing_left()


@pytest.mark.timing
def test_a_process_of_threads_that_dies_takes_all_ranks_with_it():
    begin = time.monotonic()
    with pytest.raises(errors.WorkerDied, match="its process ended with exit code 3"):
        train(lambda: os._exit(3), workers="threads")
    assert time.monotonic() - begin < 10
    assert_nothing_left()


def test_a_thread_that_stalls_is_reported_and_ended():
    with pytest.raises(errors.WorkerStalled, match="Rank 2 has computed 2F0"):
        train(lambda: time.sleep(60), workers="threads", timeout=1)
    assert_nothing_left()


def test_spawned_threads(model, data, monkeypatch):
    """The way of systems on which forking is not safe."""
    expected = run(model, data)
    monkeypatch.setenv("PIPELAB_START", "spawn")
    assert worker_source().pid is None
    found = run(mlp(), data)
    assert found.losses == expected.losses
