"""The process group of torchrun's processes: joining it, its ways and clocks, and leaving it."""

import atexit
import contextlib
import gc
import os
import platform
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...errors import UsageError
from ..transport.network import SLOWEST, Lanes
from ..transport.network_group import abort_groups

PING_PONGS = 100
_REASON = "pipelab/reason"


def join() -> None:
    """Joins the group of all processes, unless the program has done so.

    Raises UsageError where that lacks gloo.
    """
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=SLOWEST))
        atexit.register(_part)
    elif "cpu:gloo" not in dist.get_backend_config():
        raise UsageError(
            f"The program has joined its process group with {dist.get_backend_config()} alone, "
            "and ranks speak by gloo about what they send: leave init_process_group to the run, "
            "or give it backend='cpu:gloo,cuda:nccl'."
        )


WAYS = {
    "gloo": "gloo",
    "nccl": "NCCL",
    "staged": "gloo through the host's memory (NCCL wants a GPU for each process)",
}


def way_of(device: str) -> str:
    """How tensors travel, for all processes of the group.

    By NCCL where every process has a GPU to itself, which NCCL demands.
    """
    if device == "cpu":
        return "gloo"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    return (
        "nccl"
        if all(gather(dist.is_nccl_available() and here <= torch.cuda.device_count()))
        else "staged"
    )


_LANES: list[Lanes] = []
"""Of this process, once a run has needed them."""


def lanes_of(rank: int, device: torch.device) -> Lanes:
    """Raises UsageError where NCCL would let transfers of different links wait for each other."""
    world = dist.group.WORLD
    if world is not None and world.bound_device_id is not None:
        raise UsageError(
            "The program has bound its process group to a GPU (init_process_group(device_id=…)). "
            "NCCL then puts all that a rank sends upwards in one line, whoever it is for, and "
            "transfers can wait for each other: leave device_id out."
        )
    if not _LANES or _LANES[0].world is not dist.group.WORLD:
        _LANES[:] = [Lanes(rank, device)]
    return _LANES[0]


def release_lanes() -> None:
    """End what NCCL has under way: GPUs, and hosts that wait for them, are free again."""
    while _LANES:
        _LANES.pop().abort()
    abort_groups()


def _part() -> None:
    """Leave the group, and wait for gloo's threads to end.

    One that is still busy when Python goes aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the group itself goes with the last cycle of objects that knows it


def gather(value: Any) -> list:
    """The values of all ranks, on all ranks."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def offset_to_rank_0(rank: int) -> float:
    """What this process's clock must add to show rank 0's.

    Nothing on the same host; else it is found by ping-pong.
    """
    hosts, offset = gather(host_identity()), 0.0
    for other in range(1, len(hosts)):
        if hosts[other] == hosts[0] or rank not in (0, other):
            continue
        fastest, clock = float("inf"), torch.zeros(1, dtype=torch.float64)
        for _ in range(PING_PONGS):
            if rank == 0:
                dist.recv(clock, other)
                clock[0] = time.perf_counter()
                dist.send(clock, other)
                continue
            asked = time.perf_counter()
            dist.send(clock, 0)
            dist.recv(clock, 0)
            answered = time.perf_counter()
            if answered - asked < fastest:  # the middle of the fastest is nearest to the truth
                fastest, offset = answered - asked, clock.item() - (asked + answered) / 2
    return offset


def host_identity() -> str:
    """Two processes with the same answer share a clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return platform.node()


def leave(rank: int, error: BaseException) -> str:
    """Lets go of the others, so that none waits for this rank.

    Returns why the first that failed did, if it was another.
    """
    store, reason = dist.distributed_c10d._get_default_store(), ""
    if isinstance(error, ConnectionError):
        with contextlib.suppress(RuntimeError):
            store.wait([_REASON], timedelta(seconds=1))
            reason = "\n" + store.get(_REASON).decode()
    elif not isinstance(error, TimeoutError):
        store.set(_REASON, f"Rank {rank} raised {type(error).__name__}: {error}")
    release_lanes()
    dist.destroy_process_group()
    return reason
