"""``measure_machine`` and ``train_layout``: a plan for this machine, and what its layouts take.

    measure_machine ─▶ plan(device=…) ─▶ rows ─▶ train_layout: the same step for real

A layer is timed in runs in which all workers compute at once, as they do in the layouts that are
planned: on a machine whose cores share memory that takes longer than alone.
"""

import os
import statistics
import time
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import UsageError
from ..layout import fit_link
from ..layout.planner import Layout, Measured, Transformer
from ..layout.planner.candidates import MICROBATCHES
from ..layout.planner.data_seconds import OPTIMIZER_BYTES
from ..layout.planner.layer_seconds import Seconds
from ..layout.planner.machine import MEMORY
from ..layout.planner.model import model_named
from ..model.gpt import TENSOR_PLAN, Block, Embedding, Head, next_character_loss
from ..schedule import Kind
from .outcome import Event, Run
from .profiling import as_a_rank, profile
from .training import run

STEPS = 8
"""Of a run that is timed; the first one is left out."""
LONG = 1.0
"""Seconds of a step after which no larger micro-batches are measured."""


class Trained(NamedTuple):
    """A layout that has trained: seconds of a step with its optimizer, a median; and the run."""

    seconds: float
    run: Run


def measure_machine(
    model: str | Transformer = "gpt", *, workers: int = 2, device: str = "auto"
) -> Measured:
    """Time the layers of a model, the links and the optimizer on this machine, for ``plan``.

    Args:
        model: a GPT as this package builds it, or the name of one.
        workers: how many compute at once; 2 or more.
        device: "cpu", "cuda" or "auto", as for ``run``.

    Returns:
        A Measured, for ``plan(device=…)`` and ``estimate(device=…)`` of this model, with any number
        of layers, and micro-batches of 1 to 16 samples, or as many as take a second a step.

    Raises:
        UsageError: a model that this package cannot build, fewer than two workers, a machine that
            is too busy to be measured, and what ``run`` refuses.
    """
    shape = model_named(model) if isinstance(model, str) else model
    _require_plain(shape)
    if workers < 2:
        raise UsageError(f"workers is {workers}; links are measured between 2 or more.")
    passes, (latency, bandwidth) = {}, _link(workers, device)
    for samples in MICROBATCHES:
        seconds, done = _train(
            shape, 2 * workers - 2, samples * workers, device, schedule="interleaved-1f1b",
            ranks=workers, stages_per_rank=2, microbatches=workers,
        )  # fmt: skip
        passes[samples] = _passes(shape, done, samples)
        if seconds > LONG:
            break
    flops = shape.sequence * (2.0 * shape.matrices + 4.0 * shape.sequence * shape.hidden)
    peak = max(3 * samples * flops / layer.busy for samples, (_, layer, _) in passes.items())
    device_memory, optimizer = _memory(done.device, workers), _optimizer_seconds(shape, done.device)
    return Measured(
        name="workers of this machine",
        tflops=peak / 1e12,
        memory=device_memory / 1e9,
        memory_bandwidth=OPTIMIZER_BYTES["adam"] / optimizer / MEMORY / 1e9,
        node_bandwidth=bandwidth / 1e9,
        network_bandwidth=bandwidth / 1e9,
        node_size=workers,
        gemm=1.0,
        fp32=1.0,
        link=1.0,
        hop=max(latency, 1e-9),
        source="measured",
        model=shape,
        passes=passes,
        collectives=_collectives(shape, workers, device),
    )


def train_layout(
    model: str | Transformer, layout: Layout, *, steps: int = STEPS, device: str = "auto"
) -> Trained:
    """Train a layout for real, on random tokens.

    Args:
        model: a GPT as this package builds it, or the name of one.
        layout: as a row of a Plan has it.
        steps: how many; the first one is not timed.
        device: "cpu", "cuda" or "auto", as for ``run``.

    Raises:
        UsageError: a model that this package cannot build, and what ``run`` refuses.
    """
    shape = model_named(model) if isinstance(model, str) else model
    _require_plain(shape)
    sizes = list(layout.layers(shape))
    sizes[0] += 1
    sizes[-1] += 1
    plan = TENSOR_PLAN if layout.tensor > 1 else None
    recompute = "in-backward" if layout.recompute == "full" else None
    return _train(
        shape, shape.layers, layout.batch, device, steps=steps, partition=sizes,
        schedule=layout.schedule, ranks=layout.pipeline, stages_per_rank=layout.stages_per_rank,
        microbatches=layout.microbatches, data=layout.data, zero=layout.zero, tensor=layout.tensor,
        sequence_parallel=layout.sequence_parallel, tensor_plan=plan, recompute=recompute,
    )  # fmt: skip


