"""The process in which a student's file runs. It imports the file and answers calls.

    judge (the tests) ── pickle: "call makespan with these rows" ──▶ room (the student's file)
                      ◀── JSON: numbers, texts, lists, tensors as bytes, handles ──

The judge is trusted, so what it sends is unpickled here. The room is not: what comes back is plain
data, which the judge checks as any other text. What is not plain, such as a model or whatever a
function keeps from its forward for its backward, stays here, under a number: a handle.
"""

import gc
import importlib.util
import json
import os
import pickle
import resource
import socket
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from . import sandbox, wire

PROCESSES = 512
"""And threads, of the user."""


@dataclass(frozen=True)
class Limits:
    """What a test may take.

    Its seconds, the bytes of memory of the student's process, and of what it writes into files.
    """

    seconds: float = 60.0
    memory: int = 4 << 30
    file: int = 256 << 20


class Objects:
    """What stays here, by its number. The same object always has the same number."""

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._weak: dict[int, weakref.ref] = {}
        self._next = 0

    def number_of(self, thing: Any) -> int:
        """Keep a thing."""
        if id(thing) not in self._numbers:
            self._next += 1
            self._numbers[id(thing)], self._kept[self._next] = self._next, thing
        return self._numbers[id(thing)]

    def __getitem__(self, number: int) -> Any:
        return self._kept[number]

    def forget(self, number: int) -> None:
        """Hold a thing no longer, but know whether somebody else does."""
        thing = self._kept.pop(number)
        del self._numbers[id(thing)]
        self._weak[number] = weakref.ref(thing)

    def is_alive(self, number: int) -> bool:
        """Whether somebody holds a forgotten thing."""
        gc.collect()
        return self._weak[number]() is not None


OBJECTS = Objects()


def thing(number: int) -> Any:
    """What a handle stands for: how pickles of the judge find it."""
    return OBJECTS[number]


class Watched:
    """A loss function that notes the samples of each call."""

    def __init__(self, function: Callable):
        self._function = function
        self.samples: list[int] = []

    def __call__(self, output: Any, target: Any) -> Any:
        """The loss."""
        self.samples.append(len(output))
        return self._function(output, target)


