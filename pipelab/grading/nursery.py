"""Rooms by fork: a process that has imported what they need, and runs one of them at a time.

    judge ── "open", the line's other end, limits ──▶ nursery ── fork ──▶ room
          ── "end" ──▶ ends the room and all that it has left; answers with its exit status

It never runs a student's code itself. Whatever a room leaves behind becomes its child, so it can
end that.

python -m pipelab.grading.nursery DESCRIPTOR
"""

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from . import room, sandbox
from .room import Limits

SUBREAPER = 36
PYTHON = (sys.executable, "-P", "-m")
"""Without the folder where it is started: a student's file there may be called json.py."""


class Nursery:
    """The judge's side: rooms, one at a time.

    with_torch: what rooms find imported as soon as the tests have imported torch.
    """

    def __init__(self, with_torch: tuple[str, ...] = ("torch",)):
        self._with_torch = with_torch
        self.confined: bool | None = None
        """Whether the last room was a sandbox; None: there was none."""
        self._socket, theirs = socket.socketpair()
        descriptor = str(theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [*PYTHON, "pipelab.grading.nursery", descriptor],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )

    def open(self, limits: Limits, home: str, folder: str) -> socket.socket:
        """Start a room. Returns the line to it.

        Args:
            limits: of its process.
            home: an empty folder, where it may write.
            folder: the student's, which it may read.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            imports = self._with_torch if "torch" in sys.modules else ()
            request = pickle.dumps((imports, limits, home, folder))
            socket.send_fds(self._socket, [request], [theirs.fileno()])
        return ours

    def end(self) -> int:
        """End the room. Returns its exit status, as ``os.wait`` does."""
        self._socket.send(b"end")
        answer = self._socket.recv(8)
        return int.from_bytes(answer, "little") if answer else signal.SIGKILL

    def close(self) -> None:
        """End the process, with its room."""
        self._socket.close()
        self._process.wait()


def main() -> None:
    """Open and end rooms until the judge is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1)
    line = socket.socket(fileno=int(sys.argv[1]))
    child = 0
    while True:
        request, descriptors, _, _ = socket.recv_fds(line, 1 << 16, 1)
        if not request:
            break
        if request == b"end":
            line.send(_end(child).to_bytes(8, "little"))
            child = 0
            continue
        imports, *room_of = pickle.loads(request)
        _import(imports)
        child = os.fork()
        if not child:
            line.close()
            _become_room(descriptors[0], *room_of)
        os.close(descriptors[0])
    _end(child)


def _import(names: Iterable[str]) -> None:
    """Import for all rooms. A fork of a process that has imported torch is not safe on macOS."""
    if sys.platform == "linux":
        for name in names:
            importlib.import_module(name)
        gc.freeze()  # what is there now need not be looked at in every room


def _become_room(descriptor: int, limits: Limits, home: str, folder: str) -> None:
    try:
        sandbox.die_with_parent()
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        room.begin(socket.socket(fileno=descriptor), limits, home, folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _end(child: int) -> int:
    """End a room and its descendants. Returns its exit status: SIGKILL for one that still lived."""
    status: int | None = 0
    if child:
        status = _wait_a_moment(child)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            status = os.waitpid(child, 0)[1]
    for _ in range(20):
        left = psutil.Process().children(recursive=True)
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    return status or 0


def _wait_a_moment(child: int) -> int | None:
    """The exit status of a room that has closed its line and is about to end; else None."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    return None


def with_package(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a new Python finds this package, installed or not."""
    places = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def _environment() -> dict[str, str]:
    """What the student's process knows of its surroundings: nothing of the teacher's."""
    kept = ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV", sandbox.SWITCH)
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return with_package(environment) | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


if __name__ == "__main__":
    main()
