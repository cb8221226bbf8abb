"""All-reduce through shared memory against gloo's, in the same processes, turn by turn.

    python tests/benchmarks/bench_collectives.py

Bar: up to 256 KiB, with 2 and 4 members, at least twice as fast as gloo. Larger ones are bound by
memory on both sides. Ours has the bits of a sum in order; gloo's has them for two members alone.
"""

import os
import statistics
import tempfile
import time

import torch
import torch.distributed as dist

from pipelab.engine.mesh.collectives import Collectives
from pipelab.engine.record.board import TENSOR, Board
from pipelab.engine.transport.group import SharedMemoryGroup
from pipelab.engine.transport.shared_memory import SharedMemoryTransport

SIZES = [4 << 10, 64 << 10, 256 << 10, 4 << 20]
TURNS, EACH = 7, 20


def seconds(reduce, tensor):
    """Median seconds of one all-reduce, over a turn."""
    times = []
    for _ in range(EACH):
        began = time.perf_counter()
        reduce(tensor)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def member(rank, workers, board, pipes, store, report):
    """One of the processes: both ways, turn by turn; the first one tells."""
    torch.set_num_threads(1)
    transport = SharedMemoryTransport(board, rank, [w for _, w in pipes], pipes[rank][0])
    group = SharedMemoryGroup(board, transport, list(range(workers)), rank, TENSOR, 60)
    ours = Collectives(group)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers)
    for size in SIZES:
        tensor = torch.randn(size // 4, generator=torch.Generator().manual_seed(rank))
        found = {"ours": [], "gloo": []}
        for _ in range(TURNS):
            found["ours"].append(seconds(ours.all_reduce, tensor))
            dist.barrier()
            found["gloo"].append(seconds(lambda t: dist.all_reduce(t.clone()), tensor))
            dist.barrier()
        if rank == 0:
            mine, theirs = (1e3 * statistics.median(found[name]) for name in ("ours", "gloo"))
            text = f"{workers} members, {size >> 10:5d} KiB: {mine:7.2f} ms, gloo {theirs:7.2f} ms"
            os.write(report, f"{text}, gloo / ours {theirs / mine:5.1f}\n".encode())
    dist.destroy_process_group()


def main():
    """Print one line per size, for 2 and for 4 members."""
    for workers in (2, 4):
        board = Board(None, ranks=workers, steps=1, atoms=1, microbatches=1, messages=1)
        pipes = [os.pipe() for _ in range(workers)]
        for _, write in pipes:
            os.set_blocking(write, False)
        with tempfile.TemporaryDirectory() as folder:
            children = []
            for rank in range(workers):
                child = os.fork()
                if child == 0:
                    member(rank, workers, board, pipes, f"{folder}/store", 1)
                    os._exit(0)
                children.append(child)
            for child in children:
                os.waitpid(child, 0)


if __name__ == "__main__":
    main()