class Room:
    """Answers the judge's requests, one after the other."""

    def __init__(self) -> None:
        self.folder = ""
        self._module: ModuleType | None = None

    def answer(self, verb: str, *arguments: Any) -> Any:
        """What a request brings, in a form that JSON takes."""
        return getattr(self, f"_{verb}")(*arguments)

    def _load(self, path: str, without: dict[str, str]) -> None:
        """Import the file. without: what it may not use -> what to tell who does."""
        refuse(without)
        file = Path(path)
        self.folder = str(file.parent)
        sys.path.insert(0, self.folder)
        spec = importlib.util.spec_from_file_location(f"student_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file.name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = self._module = module
        spec.loader.exec_module(module)

    def _call(self, target: Any, name: str, arguments: tuple) -> Any:
        """Call a function of the file, or a method of an object that stays here."""
        return wire.encode(self._result(target, name, arguments), handle)

    def _keep(self, target: Any, name: str, arguments: tuple) -> Any:
        """The same, but what it returns stays here."""
        return handle(self._result(target, name, arguments))

    def _result(self, target: Any, name: str, arguments: tuple) -> Any:
        return getattr(self._module if target is None else target, name)(*arguments)

    def _put(self, value: Any) -> Any:
        return handle(value)

    def _do(self, function: Callable, *arguments: Any) -> Any:
        """Call a function of torch or Python on things that stay here; so does what it returns."""
        return handle(function(*arguments))

    def _parts(self, value: Any) -> Any:
        return {"list": [handle(part) for _, part in zip(range(wire.MOST), value, strict=False)]}

    def _value(self, value: Any) -> Any:
        return wire.encode(value, handle)

    def _gradients(self, value: Any) -> Any:
        """Of the parameters of a module, by name."""
        return {
            "dict": [[name, wire.encode(p.grad, handle)] for name, p in value.named_parameters()]
        }

    def _forget(self, number: int) -> None:
        OBJECTS.forget(number)

    def _is_alive(self, number: int) -> bool:
        return OBJECTS.is_alive(number)


def refuse(without: dict[str, str]) -> None:
    """Let the use of some packages fail with a reason.

    "torch.autograd": its functions do. "pipelab.layout:plan": that function of the package does,
    and the rest of the package can be used.
    """
    import pipelab

    for name, reason in without.items():
        if ":" in name:
            _close(*name.split(":"), why=reason)
    without = {name: text for name, text in without.items() if ":" not in name}
    sys.meta_path.insert(0, _Refusing(without))
    for name in [name for name in sys.modules if _is_in(name, without)]:
        del sys.modules[name]
    for name, value in list(vars(pipelab).items()):
        if _is_in(getattr(value, "__module__", None) or "", without):
            delattr(pipelab, name)
    if (why := without.get("torch.autograd")) is not None:
        import torch

        torch.autograd.grad, torch.autograd.backward = _raising(why), _raising(why)
        torch.Tensor.backward = _raising(why)  # type: ignore[method-assign]


def _close(package: str, name: str, *, why: str) -> None:
    """Let a function fail wherever pipelab has it."""
    function = getattr(importlib.import_module(package), name)
    closed = _raising(why)
    for module in [one for key, one in sys.modules.items() if _is_in(key, ["pipelab"])]:
        for known in [key for key, value in vars(module).items() if value is function]:
            setattr(module, known, closed)


def _raising(why: str) -> Callable:
    """A function that only says why it does nothing."""

    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError(why)

    return refused


def _is_in(name: str, packages: Iterable[str]) -> bool:
    return any(
        name == package or name.startswith(f"{package}.")
        for package in packages
        if package != "torch.autograd"
    )


class _Refusing:
    """Refuses to import packages, with a reason."""

    def __init__(self, without: dict[str, str]):
        self._without = without

    def find_spec(self, name: str, *_: Any) -> None:
        """Raise ImportError for what is refused."""
        for package, why in self._without.items():
            if _is_in(name, [package]):
                raise ImportError(why)


def handle(value: Any) -> dict[str, Any]:
    """Keep a thing here, and give its number."""
    return {"handle": OBJECTS.number_of(value), "type": str(type(value).__name__)[:100]}


def told(error: BaseException, folder: str) -> dict[str, Any]:
    """An error of the student's code: its kind, its text, and the last place in their files."""
    try:
        text = str(error)
    except BaseException as another:
        text = f"(its text cannot be made: {type(another).__name__})"
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return {"kind": kind, "text": wire.shortened(text), "line": error.lineno, "file": ""}
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if folder and frame.filename.startswith(folder)]
    line = places[-1].lineno if places else None
    file = Path(places[-1].filename).name if places else ""
    return {"kind": kind, "text": wire.shortened(text), "line": line, "file": file}


def serve(line: socket.socket, *, confined: bool) -> None:
    """Answer requests until the judge is gone. First it is told whether this is a sandbox."""
    room = Room()
    wire.send(line, json.dumps({"value": confined}).encode())
    while (request := wire.receive(line)) is not None:
        try:
            answer = {"value": room.answer(*pickle.loads(request))}
        except BaseException as error:
            answer = {"error": told(error, room.folder)}
        data = json.dumps(answer).encode()
        if len(data) > wire.LARGEST:
            refusal = told(wire.TooMuch("it returned more than 100 MB"), room.folder)
            data = json.dumps({"error": refusal}).encode()
        wire.send(line, data)


def begin(line: socket.socket, limits: Limits, home: str, folder: str) -> None:
    """Go into a sandbox, set the limits, and serve.

    Args:
        line: to the judge.
        limits: of this process.
        home: an empty folder, where it may write.
        folder: the student's.
    """
    confined = sandbox.enter(home, [folder], limits.file)
    if confined:
        home = "/tmp"
    os.chdir(home)
    os.environ |= {"HOME": home, "TMPDIR": home}
    _limit(resource.RLIMIT_DATA, limits.memory)
    if "torch" in sys.modules:
        # Shared memory counts here only. What torch has mapped, and what its import would, does not
        # count as the student's.
        _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + limits.memory)
    _limit(resource.RLIMIT_FSIZE, limits.file)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, PROCESSES)
    serve(line, confined=confined)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))
