"""Objects between processes: code by value, tensors as bytes."""

import contextlib
import functools
import io
import os
import pickle
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle
import torch

import pipelab

from ...errors import UsageError
from . import pickler


def dumps(values: list) -> list[bytes]:
    """Pickle each value together with the code that a worker could not import.

    Classes and functions of notebook cells and of a student's own module files travel by value, as
    they are now, edits included; those of installed packages travel by name. Raises UsageError for
    what cannot travel.
    """
    with LOCK, _by_value(_own_modules()):
        try:
            return [pickler.dumps(value) for value in values]
        except Exception as error:  # whatever an object raises that does not want to be pickled
            raise UsageError(
                "The model, its data or one of the functions cannot be sent to a worker: "
                f"{error}{pickler.culprit(values)}. What is used there must not hold on to open "
                "files, locks, threads or devices."
            ) from error


def copied(value: Any) -> Any:
    """A copy that shares nothing with the original, made as a worker's is.

    ``copy.deepcopy`` would leave a replaced ``forward`` pointing at the old module, and lose the
    hooks of parameters. Raises UsageError for what cannot be copied.
    """
    return pickle.loads(dumps([value])[0])


def reached_parameters(values: list) -> list[list[torch.nn.Parameter]]:
    """The parameters that each module or function reaches, registered or not."""
    with LOCK, _by_value(_own_modules()):
        return [pickler.reached_parameters(value) for value in values]


LOCK = threading.Lock()
"""cloudpickle's list of modules to send by value is one per process; two runs may start at once."""


@contextlib.contextmanager
def _by_value(modules: list) -> Iterator[None]:
    """While it lasts, cloudpickle sends these modules' classes and functions by value."""
    registered = []
    for module in modules:
        with contextlib.suppress(ValueError):  # the user has registered it already
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules() -> list:
    """The user's own modules among those in memory.

    Their files lie neither in the standard library, nor in site-packages, nor in pipelab.
    """
    own = []
    for name, module in list(sys.modules.items()):
        known = getattr(module, "__dict__", {})  # asking a lazy module itself would import it
        file = known.get("__file__")
        if (
            file
            and name == known.get("__name__")
            and name != "__main__"
            and not _is_installed(file)
        ):
            own.append(module)
    return own


@functools.cache
def _is_installed(file: str) -> bool:
    folders = _installed_folders()
    return file.startswith(folders) or os.path.realpath(file).startswith(folders)


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [
        *site.getsitepackages(),
        site.getusersitepackages(),
        os.path.dirname(pipelab.__file__),
    ]
    both = {path for given in paths if given for path in (given, os.path.realpath(given))}
    return tuple(path + os.sep for path in both)


def pack(tensors: Mapping[Any, torch.Tensor]) -> dict[Any, tuple]:
    """Tensors as (dtype, shape, bytes), which pickle without torch's file-descriptor passing.

    The bytes are a numpy array, a copy of the tensor's. Sparse ones go as (None, (), a file of
    torch's).
    """
    return {name: _packed(tensor.detach()) for name, tensor in tensors.items()}


def _packed(tensor: torch.Tensor) -> tuple:
    if tensor.layout is not torch.strided:
        file = io.BytesIO()
        torch.save(tensor.cpu(), file)
        return None, (), file.getvalue()
    plain = tensor.resolve_conj().resolve_neg()
    plain = plain.to("cpu", copy=True, memory_format=torch.contiguous_format)
    return tensor.dtype, tuple(tensor.shape), plain.view(-1).view(torch.uint8).numpy()


def unpack(packed: Mapping[Any, tuple]) -> dict[Any, torch.Tensor]:
    """The inverse of ``pack``: tensors that own their memory."""
    return {name: _unpacked(*parts) for name, parts in packed.items()}


def _unpacked(dtype: torch.dtype | None, shape: tuple[int, ...], data: Any) -> torch.Tensor:
    if dtype is None:
        return torch.load(io.BytesIO(data), weights_only=True)
    return torch.from_numpy(data.copy()).view(dtype).view(shape)
