"""What the machine is, and what a first, a second and a third run cost on it."""

import os
import sys
import time

from .common import DRY, ours, row, told


def facts():
    start = time.perf_counter()
    import torch

    row("import torch", f"{time.perf_counter() - start:.1f} s", torch.__version__)
    row("python, cores", f"{sys.version.split()[0]}, {len(os.sched_getaffinity(0))}")
    if not DRY:
        gpu()
    runs()


def gpu():
    import torch

    from pipelab.engine.job import gpus

    driver, count = gpus.driver_here(), gpus.gpu_count()
    row("driver", driver)
    row("GPUs by CUDA", count, ", ".join(gpus.gpu_names()), good=driver and driver.gpus == count)
    start = time.perf_counter()
    torch.zeros(1, device="cuda")
    row("first touch of the GPU", f"{time.perf_counter() - start:.2f} s")
    free, total = torch.cuda.mem_get_info()
    row("GPU memory free, total", f"{free >> 20}, {total >> 20} MiB")
    start = time.perf_counter()
    a = torch.randn(64, 64, device="cuda")
    before = torch.cuda.memory_allocated()
    (a @ a).sum().item()
    row("first matrix product", f"{time.perf_counter() - start:.2f} s", "cuBLAS loads")
    workspace = (torch.cuda.memory_allocated() - before) / 2**20
    row("cuBLAS workspace per thread and stream", f"{workspace:.0f} MiB")
    if torch.distributed.is_nccl_available():
        row("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    for dtype in (torch.float32, torch.bfloat16):
        row(f"matrix product, {str(dtype)[6:]}", f"{product_rate(dtype):.0f} TFLOP/s")
    pageable = torch.empty(1 << 28, dtype=torch.uint8)
    for name, host in (("pageable", pageable), ("pinned", pageable.pin_memory())):
        start = time.perf_counter()
        host.to("cuda")
        torch.cuda.synchronize()
        rate = len(host) / (time.perf_counter() - start) / 1e9
        row(f"host to GPU, {name}", f"{rate:.1f} GB/s")


def product_rate(dtype, size=4096, count=10):
    """TFLOP/s of a product of square matrices."""
    import torch

    x = torch.randn(size, size, device="cuda", dtype=dtype)
    for _ in range(3):
        x @ x
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        x @ x
    torch.cuda.synchronize()
    return 2 * size**3 * count / (time.perf_counter() - start) / 1e12


def runs():
    from pipelab.engine import warm
    from pipelab.model import workload

    job = workload("mlp", layers=8, width=64, batch=32)
    warm()
    for which in ("first run, server starting", "second run", "third run"):
        with told(which):
            start = time.perf_counter()
            run, *_ = ours(job, *job.batches(0), schedule="1f1b", ranks=4)
            took, good = time.perf_counter() - start, None
            if which != "first run, server starting":
                good = took <= 2.5
            where = f"{run.workers}; {run.transport}; {run.device_note}"
            row(which, f"{took:.2f} s", where, good=good)
    with told("checking its gradients"):
        start = time.perf_counter()
        error = run.gradient_error
        took = time.perf_counter() - start
        row("checking its gradients", f"{took:.2f} s", f"error {error:.1e}", good=error <= 1e-4)
