"""Ranks on GPUs. On a machine with one: the real thing. Everywhere: the same code with a stand-in
for torch.cuda.

All of them on a machine with a GPU, and a table of what they measure:  python
tests/benchmarks/bench_gpu.py
"""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.catalogue import names
from pipelab.engine import shutdown
from pipelab.engine.hosts.driver import Driver
from pipelab.engine.job.rank_job import board_sizes, rank_job
from pipelab.engine.job.recipe import Recipe
from pipelab.engine.job.setup import set_up
from pipelab.engine.job.where import Where
from pipelab.engine.rank.rank import Rank
from pipelab.engine.record.board import TRACE, Board
from pipelab.engine.record.clock import EventClock, HostClock
from pipelab.engine.transport import gpu
from pipelab.engine.transport.threads import Hub, ThreadTransport
from pipelab.engine.travel.ship import copied, unpack

from .conftest import batch, mlp


def needs_gpu(test):
    missing = pytest.mark.skipif(
        not torch.cuda.is_available(), reason="torch sees no GPU on this machine"
    )
    return pytest.mark.gpu(pytest.mark.usefixtures("pool_that_sees_gpus")(missing(test)))


class Stream:
    """Works behind the host: whatever is queued takes a moment, after what was queued before it."""

    def __init__(self):
        self.done_at = 0.0

    def queue(self):
        self.done_at = max(self.done_at, time.perf_counter()) + 3e-4
        return self.done_at

    def wait_event(self, event):
        assert event.time is not None, "waits for an event that nobody has recorded"
        self.done_at = max(self.done_at, event.time)

    def synchronize(self):
        time.sleep(max(0.0, self.done_at - time.perf_counter()))


class Event:
    """Comes to pass when the stream of its thread gets there."""

    def __init__(self, enable_timing=False):
        self.time = None

    def record(self):
        self.time = Cuda.current_stream(None).queue()

    def query(self):
        return time.perf_counter() >= self.time

    def synchronize(self):
        time.sleep(max(0.0, self.time - time.perf_counter()))

    def elapsed_time(self, other):
        assert self.query() and other.query(), "device not ready"  # as CUDA says it
        return 1e3 * (other.time - self.time)


class Cuda:
    """What gpu.py and clock.py use of torch.cuda. A thread's current stream is its own."""

    Event = Event
    of_thread = threading.local()

    @classmethod
    def current_stream(cls, device):
        if not hasattr(cls.of_thread, "stream"):
            cls.of_thread.stream = Stream()
        return cls.of_thread.stream


class HostTransport(ThreadTransport):
    """What StagedTransport gives it has left the GPU, for which the host has waited: ``cpu()`` of a
    tensor on the stand-in does not."""

    def send(self, *what):
        Cuda.current_stream(None).synchronize()
        super().send(*what)


def run_on_stand_in(model, data, schedule, steps, *, staged=False):
    """Every rank's gradients, and the trace of the last step, of threads with a stand-in for their
    GPU.
    """
    recipe = Recipe(steps=steps, seed=1, timeout=20)
    sizes = {"schedule": schedule, "ranks": 2, "microbatches": 4}
    where = Where("cpu", "threads", "pipelab")
    setup = set_up(model, *data, functional.cross_entropy, where=where, recipe=recipe, **sizes)
    ranks, device = setup.schedule.ranks, torch.device("cpu")
    board, hub = Board(None, **board_sizes(setup)), Hub(ranks)
    results, errors = [None] * ranks, []

    def work(number):
        try:
            torch.set_num_threads(1)
            job = rank_job(setup, number)
            job = replace(job, stages=copied(job.stages))  # ranks change what they are given
            clock = EventClock(board, number, device, Cuda)
            if staged:
                transport = gpu.StagedTransport(HostTransport(hub, number), device)
            else:
                transport = gpu.GpuTransport(hub, number, device, clock, Cuda)
            rank = Rank(job, board, transport, clock, device)
            for step in range(steps):
                rank.step(step, job.batch)
            results[number] = rank.result()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors and not any(thread.is_alive() for thread in threads), errors
    gradients = {name: g for result in results for name, g in unpack(result.gradients).items()}
    trace = board.trace.copy()
    done = board.status[:, 4].copy()
    board.close()
    return setup.schedule, gradients, trace, done


