"""The truth: the gradients of the unsplit model, and how far a run's gradients are from them.

They are computed in the caller's own process on the caller's own model, not on what was sent to the
ranks: what got lost on that way would be missing on both sides, and nobody would see it.
"""

import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..job.batches import Batch
from ..job.exchange import Layer
from ..job.values import joined
from ..stage.layers import run_layers, weighted_loss
from ..stage.randomness import (
    TURNS,
    Seeds,
    Sources,
    generator_of,
    generator_states,
    put_back,
    put_generators_back,
    shared_states,
)
from ..transport import gpu
from ..travel.ship import LOCK, unpack
from .loss_kind import not_a_mean

FLOOR = 1e-3
"""How small a parameter's gradient may be, as a share of all, and still count by itself."""
GREEN = {torch.float64: 1e-12, torch.complex128: 1e-12}
"""Largest error of a right float32 gradient is 1e-5; of other dtypes what stands here."""
NO_MEMORY = "the unsplit model does not fit in memory"


@dataclass(frozen=True)
class Reference:
    """The caller's model and how it was trained.

    before: weights and buffers at the beginning of the step, packed. batch, seeds: of the step.
    device: "cpu" or "cuda", as the run's: another kind of device has other random numbers and
    rounds otherwise.
    """

    layers: list[Layer]
    loss: Callable
    dtype: str
    device: str
    before: dict
    batch: Batch
    seeds: Seeds

    def compare(self, gradients: dict[str, torch.Tensor]) -> tuple[float | None, str | None]:
        """How far gradients are from the truth, and what that is.

        Returns:
            The error, or None where there is nothing to compare with; and a note, None where the
            truth is one pass of the unsplit model over the full batch.
        """
        where = torch.device("cpu") if self.device == "cpu" else gpu.device_of(0)
        try:
            with LOCK, torch.enable_grad(), _as_before(self, where) as named:
                return self._compare(gradients, named, where)
        except (torch.OutOfMemoryError, MemoryError):
            return None, f"nothing to compare with: {NO_MEMORY}"

    def _compare(
        self,
        gradients: dict[str, torch.Tensor],
        named: dict[str, nn.Parameter],
        where: torch.device,
    ) -> tuple[float, str | None]:
        """Compare with the full batch, or where that is another function, with micro-batches.

        Micro-batches one after the other, with the run's random numbers, are the truth where the
        function depends on the micro-batch or on how often it runs: BatchNorm takes its statistics
        from what it sees, dropout draws per micro-batch, spectral norm counts its calls, and in
        bfloat16 a sum over a larger batch is rounded otherwise.
        """
        batch, seeds = self.batch.to(where), replace(self.seeds, generator=generator_of(where))
        whole, of_batch, reason = self._in_one_pass(named, batch, seeds)
        error = None if whole is None else gradient_error(gradients, whole)
        if error is not None and (error <= _green(named) or _spoilt(gradients)):
            return error, None
        with _buffers_kept(self.layers):
            pieces, of_pieces = self._piece_by_piece(named, batch, seeds)
        piecewise = gradient_error(gradients, pieces)
        if error is None:
            return piecewise, f"against micro-batches one after the other: {reason}"
        if piecewise <= _green(named) or piecewise < error / 10:
            no_mean = not_a_mean(of_batch, of_pieces, len(batch.shares))
            if no_mean:
                return piecewise, f"against micro-batches one after the other: {no_mean}"
            return piecewise, (
                "against micro-batches one after the other: the full batch in one pass gives "
                f"another function (error {error:.1e}), because a layer or the loss depends on the "
                "micro-batch or on how often it runs"
            )
        return error, (
            f"neither the full batch nor micro-batches one after the other (error {piecewise:.1e})"
            " give these gradients"
        )

    def _in_one_pass(
        self, named: dict[str, nn.Parameter], batch: Batch, seeds: Seeds
    ) -> tuple[dict[str, torch.Tensor] | None, float, str]:
        """The gradients and the loss of the full batch in one pass, or None and why not."""
        modules = [module for _, _, layer in self.layers for module in layer.modules()]
        if any(isinstance(module, _BatchNorm) and module.training for module in modules):
            return None, math.nan, "BatchNorm depends on the batch"
        if self.dtype != "float32":
            return None, math.nan, f"{self.dtype} rounds sums over the whole batch otherwise"
        random_numbers = _where_generators_stand(seeds, self._generators())
        try:
            with _buffers_kept(self.layers):
                output = run_layers(self._plain(), joined(batch.inputs or ()), None, 0)
                loss = weighted_loss(self.loss, output, joined(batch.targets or ()), 1.0)
                loss.backward()
        except torch.OutOfMemoryError:
            return None, math.nan, "the whole batch does not fit in memory"
        if random_numbers != _where_generators_stand(seeds, self._generators()):
            return None, math.nan, "a layer draws random numbers"
        return _taken(named), loss.item(), ""

    def _piece_by_piece(
        self, named: dict[str, nn.Parameter], batch: Batch, seeds: Seeds
    ) -> tuple[dict[str, torch.Tensor], float]:
        """The gradients of micro-batches one after the other, and the sum of their losses."""
        _taken(named)
        total = 0.0
        for i, share in enumerate(batch.shares):
            x, target = batch.inputs_of(i), batch.targets_of(i)
            half = self.dtype == "bfloat16"
            with torch.autocast(x[0].device.type, torch.bfloat16, enabled=half):
                output = run_layers(self._plain(), x.each(torch.clone), seeds, i)
                loss = weighted_loss(self.loss, output, target.each(torch.clone), share)
            if share:  # else 0 times nan would spoil the truth
                loss.backward()
            total += loss.item()
        return _taken(named), total

    def _generators(self) -> list[Any]:
        """Those that layers hold themselves."""
        found: list[Any] = []
        for _, _, layer in self.layers:
            found += Sources(layer).generators
        return found

    def _plain(self) -> list[tuple[int, nn.Module]]:
        return [(index, module) for index, _, module in self.layers]


