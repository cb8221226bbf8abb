"""CUDA IPC between processes: the code with a stand-in for CUDA, and what the driver does for it.

On a machine with a GPU: test_gpu.py, and the part "link" of tests/benchmarks/gpu_proof.py.
"""

import ctypes
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

import pipelab
from pipelab.engine.hosts import driver
from pipelab.engine.record.board import Board
from pipelab.engine.transport import ipc
from pipelab.engine.transport.shared_memory import SharedMemoryTransport
from pipelab.engine.workers import seat, worker

from .fake_cuda import Cuda, Event
from .stand_in import AllRanks, gradients_of, run_on_stand_in

CPU = torch.device("cpu")
PAGE = 4096


class Driver:
    """In place of CUDA's: all ranks are in one process, which knows its own memory."""

    def handle_of(self, address):
        return (address // PAGE).to_bytes(64, "little"), address % PAGE

    def open(self, handle):
        return int.from_bytes(handle, "little") * PAGE

    def copy(self, to, source, count, stream):
        assert stream != Cuda.current_stream(CPU).cuda_stream, "behind what the rank computes"
        assert stream == Cuda.of_thread.streams[CPU].cuda_stream, "on memory of another stream"
        ctypes.memmove(to, source, count)


@pytest.fixture
def cuda(monkeypatch):
    """The stand-in for torch.cuda; a list of the streams for which memory was kept."""
    Cuda.install(monkeypatch)
    monkeypatch.setattr(ipc, "CudaDriver", Driver)
    kept = []
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: kept.append(stream), raising=False
    )
    Cuda.of_thread.streams = {}
    yield kept
    Cuda.of_thread.streams = {}
    Event.shared.clear()


@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "dualpipe", "interleaved-1f1b"])
def test_ranks_that_read_each_others_gpu_compute_what_processes_compute(
    model, data, schedule, cuda
):
    order, results, board = run_on_stand_in(model, data, schedule, 3, way="ipc")
    board.close()
    gradients = gradients_of(results)
    expected = pipelab.run(
        model, *data, functional.cross_entropy, schedule=order, steps=3, device="cpu"
    )
    assert gradients.keys() == expected.gradients.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.gradients.items():
        assert torch.equal(gradients[name], gradient), name


@pytest.fixture
def pair(cuda):
    """Two ranks that know each other."""
    board = Board(None, ranks=2, steps=1, atoms=1, microbatches=1, messages=8)
    both = AllRanks(2)
    ranks = []
    for rank in range(2):
        over = SharedMemoryTransport(board, rank, *both.pipes(rank))
        ranks.append(ipc.IpcTransport(over, rank, CPU, Driver(), Cuda))
    yield ranks
    both.close()
    board.close()


def received(transport, message, sequence=1):
    return transport.receive(message, sequence, time.perf_counter() + 1)


def on_a_stream(transport, doing):
    """What it returns, and the stream of its rank."""
    stream = Cuda.of_thread.streams["own"] = Cuda.Stream(CPU)
    return doing(transport), stream


def test_what_is_received_was_sent(pair):
    sender, receiver = pair
    sent = [
        torch.randn(3, 5),
        torch.randn(4, 6).T,
        torch.randn(2, 3, dtype=torch.float64)[:, 1:],
        torch.randn(7).bfloat16(),
        torch.tensor([True, False, True]),
        torch.tensor(3 + 4j),
        torch.empty(0, 4),
        torch.randint(9, (2, 1, 2)),
    ]
    for message, tensor in enumerate(sent):
        sender.send(1, message, 1, tensor, 0.25, parts=message)
    for message, tensor in enumerate(sent):
        found = received(receiver, message)
        assert found.tensor.dtype == tensor.dtype and torch.equal(found.tensor, tensor)
        assert (found.planned, found.parts) == (0.25, message)
        receiver.consumed(message, 1)


def test_the_stream_waits_and_the_host_does_not(pair, cuda):
    sender, receiver = pair

    def compute_and_send(transport):
        Cuda.current_stream(CPU).queue(60.0)
        transport.send(1, 0, 1, torch.ones(4), 0.0)

    begun = time.perf_counter()
    _, computing = on_a_stream(sender, compute_and_send)
    _, stream = on_a_stream(receiver, lambda transport: received(transport, 0))
    assert time.perf_counter() - begun < 10
    assert stream.done_at >= computing.done_at > begun + 60
    assert cuda == [stream], "or the allocator would give the copy's memory away too soon"