@pytest.mark.parametrize("staged", [False, True], ids=["device copies", "through the host"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "dualpipe", "interleaved-1f1b"])
def test_the_code_for_gpus_computes_what_processes_compute(
    model, data, schedule, staged, monkeypatch
):
    if staged:  # and every step counts from an event of its own
        monkeypatch.setattr("pipelab.engine.record.clock.BASE_LASTS", 0)
    order, gradients, trace, done = run_on_stand_in(model, data, schedule, 2, staged=staged)
    expected = pipelab.run(
        model, *data, functional.cross_entropy, schedule=order, steps=2, device="cpu"
    )
    assert gradients.keys() == expected.gradients.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.gradients.items():
        assert torch.equal(gradients[name], gradient), name
    assert (
        done.tolist() == (2 * np.diff(order.offsets)).tolist()
    )  # every row of every step is written
    c = {name: trace[1, :, i] for i, name in enumerate(TRACE)}
    assert (c["asked"] <= c["started"]).all() and (c["started"] <= c["ended"]).all()

    producer = order.producer
    used = np.flatnonzero(producer >= 0)
    assert (c["started"][used] >= c["ended"][producer[used]] - 1e-6).all()


def test_events_count_from_one_base_per_gpu(monkeypatch):
    monkeypatch.setattr(EventClock, "_bases", {})  # not that of the test before
    board = Board(None, ranks=2, steps=1, atoms=2, microbatches=1, messages=1)
    clocks = [EventClock(board, rank, torch.device("cpu"), Cuda) for rank in range(2)]
    before = time.perf_counter()
    for clock in clocks:
        clock.begin(0)
    first, second = (clock.stamp() for clock in clocks)
    Cuda.current_stream(None).synchronize()
    assert first.base is second.base
    assert before <= first.seconds() <= second.seconds() <= time.perf_counter()
    monkeypatch.setattr(
        "pipelab.engine.record.clock.BASE_LASTS", 0
    )  # CUDA's 32 bits would grow coarse
    clocks[1].begin(0)
    third = clocks[1].stamp()
    Cuda.current_stream(None).synchronize()
    assert (
        third.base is not first.base and second.seconds() <= third.seconds() <= time.perf_counter()
    )
    from_elsewhere = third.seconds() + 1
    clocks[0].write(
        0, first, clocks[0].later(first, from_elsewhere), second, third, 1.0, 5, 4, 3, 2
    )
    clocks[0].finish()
    row = dict(zip(TRACE, board.trace[0, 0], strict=True))
    assert row["sent"] == from_elsewhere
    assert row["worked"] == pytest.approx(third.seconds() - second.seconds())
    assert (row["bytes_held"], row["version"]) == (5, 2)
    assert HostClock(board, 0).settle is None
    board.close()


