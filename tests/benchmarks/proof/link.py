"""What processes send each other: by CUDA IPC, and through the host's memory. Two of them, on two
GPUs where there are as many."""

import multiprocessing
import os
import time

from .common import DEVICE, DRY, middle, row, told

SIZES = {"4 KiB": 4 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}
LARGEST = "16 MiB"
ROUNDS = 5 if DRY else 100
BURSTS, AT_ONCE = (3, 8) if DRY else (30, 8)
"""Messages that are checked: so many times so many, whose blocks are used again."""
BOARD = {"ranks": 2, "steps": 1, "atoms": 1, "microbatches": 1, "messages": 4 * AT_ONCE}
WAYS = {"ipc": "CUDA IPC", "host": "the host's memory"}


def link():
    found = {}
    for way in WAYS:
        with told(f"link: {WAYS[way]}"):
            found[way] = between(way)
            carrier, wrong, _ = found[way]
            checked = 2 * BURSTS * AT_ONCE
            row(f"link: {WAYS[way]}", f"{wrong} of {checked} wrong", carrier, good=wrong == 0)
    for size, count in SIZES.items():
        with told(f"link: {size}"):
            ipc, host = (found[way][2][size] for way in WAYS)
            rates = " and ".join(f"{count / each / 1e9:.2f} GB/s" for each in (ipc, host))
            value = f"{1e6 * ipc:.0f} us, {1e6 * host:.0f} us by the host"
            has_bar = found["ipc"][0] == "CUDA IPC" and size == LARGEST
            row(f"link: {size}, one way", value, rates, good=ipc <= host if has_bar else None)


def between(way):
    """(carrier, how many messages were wrong, seconds one way by size) of two processes."""
    from pipelab.engine.record.board import Board

    fork = multiprocessing.get_context("fork")
    board, pipes = Board(None, **BOARD), [os.pipe() for _ in range(2)]
    lines, children = [], []
    for rank in range(2):
        ours, theirs = fork.Pipe()
        place = rank, board.descriptor, [write for _, write in pipes], pipes[rank][0]
        children.append(fork.Process(target=child, args=(theirs, way, *place)))
        lines.append(ours)
        children[-1].start()
        theirs.close()
    try:
        while True:
            brought = [line.recv() for line in lines]
            errors = [each for each in brought if isinstance(each, BaseException)]
            for error in sorted(errors, key=lambda error: isinstance(error, TimeoutError)):
                raise error  # one who waits in vain has less to tell
            if brought[0][0] == "found":
                (carrier, *_), (_, _, times) = (each for _, each in brought)
                return carrier, sum(each[1] for _, each in brought), times
            for line in lines:
                line.send([each for _, each in brought])
    finally:
        for each in children:
            each.kill()


def child(line, way, *place):
    def meet(value):
        line.send(("meet", value))
        return line.recv()

    try:
        line.send(("found", work(meet, way, *place)))
        line.recv()  # the other may still be reading what is here
    except BaseException as error:
        line.send(error)


def work(meet, way, rank, descriptor, wake, inbox):
    from contextlib import nullcontext

    import torch

    from pipelab.engine.record.board import Board
    from pipelab.engine.transport import gpu, ipc
    from pipelab.engine.transport.shared_memory import SharedMemoryTransport

    torch.set_num_threads(1)
    board = Board(descriptor, **BOARD)
    device = torch.device("cpu") if DRY else gpu.device_of(rank)
    with nullcontext() if DRY else gpu.on_own_stream(device):
        if DRY:
            transport = SharedMemoryTransport(board, rank, wake, inbox)
        else:
            over = gpu.RegisteredTransport(board, rank, wake, inbox, device)
            transport = gpu.StagedTransport(over, device)
            if way == "ipc":
                transport = ipc.between_processes(over, rank, [0, 1], device, meet)
        pair = Pair(transport, rank, device)
        meet(None)
        wrong = pair.wrong()
        times = {size: pair.one_way(count) for size, count in SIZES.items()}
        meet(None)
        return transport.carrier, wrong, times


class Pair:
    """One of two ranks that send each other the same."""

    def __init__(self, transport, rank, device):
        self.transport, self.rank, self.device, self.sequence = transport, rank, device, 0

    def send(self, number, tensor):
        message = self.message(number, self.rank)
        self.transport.send(1 - self.rank, message, self.sequence, tensor, 0.0)

    def receive(self, number):
        message, deadline = self.message(number, 1 - self.rank), time.perf_counter() + 10
        return message, self.transport.receive(message, self.sequence, deadline).tensor

    def message(self, number, sender):
        """Its place: one rank may be a turn ahead of the other."""
        return (2 * (self.sequence % 2) + sender) * AT_ONCE + number

    def wrong(self):
        """How many messages were not what was sent. The GPU has yet to compute them when they go,
        and what comes is computed with before it is looked at."""
        import torch

        square = torch.full((64 if DRY else 2048,) * 2, 1e-4, device=self.device)
        wrong = []
        for burst in range(BURSTS):
            self.sequence += 1
            for number in range(AT_ONCE):
                late = (square @ square @ square).sum() * 0
                count = 1 + (burst * 37 + number * 911) % 5000 * (1 + 63 * (number == 3))
                what = 1000.0 * burst + 10.0 * number + self.rank
                self.send(number, torch.full((count,), what, device=self.device) + late)
            for number in range(AT_ONCE):
                message, tensor = self.receive(number)
                what = 1000.0 * burst + 10.0 * number + 1 - self.rank
                wrong.append((tensor != what).any() | (tensor.numel() == 0))
                self.transport.consumed(message, self.sequence)
        return int(torch.stack(wrong).sum())

    def one_way(self, count):
        """Seconds of a message that goes there and back, halved; the host waits for none."""
        import torch

        tensor, took = torch.ones(count // 4, device=self.device), []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(ROUNDS):
                self.sequence += 1
                if self.rank == 0:
                    self.send(0, tensor)
                    message, tensor = self.receive(0)
                else:
                    message, tensor = self.receive(0)
                    self.send(0, tensor)
                self.transport.consumed(message, self.sequence)
            if DEVICE == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            took.append((time.perf_counter() - begun) / ROUNDS / 2)
        return middle(took[1:])