def test_a_late_sender_holds_up_no_other(pair):
    """A stream for each: what one sends is not behind what another has yet to compute."""
    late, receiver = pair
    Cuda.current_stream(CPU).queue(60.0)
    late.send(1, 0, 1, torch.ones(4), 0.0)
    Cuda.current_stream(CPU).done_at = 0.0
    receiver.send(1, 1, 1, torch.ones(4), 0.0)  # to itself, as if it were a third
    received(receiver, 0)
    received(receiver, 1)
    waits, goes = (receiver._lanes[sender] for sender in (0, 1))
    assert goes.done_at < time.perf_counter() + 10 < waits.done_at


def test_who_finishes_has_read_all(pair):
    sender, receiver = pair
    Cuda.current_stream(CPU).queue(0.3)
    sender.send(1, 0, 1, torch.ones(4), 0.0)
    computed = Cuda.current_stream(CPU).done_at
    received(receiver, 0)
    receiver.finish()
    assert time.perf_counter() >= computed and not receiver._copying


def test_a_block_is_used_again_when_it_has_been_read(pair):
    sender, receiver = pair
    sender.send(1, 0, 1, torch.ones(100), 0.0)
    first = sender._lent[0][0]
    received(receiver, 0)
    receiver._copying[0][0].time = time.perf_counter() + 60  # the GPU has not come there yet
    receiver._give_back()
    sender.send(1, 1, 1, torch.ones(100), 0.0)
    assert sender._lent[-1][0] is not first, "it may still be read"
    receiver._copying[0][0].time = 0.0
    receiver._give_back()
    sender.send(1, 0, 2, torch.ones(50), 0.0)
    assert sender._lent[-1][0] is first
    sender.send(1, 2, 2, torch.ones(101), 0.0)
    assert len(Event.shared) == 3, "a block and an event for what was too large"


def test_the_smallest_block_that_is_large_enough(pair):
    """Blocks of several sizes were compared number by number, which failed."""
    sender, receiver = pair
    sizes = [1000, 100, 10]
    for message, size in enumerate(sizes):
        sender.send(1, message, 1, torch.ones(size), 0.0)
    blocks = [block for block, *_ in sender._lent]
    for message in range(3):
        received(receiver, message)
    for copied in receiver._copying:
        copied[0].time = 0.0
    receiver._give_back()
    for message, (size, block) in enumerate([(11, 1), (200, 0), (10, 2)]):
        sender.send(1, message, 2, torch.ones(size), 0.0)
        assert sender._lent[-1][0] is blocks[block]


def test_memory_is_opened_once(pair, monkeypatch):
    opened = []
    monkeypatch.setattr(
        Driver, "open", lambda self, h, was=Driver.open: opened.append(h) or was(self, h)
    )
    sender, receiver = pair
    for sequence in range(1, 6):
        sender.send(1, 0, sequence, torch.full((10,), float(sequence)), 0.0)
        assert torch.equal(
            received(receiver, 0, sequence).tensor, torch.full((10,), float(sequence))
        )
        receiver._copying[0][0].time = 0.0
    assert len(opened) == len(set(opened)) <= 2


def test_what_cannot_be_sent_is_refused(pair):
    with pytest.raises(TypeError, match="to_dense"):
        pair[0].send(1, 0, 1, torch.eye(3).to_sparse(), 0.0)


def refuse(monkeypatch, name, message="operation not supported (801)"):
    def call(self, *_):
        raise RuntimeError(f"{name}: {message}\nand more")

    monkeypatch.setattr(Driver, name, call)


def through_the_host(model, data):
    """Ranks go on, and compute what they should."""
    _, results, board = run_on_stand_in(model, data, "1f1b", 2, way="ipc")
    board.close()
    expected = pipelab.run(
        model,
        *data,
        functional.cross_entropy,
        schedule="1f1b",
        ranks=2,
        microbatches=4,
        steps=2,
        device="cpu",
    )
    for name, gradient in gradients_of(results).items():
        assert torch.equal(expected.gradients[name], gradient), name


@pytest.fixture
def carriers(monkeypatch):
    """What the ranks of a run have for a transport."""
    found, choose = set(), ipc.between_processes

    def between(*arguments):
        transport = choose(*arguments)
        found.add(transport.carrier)
        return transport

    monkeypatch.setattr(ipc, "between_processes", between)
    return found


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("handle_of", "rank 0 cannot share its GPU's memory: handle_of: operation not supported"),
        ("open", "rank 0 cannot read that of rank 1: open: operation not supported (801)"),
        ("copy", "rank 0 cannot read that of rank 1: copy: operation not supported (801)"),
    ],
)
def test_where_cuda_refuses_the_host_carries(model, data, cuda, carriers, monkeypatch, call, why):
    refuse(monkeypatch, call)
    through_the_host(model, data)
    (said,) = carriers
    assert said.startswith("shared memory, through the host's memory (CUDA IPC is not possible: ")
    assert why in said and "\n" not in said


