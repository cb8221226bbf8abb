"""Microseconds of the host per block, and what threads add: where the GPU waits for Python."""

import multiprocessing
import statistics
import threading
import time

from .common import DEVICE, DRY, row, settle, told

ROUNDS = 10 if DRY else 300


def host():
    # Each in a child: nothing here has touched CUDA yet.
    with told("host: block times"):
        for what, value in apart(block_times):
            row(f"host: {what}", f"{value:.0f} us")
    for split in (False, True):
        alone = None
        for threads in (1, 2, 4, 8):
            what = f"host: {threads} threads, {'F I W' if split else 'F B'}"
            with told(what):
                found = apart(scaling, threads, split)
                alone = alone or found
                row(what, f"{found:.0f} us a block overall", f"{alone / found:.2f} x one thread")


def child(queue, function, *arguments):
    try:
        queue.put(function(*arguments))
    except BaseException as error:
        queue.put(error)


def apart(function, *arguments):
    """What a function returns in a process of its own. Raises what it raised."""
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    process = fork.Process(target=child, args=(queue, function, *arguments))
    process.start()
    try:
        found = queue.get(timeout=30)
    finally:
        process.kill()
    if isinstance(found, BaseException):
        raise found
    return found


class Work:
    """A block of the small GPT, and its F, B or I, and W."""

    def __init__(self, split):
        import torch

        from pipelab.engine.stage.split import DeferredGradients
        from pipelab.model.gpt import Block

        torch.set_num_threads(1)
        self.block, self.deferred = Block(64, 4).to(DEVICE), DeferredGradients()
        if split:
            self.deferred.defer(self.block)
        self.x = torch.randn(1, 16, 64, device=DEVICE, requires_grad=True)

    def step(self):
        """Seconds of F, B or I, and W."""
        self.deferred.queue = queue = []
        start = time.perf_counter()
        y = self.block(self.x)
        forward = time.perf_counter()
        y.backward(y)
        backward = time.perf_counter()
        self.deferred.add(queue)
        return forward - start, backward - forward, time.perf_counter() - backward


def block_times():
    import torch

    found = []
    with torch.autograd.set_multithreading_enabled(False):
        for split in (False, True):
            work, times = Work(split), []
            for _ in range(ROUNDS):
                times.append(work.step())
                settle()
            f, b, w = (1e6 * statistics.median(values) for values in zip(*times, strict=True))
            ending = ", backward split" if split else ""
            found += [(f"a block's F{ending}", f), (f"a block's {'I' if split else 'B'}", b)]
            found += [("a block's W", w)] if split else []
    if not DRY:
        start = time.perf_counter()
        for _ in range(1000):
            torch.cuda.Event(enable_timing=True, blocking=True).record()
        found.append(("a timing event", 1e3 * (time.perf_counter() - start)))
    return found


def scaling(threads, split):
    """Microseconds a block, over all threads."""
    import torch

    barrier, ends, errors = threading.Barrier(threads + 1), [], []
    rounds = max(5, ROUNDS // 3)

    def loop():
        with torch.autograd.set_multithreading_enabled(False):
            work = Work(split)
            for _ in range(rounds // 5):
                work.step()
            settle()
            barrier.wait()
            for _ in range(rounds):
                work.step()
            ends.append(time.perf_counter())

    def thread():
        try:
            if DRY:
                loop()
            else:
                with torch.cuda.stream(torch.cuda.Stream()):
                    loop()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    started = [threading.Thread(target=thread) for _ in range(threads)]
    for each in started:
        each.start()
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        raise errors[0] from None
    begun = time.perf_counter()
    for each in started:
        each.join()
    return 1e6 * (max(ends) - begun) / rounds / threads
