"""Checkpoints: files of torch.save that the unsplit model, and its optimizer, can load too.

{"model": state_dict, "optimizer": state_dict of the optimizer of all parameters, "scheduler": its
state_dict,
 "parameters": the names, in the order of the optimizer's numbers, "step": steps done, "seed": of
 random layers}
"""

import io
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import UsageError
from .ship import copied


def to_bytes(state: Any) -> np.ndarray:
    """Write dictionaries and tensors as bytes, for the way from a worker."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return np.frombuffer(buffer.getbuffer(), np.uint8)


def from_bytes(data: np.ndarray) -> Any:
    """Read what ``to_bytes`` wrote."""
    return torch.load(io.BytesIO(data.data), map_location="cpu", weights_only=True)


def merge(parts: list[dict], order: list[str]) -> dict[str, Any]:
    """The optimizer's part of a checkpoint.

    parts: each rank's ``Update.state``. order: the model's parameters. Raises UsageError where the
    ranks' optimizers have different numbers of groups.
    """
    parts = [part for part in parts if part["groups"]]
    counts = {len(part["groups"]) for part in parts}
    if len(counts) > 1:
        raise UsageError(
            f"The optimizer factory made {sorted(counts)} groups of parameters on different "
            "ranks, so they cannot be saved as the groups of one optimizer. Let it make the same "
            "groups for any list of parameters, empty ones included."
        )
    for g in range(max(counts, default=0)):
        options = dict.fromkeys(repr(_options(part["groups"][g])) for part in parts)
        if len(options) > 1:
            raise UsageError(
                "The optimizer factory made other optimizers or options on different ranks, so "
                f"they cannot be saved as one optimizer: {' and '.join(options)}. Let it make the "
                "same for any list of parameters, in groups where options differ (also empty ones)."
            )
    place, states = (
        {name: i for i, name in enumerate(order)},
        {n: s for part in parts for n, s in part["state"].items()},
    )
    names: list[str] = []
    groups = []
    for g in range(max(counts, default=0)):
        mine = sorted(
            {n for part in parts for n in part["groups"][g]["params"] if n in place},
            key=place.__getitem__,
        )
        groups.append(
            parts[0]["groups"][g] | {"params": list(range(len(names), len(names) + len(mine)))}
        )
        names += mine
    return {
        "optimizer": {
            "state": {i: states[n] for i, n in enumerate(names) if n in states},
            "param_groups": groups,
        },
        "scheduler": parts[0]["scheduler"] if parts else None,
        "parameters": names,
    }


def _options(group: dict) -> dict:
    return {name: value for name, value in group.items() if name != "params"}


def write(path: str | os.PathLike, checkpoint: dict) -> None:
    """Write the file, whole or not at all."""
    target = Path(path).resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        torch.save(checkpoint, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> dict:
    """A checkpoint of ``write``.

    Raises UsageError for any other file, OSError where there is none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"resume is {path!r}; it is the path of a checkpoint that Run.save wrote.")
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(
            f"{os.fspath(path)} is no checkpoint: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(found, dict) or not {"model", "optimizer", "step", "seed"} <= found.keys():
        raise UsageError(
            f"{os.fspath(path)} is no checkpoint of a run: it lacks model, optimizer, step or "
            "seed. A state_dict alone goes into the model with load_state_dict."
        )
    return found


@dataclass(frozen=True)
class Resumed:
    """What a run goes on from.

    step: steps done before. seed: of random layers. optimizer: what ``Update.load`` takes.
    """

    step: int
    seed: int
    optimizer: dict


def resume_from(
    path: str | os.PathLike, model: nn.Sequential | Sequence[nn.Module]
) -> tuple[nn.Sequential, Resumed]:
    """A copy of the model with a checkpoint's weights, and the rest of the checkpoint.

    Raises UsageError where they do not fit.
    """
    saved = read(path)
    whole = copied(model if isinstance(model, nn.Sequential) else nn.Sequential(*model))
    try:
        whole.load_state_dict(saved["model"])
    except RuntimeError as error:
        first = str(error).split("\n\t")[1]
        raise UsageError(
            f"The checkpoint {os.fspath(path)} is of another model: {first}"
        ) from error
    return whole, Resumed(saved["step"], saved["seed"], _optimizer_part(saved, whole))


def named_parameters(layers: list[tuple[int, str, nn.Module]]) -> list[tuple[str, nn.Parameter]]:
    """Of the unsplit model: a tied parameter once, under its first name."""
    first: dict[nn.Parameter, str] = {}
    for _, layer, module in layers:
        for name, parameter in module.named_parameters():
            first.setdefault(parameter, f"{layer}.{name}")
    return [(name, parameter) for parameter, name in first.items()]


def _optimizer_part(checkpoint: dict, model: nn.Sequential) -> dict:
    """What ``Update.load`` takes: states by the names of the parameters.

    A tied parameter stands under each of its names.
    """
    saved = checkpoint["optimizer"]
    states = {checkpoint["parameters"][i]: state for i, state in saved["state"].items()}
    first: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        original = first.setdefault(parameter, name)
        if original in states:
            states[name] = states[original]
    return {"state": states, "groups": saved["param_groups"], "scheduler": checkpoint["scheduler"]}
