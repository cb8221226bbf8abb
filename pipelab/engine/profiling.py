"""``profile``: what each layer of a model takes for one micro-batch, measured as a rank works.

It is here and not in ``model`` since a layer costs what the engine makes of it: its forward, its
backward in two parts and its count of saved bytes are those of the stages of a run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..layout import Profile
from ..model import split
from .bench import Bench, BenchLayer, BenchLoss
from .job.batches import data_of
from .job.losses import check_loss
from .job.recipe import Recipe
from .job.where import Where
from .stage.gradients import can_have_gradient
from .stage.randomness import generator_of, put_back, shared_states
from .stage.saved_bytes import storages
from .transport import gpu
from .travel.ship import copied


def profile(
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable[..., torch.Tensor],
    *,
    microbatches: int = 1,
    device: str = "auto",
    repeats: int = 10,
    dtype: str = "float32",
) -> Profile:
    """Measure what each layer of a model, and the loss, take for one micro-batch.

    Everything runs in this process, on a copy of the model, with one thread on a processor, as a
    rank has it. ``forward``, ``input_grad`` and ``weight_grad`` are medians.

    Args:
        model: as for ``run``.
        inputs: as for ``run``; of a callable, the batch of step 0.
        targets: as for ``run``.
        loss_fn: as for ``run``.
        microbatches: into how many the batch is split; the first one is measured.
        device: "cpu", "cuda" or "auto", as for ``run``.
        repeats: how often the micro-batch goes through after two passes that warm up.
        dtype: as for ``run``; "bfloat16" measures under autocast.

    Returns:
        A Profile, for ``partition`` and for a file.

    Raises:
        UsageError: a layer that cannot be profiled, which it names, and what ``run`` refuses.

    >>> layers = [torch.nn.Linear(8, 8), torch.nn.ReLU()]
    >>> x = torch.randn(4, 8)
    >>> measured = profile(layers, x, x, torch.nn.functional.mse_loss, repeats=1)
    >>> [layer.activation_bytes for layer in measured.layers]  # its input; its output
    [128, 128]
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise UsageError(f"repeats is {repeats!r}; it is a whole number, 1 or more.")
    check_loss(loss_fn)
    recipe = Recipe(dtype=dtype)
    on_gpu = Where.of(device, "auto", "pipelab").device == "cuda"
    where = gpu.device_of(0) if on_gpu else torch.device("cpu")
    named = [(n, m) for n, m in split(model, 1)[0]._modules.items() if m is not None]
    batch = data_of(inputs, targets, microbatches, None).batch(0).to(where)
    (modules, loss_fn) = copied(([module for _, module in named], loss_fn))
    for module in [*modules, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])]:
        module.to(where)
    layers = [BenchLayer(i, module) for i, module in enumerate(modules)]
    layers.append(BenchLoss(len(layers), loss_fn, batch.targets_of(0).each(torch.clone)))
    bench = Bench(layers, batch.inputs_of(0), where, half=recipe.dtype == "bfloat16")
    with as_a_rank(where):
        bench.measure(repeats)
    *rows, loss = layers
    return Profile(
        device=where.type,
        dtype=_dtype(recipe, modules),
        microbatch=len(batch.inputs_of(0)[0]),
        layers=tuple(
            row.profile(f"{name} {type(module).__name__}")
            for row, (name, module) in zip(rows, named, strict=True)
        ),
        loss=loss.profile("loss"),
        input_bytes=sum(storages(batch.inputs_of(0)).values()),
    )


def _dtype(recipe: Recipe, modules: list[nn.Module]) -> str:
    """What is computed in: autocast's type, or that of the weights."""
    if recipe.dtype != "float32":
        return recipe.dtype
    types = [p.dtype for m in modules for p in m.parameters() if can_have_gradient(p)]
    return str(max(set(types), key=types.count, default=torch.float32)).removeprefix("torch.")


@contextmanager
def as_a_rank(where: torch.device) -> Iterator[None]:
    """One thread and a backward on it, as a rank has; afterwards all is as it was."""
    threads, states = torch.get_num_threads(), (torch.get_rng_state(), shared_states())
    generator = generator_of(where)
    of_gpu = None if generator is None else generator.get_state()
    torch.set_num_threads(1)
    try:
        with torch.autograd.set_multithreading_enabled(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        put_back(states[1])
        if generator is not None and of_gpu is not None:
            generator.set_state(of_gpu)