def _train(
    shape: Transformer, layers: int, batch: int, device: str, *, steps: int = STEPS, **options: Any
) -> Trained:
    ends: dict[int, float] = {}

    def note(event: Event) -> None:
        ends[event.step] = max(ends.get(event.step, 0.0), event.ended)

    done = run(
        _layers(shape, layers), *_tokens(shape, batch), next_character_loss,
        optimizer=torch.optim.Adam, steps=steps, device=device, on_event=note, seed=0, **options,
    )  # fmt: skip
    times = [after - before for before, after in pairwise(ends[step] for step in sorted(ends))]
    return Trained(statistics.median(times), done)


def _passes(shape: Transformer, done: Run, samples: int) -> tuple[Seconds, Seconds, Seconds]:
    """Of the embedding, a layer, and the head with the loss: F and B of the run, shared out."""
    forward, backward = done.costs.forward, done.costs.backward
    assert isinstance(forward, tuple) and isinstance(backward, tuple)
    alone = profile(
        _layers(shape, 1), *_tokens(shape, samples), next_character_loss, device=done.device
    )
    last = alone.layers[2], alone.loss
    parts = [alone.layers[:1], alone.layers[1:2], last]
    spans = [slice(0, 1), slice(1, -1), slice(-1, None)]
    found = []
    for part, span in zip(parts, spans, strict=True):
        f, b = statistics.median(forward[span]), statistics.median(backward[span])
        weights = sum(each.weight_grad for each in part)
        share = weights / (weights + sum(each.input_grad for each in part))
        found.append(Seconds(forward=f, input_grad=(1 - share) * b, weight_grad=share * b))
    return found[0], found[1], found[2]


def _link(workers: int, device: str) -> tuple[float, float]:
    """Seconds of latency, and bytes per second, between two of the workers."""
    runs = []
    for numbers in (1 << 10, 1 << 22):
        x = torch.ones(4, numbers)
        layers = [nn.PReLU() for _ in range(workers)]  # little to compute, all of it to send
        done = run(
            layers, x, x, nn.functional.mse_loss, schedule="gpipe", ranks=workers, microbatches=4,
            steps=STEPS, device=device, seed=0,
        )  # fmt: skip
        runs.append(done)
    try:
        link = fit_link(runs)
    except UsageError:
        raise UsageError(
            "The links cannot be measured: messages of 16 MiB took no longer than those of 4 KiB. "
            "The machine is busy with something else: measure again when that is over."
        ) from None
    assert link.bandwidth is not None
    return link.latency, link.bandwidth


def _collectives(shape: Transformer, workers: int, device: str) -> tuple[float, float, float]:
    """Seconds of a parameter in an all-reduce, a gather and a reduce-scatter over all workers."""
    layers, found = _layers(shape, 2), {}
    count = sum(p.numel() for layer in layers for p in layer.parameters())
    for zero in (0, 1):
        done = _train(
            shape, 2, workers, device, schedule="1f1b", ranks=1, microbatches=1, data=workers,
            zero=zero,
        ).run  # fmt: skip
        for kind in (Kind.REDUCE_GRAD, Kind.UNSHARD):
            times = [t.compute[t.schedule.kind == kind].sum() for t in done.timelines[1:]]
            found[zero, kind] = statistics.median(map(float, times)) / workers / count
    return found[0, Kind.REDUCE_GRAD], found[1, Kind.UNSHARD], found[1, Kind.REDUCE_GRAD]


def _optimizer_seconds(shape: Transformer, device: str) -> float:
    """Of a parameter in a step of Adam."""
    model = nn.Sequential(*_layers(shape, 1)).to(device)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer, times = torch.optim.Adam(model.parameters()), []
    with as_a_rank(torch.device(device)):
        for _ in range(STEPS):
            began = time.perf_counter()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    return statistics.median(times) / sum(p.numel() for p in model.parameters())


def _memory(device: str, workers: int) -> float:
    """Bytes that each worker has."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers


def _layers(shape: Transformer, count: int) -> list[nn.Module]:
    """The embedding, so many layers, and the head."""
    with torch.random.fork_rng(devices=[]):  # the caller's numbers are its own
        torch.manual_seed(0)
        blocks = [Block(shape.hidden, shape.heads) for _ in range(count)]
        first = Embedding(shape.vocabulary, shape.sequence, shape.hidden)
        return [first, *blocks, Head(shape.hidden, shape.vocabulary)]


def _tokens(shape: Transformer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs, and what follows them."""
    size, generator = (batch, shape.sequence + 1), torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocabulary, size, generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def _require_plain(shape: Transformer) -> None:
    """Raise UsageError for a model that this package does not build."""
    if shape.gated or shape.kv_heads != shape.heads or shape.ffn != 4 * shape.hidden:
        raise UsageError(
            f"{shape.name} cannot be run here: this package builds GPTs alone, whose MLP has two "
            "matrices of 4 × hidden, and as many heads of keys as of queries. gpt is one, and so "
            "is gpt-125m."
        )
