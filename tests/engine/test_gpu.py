"""Ranks on GPUs. On a machine with one: the real thing. Everywhere: the same code with a stand-in
for torch.cuda.

All of them on a machine with a GPU, and what it measures:  python tests/benchmarks/gpu_proof.py
"""

import os
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.catalogue import names
from pipelab.engine import shutdown
from pipelab.engine.hosts.driver import Driver
from pipelab.engine.job.where import Where
from pipelab.engine.record.board import TRACE, Board
from pipelab.engine.record.clock import EventClock, HostClock
from pipelab.engine.transport import gpu
from pipelab.engine.transport.threads import Hub, ThreadTransport
from pipelab.schedule import Kind

from .conftest import batch, mlp
from .fake_cuda import Cuda, Tensor
from .stand_in import gradients_of, run_on_stand_in


def needs_gpu(test):
    missing = pytest.mark.skipif(
        not torch.cuda.is_available(), reason="torch sees no GPU on this machine"
    )
    return pytest.mark.gpu(pytest.mark.usefixtures("pool_that_sees_gpus")(missing(test)))


@pytest.mark.parametrize("way", ["copies", "staged"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "dualpipe", "interleaved-1f1b"])
def test_the_code_for_gpus_computes_what_processes_compute(model, data, schedule, way, monkeypatch):
    Cuda.install(monkeypatch)
    if way == "staged":  # and every step counts from an event of its own
        monkeypatch.setattr("pipelab.engine.record.clock.BASE_LASTS", 0)
    order, results, board = run_on_stand_in(model, data, schedule, 2, way=way)
    gradients = gradients_of(results)
    expected = pipelab.run(
        model, *data, functional.cross_entropy, schedule=order, steps=2, device="cpu"
    )
    assert gradients.keys() == expected.gradients.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.gradients.items():
        assert torch.equal(gradients[name], gradient), name
    # Every row of every step is written.
    assert board.status[:, 4].tolist() == (2 * np.diff(order.offsets)).tolist()
    c = {name: board.trace[1, :, i].copy() for i, name in enumerate(TRACE)}
    board.close()
    assert (c["asked"] <= c["started"]).all() and (c["started"] <= c["ended"]).all()

    producer = order.producer
    used = np.flatnonzero(producer >= 0)
    assert (c["started"][used] >= c["ended"][producer[used]] - 1e-6).all()


def test_a_rank_tells_what_the_allocator_held(model, data, monkeypatch):
    Cuda.install(monkeypatch)
    _, results, board = run_on_stand_in(model, data, "1f1b", 1)
    board.close()
    assert [(each.peak_memory, each.peak_reserved) for each in results] == [(1000, 2000)] * 2


@pytest.fixture
def board():
    board = Board(None, ranks=2, steps=2, atoms=32, microbatches=1, messages=1)
    yield board
    board.close()


def test_events_count_from_one_base_per_gpu(board, monkeypatch):
    bases: dict = {}
    clocks = [EventClock(board, rank, torch.device("cpu"), bases, Cuda) for rank in range(2)]
    before = time.perf_counter()
    for clock in clocks:
        clock.begin(0)
    first, second = (clock.stamp() for clock in clocks)
    Cuda.current_stream(None).synchronize()
    assert first.base is second.base
    assert before <= first.seconds() <= second.seconds() <= time.perf_counter()
    from_elsewhere = second.seconds() + 1
    third = clocks[0].stamp()
    Cuda.current_stream(None).synchronize()
    clocks[0].write(
        0, first, clocks[0].later(first, from_elsewhere), second, third, 1.0, 5, 4, 3, 2, 0, 0
    )
    clocks[0].finish()
    row = dict(zip(TRACE, board.trace[0, 0], strict=True))
    assert row["sent"] == from_elsewhere
    assert row["worked"] == pytest.approx(third.seconds() - second.seconds())
    assert (row["bytes_held"], row["version"]) == (5, 2)
    assert HostClock(board, 0).settle is None


def test_all_ranks_count_a_step_from_the_same_base(board, monkeypatch):
    """Where a base grew too old between two ranks' starts, their times were 20 µs apart."""
    bases: dict = {}
    clocks = [EventClock(board, rank, torch.device("cpu"), bases, Cuda) for rank in range(2)]
    used = []
    for step in range(12):
        for clock in clocks:
            monkeypatch.setattr("pipelab.engine.record.clock.BASE_LASTS", 0)  # now it is too old
            clock.begin(step)
            used.append(clock.stamp().base)
    assert used[0::2] == used[1::2] and len(set(used)) == 12
    assert len(bases) == 8, "steps that are over are forgotten"


