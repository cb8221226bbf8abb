"""What the workers of a mesh bring home becomes one again: tensors, and an optimizer's state."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .setup import Setup


def join(found: Sequence[Mapping[str, torch.Tensor]], setup: Setup) -> dict[str, torch.Tensor]:
    """Tensors by name, as the unsplit model has them.

    found: of each worker, what it has, by the names of parameters or those of a state_dict, which a
    wrapper may have changed.
    """
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for worker, of_worker in enumerate(found):
        for name, tensor in of_worker.items():
            pieces.setdefault(name, {})[worker] = tensor
    return {name: _whole(name, parts, setup) for name, parts in pieces.items()}


def _whole(name: str, parts: dict[int, torch.Tensor], setup: Setup) -> torch.Tensor:
    """One tensor of its parts, by worker: rows of copies first, then the cuts of layers."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    mesh, ranks = setup.mesh, setup.schedule.ranks
    by_tensor: dict[int, list[torch.Tensor]] = {}
    for worker, part in sorted(parts.items()):
        by_tensor.setdefault(mesh.place(ranks, worker).tensor, []).append(part)
    columns = [_rows(each) for _, each in sorted(by_tensor.items())]
    if len(columns) == 1:
        return columns[0]
    cuts = setup.plan.cuts
    return (cuts.get(name) or cuts[_parameter_called(name, setup)]).join(columns)


def _parameter_called(name: str, setup: Setup) -> str:
    """The name of the parameter that a state_dict calls so."""
    for _, layer, module in setup.layers:
        value = module.state_dict(prefix=f"{layer}.", keep_vars=True).get(name)
        for own, parameter in module.named_parameters(prefix=layer):
            if parameter is value:
                return own
    return name


def _rows(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of several copies; a lone number is with the first."""
    return parts[0] if parts[0].dim() == 0 else torch.cat(parts)


def join_states(states: Sequence[dict | None], setup: Setup) -> list[dict]:
    """``Update.state`` of all workers, with whole tensors: the first has them."""
    if setup.mesh.planes == 1:
        return [state for state in states if state is not None]
    pieces: dict[str, dict[int, dict[str, Any]]] = {}
    for worker, state in enumerate(states):
        for name, kept in (state or {}).get("state", {}).items():
            pieces.setdefault(name, {})[worker] = kept
    whole: dict[str, dict[str, Any]] = {}
    for name, by_worker in pieces.items():
        whole[name] = {}
        for key, value in next(iter(by_worker.values())).items():
            if isinstance(value, torch.Tensor) and value.dim():
                value = _whole(name, {w: kept[key] for w, kept in by_worker.items()}, setup)
            whole[name][key] = value
    parts = [{**state, "state": {}} for state in states if state is not None]
    if parts:
        parts[0]["state"] = whole
    return parts