def _named(layers: list[Layer]) -> tuple[dict[str, nn.Parameter], dict[str, torch.Tensor]]:
    """Parameters and buffers, by the names of the unsplit model."""
    parameters: dict[str, nn.Parameter] = {}
    buffers: dict[str, torch.Tensor] = {}
    for _, layer, module in layers:
        parameters |= {f"{layer}.{name}": p for name, p in module.named_parameters()}
        buffers |= {f"{layer}.{name}": b for name, b in module.named_buffers()}
    return parameters, buffers


@contextmanager
def _as_before(task: Reference, where: torch.device) -> Iterator[dict[str, nn.Parameter]]:
    """The caller's own model with the weights of the step; afterwards it is as it was."""
    parameters, buffers = _named(task.layers)
    named: dict[str, torch.Tensor] = {**parameters, **buffers}
    if isinstance(task.loss, nn.Module):
        named |= {f"loss {name}": t for name, t in task.loss.named_parameters()}
        named |= {f"loss {name}": t for name, t in task.loss.named_buffers()}
    kept = [(tensor, tensor.data, tensor.grad) for tensor in dict.fromkeys(named.values())]
    before, generators = unpack(task.before), task._generators()
    states = torch.get_rng_state(), shared_states(), generator_states(generators)
    try:
        for name, tensor in named.items():
            if name in before:
                tensor.data = before[name].to(where)
            else:
                tensor.data = tensor.data.to(where, copy=True)
            tensor.grad = None
        yield parameters
    finally:
        for tensor, data, gradient in kept:
            tensor.grad = None
            tensor.data = data
            tensor.grad = gradient
        torch.set_rng_state(states[0])
        put_back(states[1])
        put_generators_back(generators, states[2])
        TURNS.forget()


def _where_generators_stand(seeds: Seeds, generators: list[Any]) -> bytes:
    """Equal where nothing was drawn in between."""
    torchs = [state.numpy().tobytes() for state in seeds.states()]
    own = [pickle.dumps(state) for state in generator_states(generators)]
    return pickle.dumps((torchs, shared_states(), own))


@contextmanager
def _buffers_kept(layers: list[Layer]) -> Iterator[None]:
    """What a pass counts, such as BatchNorm's statistics, is as before afterwards."""
    _, buffers = _named(layers)
    kept = [(buffer, buffer.data.clone()) for buffer in buffers.values()]
    try:
        yield
    finally:
        for buffer, data in kept:
            buffer.data = data


def _taken(named: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The gradients, which are gone from the parameters then."""
    found = {name: p.grad.detach().cpu() for name, p in named.items() if p.grad is not None}
    for parameter in named.values():
        parameter.grad = None
    return found


def _green(named: dict[str, nn.Parameter]) -> float:
    """The largest error of right gradients, by the precision of the model."""
    return max((GREEN.get(p.dtype, 1e-5) for p in named.values()), default=1e-5)


def gradient_error(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The largest ‖Δ‖₂ / max(‖g_p‖₂, 10⁻³ ‖g‖₂) over the parameters p, g being the reference.

    Absent gradients are 0.
    """
    norms = {name: float(_wide(g).norm()) for name, g in reference.items()}
    total = sum(n * n for n in norms.values()) ** 0.5
    worst = 0.0
    for name in gradients.keys() | reference.keys():
        like = _wide(reference[name] if name in reference else gradients[name])
        mine = _wide(gradients[name]) if name in gradients else torch.zeros_like(like)
        true = _wide(reference[name]) if name in reference else torch.zeros_like(like)
        scale = max(norms.get(name, 0.0), FLOOR * total)
        difference = float((mine - true).norm())
        worst = max(worst, difference / scale if scale else difference)
        if difference != difference:  # NaN never compares as larger
            return float("nan")
    return worst


def _spoilt(gradients: dict[str, torch.Tensor]) -> bool:
    """Whether a number is in them that is none."""
    return not all(bool(_wide(gradient).isfinite().all()) for gradient in gradients.values())


def _wide(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient in double precision, dense."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.to(torch.complex128 if dense.is_complex() else torch.float64)
