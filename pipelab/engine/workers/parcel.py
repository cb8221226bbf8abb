"""What goes from a worker to its driver. Large arrays stay in a file in memory until asked for.

    worker   arrays ▸ a file without a name ▸ its descriptor ─┬▸ driver maps it: reads nothing
             all the rest, in a message ──────────────────────╯

A worker ends with its run and brings home all that somebody may ask for: gradients, weights and the
optimizer's state. Through the line, gigabytes of it would be copied several times.
"""

import os
import pickle
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np
import torch

from ..record.board import create_file

LARGE = 1 << 16
"""Bytes from which on an array goes into the file."""
_ALIGNED = 64


def send(line: Connection, what: str, value: Any) -> None:
    """Send something that has a name."""
    large: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE:
            return True
        large.append(buffer.raw())
        return False

    message = pickle.dumps((what, value), 5, buffer_callback=stays_inside)
    descriptor = _file_of(large) if large else None
    if descriptor is None:
        line.send_bytes(pickle.dumps((what, value)) if large else message)
        return
    line.send_bytes(pickle.dumps(("file", [each.nbytes for each in large])))
    send_handle(line, descriptor, None)  # type: ignore[arg-type] # the process only on Windows
    os.close(descriptor)
    line.send_bytes(message)


def receive(line: Connection) -> tuple[str, Any]:
    """What was sent and its name. Raises EOFError where the other side is gone."""
    what, value = pickle.loads(line.recv_bytes())
    if what != "file":
        return what, value
    descriptor = recv_handle(line)
    memory = _mapped(descriptor)
    os.close(descriptor)
    buffers, at = [], 0
    for size in value:
        buffers.append(memory[at : at + size])
        at += _aligned(size)
    return pickle.loads(line.recv_bytes(), buffers=buffers)


def _file_of(large: list[memoryview]) -> int | None:
    """A file with the arrays, one behind the other; None where files may not be that large."""
    descriptor = create_file(0)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            for each in large:
                file.write(each)
                file.write(bytes(_aligned(each.nbytes) - each.nbytes))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _mapped(descriptor: int) -> np.ndarray:
    """The bytes of a file, read when they are touched. To change them does not change the file.

    Python's own mmap would hold a descriptor for each rank of every run that is kept.
    """
    path, size = f"/dev/fd/{descriptor}", os.fstat(descriptor).st_size
    return torch.from_file(path, shared=False, size=size, dtype=torch.uint8).numpy()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