def queue_actions(clock, count, seconds):
    """What the interpreter does with a clock, where each action takes the GPU some time."""
    clock.begin(0)
    ended = clock.stamp()
    for atom in range(count):
        started = clock.stamp()
        Cuda.current_stream(None).queue(seconds)
        asked, ended = ended, clock.stamp()
        clock.write(atom, asked, started, started, ended, 1.0, 0, 0, 0, 0, 0, 0)


def test_a_host_is_only_a_few_actions_ahead_of_its_gpu(board):
    """It ran a whole step ahead: memory that another rank had read could not be used again."""
    clock = EventClock(board, 0, torch.device("cpu"), {}, Cuda)
    queue_actions(clock, 20, 0.01)
    assert clock.done >= 20 - 8
    clock.finish()
    assert clock.done == 20


@pytest.mark.timing
def test_who_watches_sees_each_action_of_a_gpu_end(board):
    """A step of 30 s on the GPU was ended as stalled, and all of its events came at its end."""
    clock = EventClock(board, 1, torch.device("cpu"), {}, Cuda)
    seen, ended = [], threading.Event()

    def watch():
        while not ended.wait(0.005):
            seen.append((time.perf_counter(), *board.status[1].tolist()))

    watching = threading.Thread(target=watch)
    watching.start()
    board.status[1, 3] = time.perf_counter()
    queue_actions(clock, 12, 0.05)
    clock.finish()
    ended.set()
    watching.join()
    assert {atom for _, _, atom, *_ in seen} >= set(range(1, 12)), "the action that it waits for"
    longest = max(now - since for now, _, _, _, since, _ in seen)
    assert longest < 0.3, "12 actions of 0.05 s were one wait"
    late = [now - board.trace[0, int(done) - 1, 4] for now, *_, done in seen if done]
    assert max(late) < 0.2


@pytest.mark.parametrize("schedule", ["1f1b", "dualpipe"])
def test_whoever_sees_a_row_sees_its_loss(model, data, schedule, monkeypatch):
    """The loss of a step was 0 where the driver looked between its last row and its losses."""
    Cuda.install(monkeypatch)
    seen = []

    class Watched(EventClock):
        def __init__(self, board, *rest):
            super().__init__(board, *rest)
            self.board, self.step = board, -1

        def begin(self, step):
            super().begin(step)
            self.step = step

        def _write_first(self):
            atom = self._waiting[0][0]
            super()._write_first()
            seen.append((self.step, atom, self.board.losses[self.step].copy()))

    monkeypatch.setattr(gpu, "EventClock", Watched)
    order, _, board = run_on_stand_in(model, data, schedule, 2)
    checked = 0
    for step, atom, losses in seen:
        action = order.atom(atom)
        if action.kind == Kind.F and action.stage == order.stages - 1:
            assert losses[action.microbatch] == board.losses[step, action.microbatch] > 0
            checked += 1
    board.close()
    assert checked == 2 * order.microbatches


@pytest.mark.timing
def test_how_long_a_gpu_waits_for_python(board):
    """It did where it was done as soon as the host had queued an action; the first step, in which
    kernels are loaded, does not count."""
    clock = EventClock(board, 0, torch.device("cpu"), {}, Cuda)
    for step in (0, 1):
        clock.begin(step)
        ended = clock.stamp()
        for atom in range(4):
            started, asked = clock.stamp(), ended
            slow = step == 1 and atom > 0  # the GPU has more to do than the host
            if slow:
                Cuda.current_stream(None).queue(0.04)
            else:
                time.sleep(0.02)
            ended = clock.stamp()
            if not slow:  # as a GPU, and not the stand-in, is there at once
                Cuda.current_stream(None).done_at = ended.event.time = ended.queued
            clock.write(atom, asked, started, started, ended, 1.0, 0, 0, 0, 0, 0, 0)
        clock.finish()
    assert clock.waited_for_host() == pytest.approx(0.02 / 0.14, rel=0.2)
    assert HostClock(board, 0).waited_for_host() is None


class NoClock:
    """Of a rank whose stamps do not matter."""

    @staticmethod
    def stamp():
        return 0.0


def test_copies_from_one_gpu_do_not_stand_in_each_others_way():
    """They shared the source's default stream, and each waited for its rank's computing: with four
    GPUs 1F1B took 18 % longer.
    """
    gpus = [torch.device("cuda", i) for i in range(3)]
    hub = Hub(3)
    ranks = [gpu.GpuTransport(hub, i, gpus[i], NoClock, Cuda) for i in range(3)]
    computing = [Cuda.Stream(each) for each in gpus]
    sent = [Tensor(gpus[0]) for _ in range(2)]
    with Cuda.stream(computing[0]):
        for to, tensor in enumerate(sent, start=1):
            ranks[0].send(to, to, 1, tensor, 0.0)
    computing[1].queue(5.0)
    begin = time.perf_counter()
    fetched = []
    for i in (1, 2):
        with Cuda.stream(computing[i]):
            fetched.append(ranks[i].receive(i, 1, begin + 1).tensor)
    assert [each.device for each in fetched] == gpus[1:]
    assert computing[2].done_at - begin < 1, "it waits for what rank 1 computes"
    assert not set(Cuda.default) & set(gpus), "a default stream was used"
    assert [each.users for each in fetched] == [[computing[1]], [computing[2]]]
    assert [[stream.device for stream in each.users] for each in sent] == [[gpus[0]], [gpus[0]]]