def some_gpus(monkeypatch, count):
    """As on a machine whose GPUs CUDA can use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ("cuda", "threads", "device copies behind events")),
        ({"workers": "threads"}, ("cuda", "threads", "device copies behind events")),
        (
            {"device": "cuda", "workers": "processes"},
            ("cuda", "processes", "shared memory, through the host's memory"),
        ),
        ({"workers": "processes"}, ("cpu", "processes", "shared memory")),
        ({"device": "cpu", "workers": "threads"}, ("cpu", "threads", "references in one process")),
        ({"executor": "torch"}, ("cpu", "processes", "torch.distributed, gloo")),
    ],
)
def test_where_a_run_goes_on_a_machine_with_a_gpu(model, data, monkeypatch, options, found):
    some_gpus(monkeypatch, 1)
    monkeypatch.setattr(Driver, "run", lambda self: None)
    run = pipelab.start(
        model, *data, functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=2, **options
    )
    assert (run.device, run.workers, run.transport) == found


def test_torchs_executor_is_not_given_a_gpu(model, data, monkeypatch):
    some_gpus(monkeypatch, 1)
    with pytest.raises(pipelab.PipelabError, match="runs on processors only"):
        pipelab.run(
            model,
            *data,
            functional.cross_entropy,
            schedule="1f1b",
            ranks=2,
            microbatches=2,
            device="cuda",
            executor="torch",
        )


def test_without_a_gpu_it_is_said(model, data):
    with pytest.raises(pipelab.PipelabError, match="torch sees no GPU here: leave device out"):
        pipelab.run(
            model,
            *data,
            functional.cross_entropy,
            schedule="1f1b",
            ranks=2,
            microbatches=2,
            device="cuda",
        )


# From here on, a GPU.


@pytest.fixture(scope="module")
def pool_that_sees_gpus():
    """The server of the workers may have been started by a test that hides them."""
    shutdown()


def train(model, data, **options):
    options = {"schedule": "1f1b", "ranks": 4, "microbatches": 8, "device": "cuda"} | options
    return pipelab.run(model, *data, functional.cross_entropy, **options)


@needs_gpu
@pytest.mark.parametrize("schedule", names())
def test_every_schedule_on_the_gpu(model, data, schedule):
    """Several ranks on one GPU; gradients of the unsplit model, which is computed on the
    processor.
    """
    if schedule == "auto":
        pytest.skip("builds one of the others")
    asynchronous = schedule.startswith("pipedream")
    options = {"optimizer": lambda ps: torch.optim.SGD(ps, lr=0.1)} if asynchronous else {}
    run = train(model, data, schedule=schedule, ranks=2, **options)
    assert (run.device, run.workers, run.transport) == (
        "cuda",
        "threads",
        "device copies behind events",
    )
    if not asynchronous:
        assert run.gradient_error <= 1e-4
    timeline = run.timeline
    assert np.allclose(
        timeline.compute_per_rank + timeline.transfer_per_rank + timeline.wait_per_rank,
        timeline.makespan,
    )


@needs_gpu
def test_a_backward_stays_on_its_ranks_thread(data):
    """Autograd would run it on a thread of the device, where ranks would wait for each other."""

    class Tell(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            if not threading.current_thread().name.startswith("rank"):
                raise RuntimeError(f"a backward on {threading.current_thread().name}")
            return gradient

    class Telling(nn.Module):
        def forward(self, x):
            return Tell.apply(x)

    layers = [nn.Linear(16, 16), Telling(), nn.Linear(16, 16), nn.Linear(16, 4)]
    assert train(layers, data, ranks=2).gradient_error <= 1e-4


@needs_gpu
def test_a_model_and_a_batch_that_are_on_the_gpu_already(model, data):
    run = train(
        model.cuda(),
        [part.cuda() for part in data],
        ranks=2,
        optimizer=lambda ps: torch.optim.SGD(ps, lr=0.1),
    )
    assert run.gradient_error <= 1e-4 and next(model.parameters()).is_cuda
    assert {value.device.type for value in run.state_dict.values()} == {"cpu"}
    on_the_processor = train(model, [part.cuda() for part in data], ranks=2, device="cpu")
    assert on_the_processor.gradient_error <= 1e-5


@needs_gpu
def test_dropout_on_the_gpu_is_that_of_its_micro_batch(data):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.3)) for _ in range(7)] + [
        nn.Linear(16, 4)
    ]
    first, again = (train(layers, data, ranks=ranks, seed=3) for ranks in (4, 2))
    assert first.losses == pytest.approx(again.losses, rel=1e-4)
    assert first.gradient_error <= 1e-4 and "random" in first.gradient_note


@needs_gpu
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "chimera"])
def test_a_process_per_rank_on_one_gpu(model, data, schedule):
    run = train(model, data, schedule=schedule, ranks=2, workers="processes", steps=2)
    assert run.transport == "shared memory, through the host's memory"
    assert run.gradient_error <= 1e-4
    assert all(size > 0 for size in run.peak_memory_bytes)


@needs_gpu
def test_a_checkpoint_from_the_gpu_goes_on_without_one(model, data, tmp_path):
    run = train(model, data, ranks=2, steps=2, optimizer=lambda ps: torch.optim.Adam(ps, lr=1e-2))
    run.save(tmp_path / "saved.pt")
    state = torch.load(tmp_path / "saved.pt", weights_only=True)["model"]
    assert {value.device.type for value in state.values()} == {"cpu"}
    options = {
        "device": "cpu",
        "resume": tmp_path / "saved.pt",
        "optimizer": lambda ps: torch.optim.Adam(ps, lr=1e-2),
    }
    assert train(model, data, ranks=4, **options).losses[0] < run.losses[0]


@needs_gpu
def test_the_allocator_counts_more_than_activations(model, data):
    run = train(model, data, ranks=2)
    weights = sum(p.nbytes for p in model.parameters())
    assert all(
        peak > weights / 2 + held
        for peak, held in zip(run.peak_memory_bytes, run.peak_activation_bytes, strict=True)
    )


@pytest.mark.timing
@needs_gpu
def test_paced_on_the_gpu(model, data):
    run = train(model, data, ranks=2, microbatches=4, pace=(0.02, 0.04))
    assert 0.299 < run.timeline.makespan < 0.4


@needs_gpu
def test_training_on_the_gpu():
    run = train(
        mlp(), batch(), steps=20, optimizer=lambda ps: torch.optim.Adam(ps, lr=1e-2), clip=1.0
    )
    assert run.losses[-1] < 0.8 * run.losses[0]