def test_one_rank_that_cannot_is_enough(model, data, cuda, carriers, monkeypatch):
    """All ranks take the same way."""
    refused = []

    def copy(self, to, source, count, stream, was=Driver.copy):
        if not refused:
            refused.append(stream)
            raise RuntimeError("peer access is not supported")
        was(self, to, source, count, stream)

    monkeypatch.setattr(Driver, "copy", copy)
    through_the_host(model, data)
    (said,) = carriers
    assert "cannot read that of rank" in said and "peer access is not supported" in said


def test_what_is_read_must_be_what_was_written(model, data, cuda, carriers, monkeypatch):
    """A mapping that shows other memory, or comes before what was queued, is not believed."""
    monkeypatch.setattr(Driver, "copy", lambda *_: None)
    through_the_host(model, data)
    (said,) = carriers
    assert "what is read there is not what was written" in said


def test_a_machine_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(f"no {name}")))
    carrier = ipc.between_processes(None, 0, [0], CPU, lambda what: [what]).carrier
    assert (
        "(CUDA IPC is not possible: rank 0 cannot share its GPU's memory: no libcuda.so.1)"
        in carrier
    )


class Library:
    """libcuda that answers a code, and knows its text."""

    def __init__(self, code):
        self.code, self.asked = code, []

    def __getattr__(self, name):
        def call(*arguments):
            self.asked.append(name)
            if name == "cuGetErrorString":
                arguments[1]._obj.value = b"operation not supported"
                return 0
            if name == "cuMemGetAddressRange_v2":
                arguments[0]._obj.value = arguments[2].value - 512
            if name == "cuIpcGetMemHandle":
                ctypes.memmove(arguments[0], bytes(range(64)), 64)
            if name == "cuIpcOpenMemHandle_v2":
                assert bytes(arguments[1]) == bytes(range(64)), "by value, zeros too"
                arguments[0]._obj.value = 1 << 47
            return self.code

        return call


def test_the_calls_of_the_driver(monkeypatch):
    library = Library(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    calls = ipc.CudaDriver()
    assert calls.handle_of(1 << 40) == (bytes(range(64)), 512)
    assert calls.open(bytes(range(64))) == 1 << 47
    calls.copy(1, 2, 3, 4)
    assert library.asked[-1] == "cuMemcpyAsync"
    library.code = 801
    with pytest.raises(RuntimeError, match=r"^cuMemcpyAsync: operation not supported \(801\)$"):
        calls.copy(1, 2, 3, 4)


# What the driver of the run and the worker do for it.


def test_a_process_stays_until_all_have_read_its_memory(monkeypatch):
    """With the process goes its GPU's memory, which others may still be copying."""
    said = []

    class Ipc:
        def finish(self):
            said.append("has read all")

    place = worker.WorkerSeat(None, -1)
    monkeypatch.setattr(place, "ask", lambda what: said.append(what), raising=False)
    place.leave()
    assert said == []
    place._ipc = Ipc()
    place.leave()
    assert said == ["has read all", "meet"]


def meet_and_run(place, job):
    """A rank that meets the others, twice, and says that it sends by CUDA IPC."""
    first = place.ask("meet", job.worker)
    second = place.ask("meet", [job.worker] * 2)
    assert first == [0, 1] and second == [[0, 0], [1, 1]], (first, second)
    place.tell("transport", "CUDA IPC")
    return seat.run_rank(place, job)


def test_ranks_meet_through_the_driver(model, data, monkeypatch):
    monkeypatch.setattr(driver, "run_rank", meet_and_run)
    run = pipelab.run(
        model,
        *data,
        functional.cross_entropy,
        schedule="1f1b",
        ranks=2,
        microbatches=4,
        device="cpu",
    )
    assert run.transport == "CUDA IPC" and run.gradient_error < 1e-6
    # A host hands over before its GPU has what it hands over: who made it says when that was.
    remote = np.flatnonzero(run.schedule.crosses)
    sent, made = run.timeline.sent[remote], run.timeline.ended[run.schedule.producer[remote]]
    asked, arrived = run.timeline.asked[remote], run.timeline.arrived[remote]
    assert (made > asked).any() and (sent == np.clip(made, asked, arrived)).all()