def test_a_tensor_of_the_same_gpu_is_not_copied():
    gpus, hub = torch.device("cuda", 0), Hub(2)
    sender, receiver = (gpu.GpuTransport(hub, i, gpus, NoClock, Cuda) for i in range(2))
    sent, stream = Tensor(gpus), Cuda.Stream(gpus)
    sender.send(1, 0, 1, sent, 0.0)
    with Cuda.stream(stream):
        assert receiver.receive(0, 1, time.perf_counter() + 1).tensor is sent
    assert sent.users == [stream]


class Cudart:
    """What CUDA was asked to register. code: what it answers."""

    def __init__(self, code=0):
        self.code, self.blocks = code, []

    def cudaHostRegister(self, address, size, flags):
        self.blocks.append((address, size))
        return self.code


@pytest.mark.parametrize("code", [0, 2])
def test_blocks_of_shared_memory_are_registered_with_cuda(monkeypatch, code):
    """Copies took a detour through memory of the driver's own, ten times as long."""
    cudart = Cudart(code)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    board = Board(None, ranks=2, steps=1, atoms=1, microbatches=1, messages=4)
    pipes = [os.pipe() for _ in range(2)]
    wake, device = [write for _, write in pipes], torch.device("cpu")
    sender, receiver = (
        gpu.RegisteredTransport(board, rank, wake, pipes[rank][0], device) for rank in range(2)
    )
    for sequence in (1, 2, 3):
        for message, size in enumerate((5, 2000)):
            sent = torch.full((size,), float(sequence))
            sender.send(1, message, sequence, sent, 0.0)
            arrival = receiver.receive(message, sequence, time.perf_counter() + 1)
            assert torch.equal(arrival.tensor, sent)
            receiver.consumed(message, sequence)
    if code:
        assert len(cudart.blocks) == 2, "each side asks once, and goes on without"
    else:  # two blocks, used again: each side has registered both, and nothing twice
        assert len(cudart.blocks) == 4
        (first, small), (second, large) = sorted(set(cudart.blocks))
        assert (small, large, second - first) == (4096, 8192, 4096) and first % 4096 == 0
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)
    del arrival
    board.close()


def test_a_block_is_used_again_when_its_copy_is_done():
    """The GPU may still be reading it."""
    over = Hub(1)
    transport = gpu.StagedTransport(ThreadTransport(over, 0), torch.device("cpu"), Cuda)
    consumed = []
    transport.over.consumed = lambda *which: consumed.append(which)
    stream = Cuda.current_stream(None)
    for message in range(3):
        transport.send(0, message, 1, torch.ones(2), 0.0)
    stream.queue(5.0)
    transport.receive(0, 1, time.perf_counter() + 1)
    assert consumed == []
    stream.done_at = 0.0
    for message in (1, 2):
        transport.receive(message, 1, time.perf_counter() + 1)
    transport._copying[0][0].time = 0.0  # now it is there
    transport.send(0, 3, 1, torch.ones(2), 0.0)
    transport.receive(3, 1, time.perf_counter() + 1)
    assert consumed[0] == (0, 1)


def test_threads_take_turns_for_their_first_matrix_product(monkeypatch):
    """In torch 2.9 those of several threads wrote into one table at the same moment."""
    Cuda.install(monkeypatch)
    inside, most, product = set(), [], torch.Tensor.mm

    def multiply(*factors):
        inside.add(threading.get_ident())
        time.sleep(0.02)
        most.append(len(inside))
        inside.remove(threading.get_ident())
        return product(*factors)

    monkeypatch.setattr(torch.Tensor, "mm", multiply)

    def work():
        with gpu.on_own_stream(torch.device("cpu")):
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


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
            ("cuda", "processes", "CUDA IPC"),
        ),
        ({"workers": "processes"}, ("cpu", "processes", "shared memory")),
        ({"device": "cpu", "workers": "threads"}, ("cpu", "threads", "references in one process")),
        ({"executor": "torch"}, ("cpu", "processes", "torch.distributed, gloo")),
        ({"pace": (0.01, 0.02)}, ("cpu", "processes", "shared memory")),
        (
            {"pace": (0.01, 0.02), "device": "cuda"},
            ("cuda", "threads", "device copies behind events"),
        ),
    ],
)
def test_where_a_run_goes_on_a_machine_with_a_gpu(model, data, monkeypatch, options, found):
    some_gpus(monkeypatch, 1)
    monkeypatch.setattr(Driver, "run", lambda self: None)
    run = pipelab.start(
        model, *data, functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=2, **options
    )
    assert (run.device, run.workers, run.transport) == found
    note = None
    if run.device == "cuda":
        note = (
            "2 ranks share a GPU: an action lasts longer while others compute there, so the bubble "
            "is not that of the schedule, as it is in a paced run"
        )
    elif "pace" in options:
        note = "on the processor: a paced run is no faster on a GPU; device='cuda' takes it"
    assert run.device_note == note


