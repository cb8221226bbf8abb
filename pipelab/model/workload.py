"""A model with its data, its loss and its optimizer: all that `pipelab train` needs.

In: a name and a size. Out: a `Workload`, whose parts go straight into `pipelab.run`.
The same arguments give the same numbers, on every machine with the same Python and torch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from ..errors import UnknownName, UsageError
from .gpt import gpt, next_character_loss
from .mlp import mlp, spirals
from .text import VOCABULARY, standard_library_text, standard_library_words

NAMES = ["gpt", "mlp"]
Draw = Callable[[int, torch.Generator], tuple[torch.Tensor, torch.Tensor]]
"""Draws so many samples: inputs and targets."""
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    # Adam makes the loss of both models fall visibly within ten steps; plain SGD needs a large step
    # and momentum for it.
    "adam": partial(torch.optim.Adam, lr=0.003),
    "adamw": partial(torch.optim.AdamW, lr=0.003),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
}
SEQUENCE = 64
"""Characters the gpt reads at once."""


@dataclass(frozen=True)
class Workload:
    """What to train, on what, towards what.

    `batches(step)` gives the same `(inputs, targets)` for the same step; `loss_fn(output,
    target)` returns a mean; `optimizer(parameters)` makes an optimizer.

    >>> from pipelab.model import workload
    >>> job = workload("mlp", layers=4, width=16, batch=8)
    >>> inputs, targets = job.batches(0)
    >>> tuple(job.model(inputs).shape), tuple(targets.shape)
    ((8, 3), (8,))
    """

    name: str
    model: nn.Sequential
    batches: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    loss_fn: Loss
    optimizer: MakeOptimizer


def workload(
    name: str = "gpt",
    *,
    layers: int = 8,
    width: int = 64,
    batch: int = 32,
    seed: int = 0,
    optimizer: str = "adam",
    vocabulary: int | None = None,
) -> Workload:
    """Build one of the models that come with the course.

    Args:
        name: "gpt" learns the next character of Python's own sources, "mlp" learns spirals.
        layers: pieces the model can be cut into, everything counted: the first and last layer too.
        width: size of the vectors between the layers.
        batch: samples in a batch.
        seed: of the weights and of the batches.
        optimizer: "adam", "adamw" or "sgd" (with momentum).
        vocabulary: of "gpt": it learns the next of so many words, not of the 96 characters. Its
            embedding and head are then large, as those of real models are.

    Raises:
        UnknownName: no such model or optimizer.
        UsageError: an impossible size; or for "gpt" a Python without sources.
    """
    if name not in NAMES:
        raise UnknownName("model", name, NAMES)
    if optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", optimizer, OPTIMIZERS)
    if vocabulary is not None and name != "gpt":
        raise UsageError("vocabulary is of a gpt; an mlp has no words")
    counts = {"layers": layers, "width": width, "batch": batch, "vocabulary": vocabulary}
    for what, count in counts.items():
        if count is None:
            continue
        if count < 1:
            raise UsageError(f"{what} must be at least 1, not {count}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed must be from 0 to {2**32 - 1}, not {seed}")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay the caller's
        torch.manual_seed(seed)
        if name == "mlp":
            model = mlp(layers=layers, width=width)
        else:
            tokens = vocabulary or len(VOCABULARY)
            model = gpt(layers=layers, width=width, vocabulary=tokens, sequence=SEQUENCE)
    draw: Draw = spirals
    loss_fn: Loss = functional.cross_entropy
    if name == "gpt":
        draw, loss_fn = partial(excerpts, vocabulary), next_character_loss
        standard_library_text()  # a Python without sources is told here, not in the first step
    return Workload(
        name=name,
        model=model,
        batches=partial(batch_of_step, draw, batch, seed),
        loss_fn=loss_fn,
        optimizer=OPTIMIZERS[optimizer],
    )


def batch_of_step(
    draw: Draw, batch: int, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of one step: another one for every step, the same one for the same step."""
    return draw(batch, torch.Generator().manual_seed(1_000_003 * seed + step))


def excerpts(
    vocabulary: int | None, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the text chosen at random, and the same shifted by one: the next characters.

    vocabulary: so many words in place of characters.

    Returns:
        Inputs and targets, both (count, SEQUENCE) of int64.
    """
    text = standard_library_words(vocabulary) if vocabulary else standard_library_text()
    starts = torch.randint(len(text) - SEQUENCE, (count, 1), generator=generator)
    places = starts + torch.arange(SEQUENCE)
    return text[places], text[places + 1]
