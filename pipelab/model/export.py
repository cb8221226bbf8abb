"""``torch.export`` with a free number of samples, and why it refuses a module."""

import inspect
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import UsageError


def arguments_of(module: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments. Raises UsageError."""
    if not isinstance(module, nn.Module):
        raise UsageError(f"layers takes an nn.Module, not a {type(module).__name__}.")
    named = dict(example) if isinstance(example, Mapping) else {}
    arguments = () if named else example if isinstance(example, tuple | list) else (example,)
    tensors = [*arguments, *named.values()]
    if not tensors or not all(isinstance(t, torch.Tensor) and t.dim() for t in tensors):
        raise UsageError(
            "example_inputs is a tensor, a tuple of tensors or a dict of them, each with the "
            "samples as its first dimension."
        )
    samples = {len(tensor) for tensor in tensors}
    if len(samples) > 1 or min(samples) < 2:
        raise UsageError(
            f"The example inputs have {'/'.join(map(str, sorted(samples)))} samples; torch.export "
            "leaves their number free if all have the same, and two or more."
        )
    return tuple(arguments), named


def export(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> fx.GraphModule:
    """The module as operations in a row. Raises UsageError with torch's reason."""
    batch = torch.export.Dim("batch")
    free: Any = ({name: {0: batch} for name in named}) or tuple({0: batch} for _ in arguments)
    try:
        with _quiet():
            program = torch.export.export(
                module, arguments, named, dynamic_shapes=_by_argument(module, free), strict=False
            )
            return program.module()
    except Exception as error:  # whatever torch.export raises, or the module itself
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise UsageError(
            f"{type(module).__name__} cannot be exported: {reason}{_place(error)}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch warns of and logs on the way is about its own doing, or is raised as well."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _by_argument(module: nn.Module, free: Any) -> Any:
    """As torch.export takes it: for ``*args``, one entry for all of them."""
    parameters = inspect.signature(module.forward).parameters.values()
    if isinstance(free, tuple) and any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return (free,)
    return free


def _place(error: BaseException) -> str:
    """The last line that is neither torch's nor Python's own."""
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parent), sys.base_prefix)
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        foreign = frame.filename.startswith(own) or "site-packages" in frame.filename
        if frame.line and not foreign:
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""