@pytest.mark.parametrize(
    ("schedule", "ranks", "gpus", "workers", "note"),
    [
        ("1f1b", 2, 4, "threads", "one Python keeps 2 GPUs busy"),
        ("1f1b", 3, 4, "processes", "a process for each GPU: 3 of them would wait for one Python"),
        (
            "zb-h1",
            2,
            2,
            "processes",
            "a process for each GPU: 2 of them would wait for one Python with split backwards",
        ),
        ("zb-h1", 4, 2, "threads", "4 ranks share 2 GPUs: an action lasts longer"),
        ("1f1b", 1, 1, "threads", None),
    ],
)
def test_who_works_on_several_gpus(data, monkeypatch, schedule, ranks, gpus, workers, note):
    some_gpus(monkeypatch, gpus)
    monkeypatch.setattr(Driver, "run", lambda self: None)
    sizes = {"schedule": schedule, "ranks": ranks, "microbatches": 8}
    run = pipelab.start(mlp(), *data, functional.cross_entropy, **sizes)
    assert (run.device, run.workers) == ("cuda", workers)
    assert run.device_note is note is None or run.device_note.startswith(note)
    chosen = pipelab.start(mlp(), *data, functional.cross_entropy, **sizes, workers="threads")
    assert chosen.workers == "threads"


def test_what_to_do_where_gpus_wait_for_python(monkeypatch):
    some_gpus(monkeypatch, 2)
    threads, processes = (Where("cuda", each) for each in ("threads", "processes"))
    said = "GPUs waited for Python in 20% of the time in which a rank computed"
    assert threads.advice([0.1, 0.2], 2) == said
    said = said.replace("20", "21") + ": larger micro-batches or layers would help"
    assert threads.advice([0.21, 0.2], 2) == (
        said + ", or a process for each rank (workers='processes')"
    )
    assert processes.advice([0.21], 2) == threads.advice([0.21], 4) == said


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
def test_the_losses_of_all_steps_come_home(model, data):
    """Of one run in many, a loss was 0: the driver had looked before it was there."""
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 4, "steps": 6}
    given = model, *data, functional.cross_entropy
    expected = pipelab.run(*given, **options, device="cpu").losses
    for _ in range(8):
        assert pipelab.run(*given, **options).losses == pytest.approx(expected, rel=1e-5)


def error_where_backwards_tell_of_other_threads(data, device):
    """The run's gradient error. A backward of the run raises that is not on a rank's thread."""
    caller = os.getpid()  # which computes the reference, as torch does

    class Tell(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            thread = threading.current_thread().name
            if os.getpid() != caller and not thread.startswith("rank"):
                raise RuntimeError(f"a backward on {thread}")
            return gradient

    class Telling(nn.Module):
        def forward(self, x):
            return Tell.apply(x)

    layers = [nn.Linear(16, 16), Telling(), nn.Linear(16, 16), nn.Linear(16, 4)]
    return train(layers, data, ranks=2, device=device, workers="threads").gradient_error


def test_a_backward_stays_on_its_ranks_thread(data):
    assert error_where_backwards_tell_of_other_threads(data, "cpu") <= 1e-5


@needs_gpu
def test_a_backward_stays_on_its_ranks_thread_on_the_gpu(data):
    """Autograd would run it on a thread of the device, where ranks would wait for each other."""
    assert error_where_backwards_tell_of_other_threads(data, "cuda") <= 1e-4


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
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_loss_that_holds_tensors_on_the_gpu(model, data, device):
    """On the processor, or on another GPU, its tensors and the output were on two devices."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0, 1.0], device="cuda"))
    sizes = {"schedule": "1f1b", "ranks": 2, "microbatches": 4}
    run = pipelab.run(model, *data, loss, **sizes, device=device)
    assert run.gradient_error <= 1e-4 and loss.weight.is_cuda


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
    assert run.transport == "CUDA IPC" or "CUDA IPC is not possible" in run.transport
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
