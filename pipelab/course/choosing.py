"""Notebook 11: its questions, which the planner answers, and its pictures.

In: models and machines by name, or a Plan. Out: whether a pipeline is needed as a picture, and the
pipeline of a planned layout run for real, paced.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape

from ..errors import UsageError
from ..layout.planner import DEVICES, Plan, plan
from .figures import COLOURS, WIDTH, Picture, label, short, svg
from .kinds import Choice, Curve, Option, Question

SLOW, FAST = 3, 50
"""GB/s of each GPU to other nodes."""
RANKS = (1, 2, 4, 8, 16)


@lru_cache(maxsize=64)
def planned(
    model: str,
    device: str,
    network: float | None = None,
    *,
    gpus: int,
    batch: int,
    pipeline: int | None = None,
) -> Plan:
    """A plan with flash attention.

    Args:
        model: by name.
        device: by name.
        network: GB/s of each GPU to other nodes; without it, what the device's clusters have.
        gpus: how many.
        batch: samples of a step.
        pipeline: ranks that every layout has, if they are fixed.

    Returns:
        The Plan.

    Raises:
        UsageError: nothing fits.
    """
    machine = DEVICES[device]
    if network is not None:
        machine = replace(machine, network_bandwidth=network)
    fix = {} if pipeline is None else {"pipeline": pipeline}
    return plan(model, device=machine, gpus=gpus, batch=batch, flash=True, fix=fix)


def by_ranks(network: float) -> list[float]:
    """Seconds of the best step of the 70B on 64 GPUs, for each number of ranks."""
    found = [planned("llama-70b", "h100", network, gpus=64, batch=64, pipeline=p) for p in RANKS]
    return [one.rows[0].estimate.seconds for one in found]


QUESTIONS: dict[str, Question] = {
    "11-seven": Choice(
        "A model of 7 billion parameters, and one node of 8 A100 with 80 GB each. With Adam the "
        "model needs 121 GB before the first activation. A step has 64 samples of 4,096 tokens. "
        "Which layout is the fastest?",
        (
            Option("a pipeline of 8 ranks: the model is too large for one GPU",
                   "Too large for one GPU is not yet a reason: copies can divide what they hold."),
            Option("all 8 share every layer: they are in one node",
                   "They sum activations four times for each layer and micro-batch, and each "
                   "multiplies with an eighth of a matrix."),
            Option("8 copies that divide weights, gradients and Adam's state: ZeRO 3"),
        ),
        "Inside a node gathering is cheap, and it runs beside the computation. No rank waits for "
        "another.",
        "What if the batch had 8 samples?",
    ),
    "11-slow-network": Curve(
        "A model of 70 billion parameters on 64 H100, 8 in a node, and a batch of 64 samples of "
        "8,192 tokens. The network is slow: 3 GB/s for each GPU. p GPUs make a pipeline; whatever "
        "else is chosen is the best for this p. Draw the seconds of a step. (At their peak, all 64 "
        "would take 4 s.)",
        RANKS,
        lambda: by_ranks(SLOW),
        "ranks p", "seconds of a step",
        "Without a pipeline, the gradients and weights of all layers cross the slow network. A "
        "pipeline sends activations there. With 16 ranks the bubble is long, and forwards run "
        "twice.",
        "What if the network had 50 GB/s?",
        unit="s", low=0, high=30,
    ),
    "11-trillion": Choice(
        "A model of a trillion parameters on 3,072 A100 with 80 GB each. Weights, gradients and "
        "Adam's state take 18 TB. Somebody proposes no pipeline at all: 8 GPUs of a node share the "
        "layers, and 384 copies divide the rest (ZeRO 3). What about it?",
        (
            Option("it does not fit: a node has 0.64 TB",
                   "Divided among all 3,072 GPUs, 18 TB are 6 GB on each."),
            Option("it fits, and it is slower than the best pipeline"),
            Option("it fits, and it is faster: it has no bubble",
                   "It has none. But to gather seldom it needs large micro-batches, and for these "
                   "there is only room if every layer runs its forward again."),
        ),
        "A pipeline sends little and keeps its weights. Its bubble costs less than running all "
        "forwards twice.",
        "What if the GPUs had twice the memory?",
    ),
    "11-trace": Choice(
        "Four ranks train, and you look at the trace of a step. The row of rank 2 has hardly a "
        "gap. Ranks 0, 1 and 3 do nothing for a third of the step and more. Where is the time "
        "lost?",
        (
            Option("on ranks 0, 1 and 3: that is where the gaps are",
                   "They wait for something. A gap says who waits, not why."),
            Option("on rank 2"),
            Option("between the ranks: in a gap, data is under way",
                   "Then rank 2 would wait for its data as well. The trace tells waiting from "
                   "transfer."),
        ),
        "The row without gaps is the one that all others wait for. A faster rank 2 would shorten "
        "the step; faster ranks 0, 1 and 3 would only wait longer.",
        "What if all four rows had the same gaps?",
    ),
}  # fmt: skip


ANSWERS = {
    "yes": ("needed", COLOURS["truth"], "#FFFFFF"),
    "optional": ("optional", "#9BB8D3", "#111111"),
    "no": ("not needed", "#E6E6E6", "#111111"),
    "": ("does not fit", "none", ""),
}
"""What a cell says, its colour, and that of its text."""


def needs(
    models: Sequence[str],
    gpus: Sequence[int],
    networks: Sequence[float] = (FAST, SLOW),
    *,
    device: str = "h100",
    batch: int = 512,
) -> Picture:
    """Draw whether a pipeline is needed: a row per model, GPUs across, for each network.

    In each cell stand the seconds of the best step without a pipeline, and with one.

    Args:
        models: by name.
        gpus: how many of them.
        networks: GB/s of each GPU to other nodes.
        device: by name.
        batch: samples of a step.

    Returns:
        The picture.

    >>> "llama-7b on 8, network 50: optional" in needs(["llama-7b"], [8], [50], batch=64).svg
    True
    """
    left, top, high = 86, 46, 44
    wide = (WIDTH - left) / (len(gpus) * len(networks))
    parts, said = [], []
    for i, network in enumerate(networks):
        x = left + wide * len(gpus) * i
        middle = x + wide * len(gpus) / 2
        parts.append(label(middle, 14, f"network {network:g} GB/s", "middle"))
        for j, count in enumerate(gpus):
            at = x + wide * (j + 0.5)
            parts.append(label(at, 36, f"{count} GPUs", "middle", faint=True))
        for k, model in enumerate(models):
            y = top + k * high
            if i == 0:
                parts.append(label(left - 8, y + 24, model, "end"))
            for j, count in enumerate(gpus):
                answer, numbers = _needed(model, device, network, count, batch)
                words, colour, ink = ANSWERS[answer]
                said.append(f"{model} on {count}, network {network:g}: {words} {numbers}".strip())
                place = x + wide * j + 2
                parts.append(
                    f'<rect x="{place:.1f}" y="{y}" width="{wide - 4:.1f}" height="{high - 4}" '
                    f'rx="3" fill="{colour}" stroke="currentColor" stroke-opacity="0.35"/>'
                )
                for down, text in ((17, words), (33, numbers)):
                    fill = f'fill="{ink}"' if ink else 'fill="currentColor" fill-opacity="0.75"'
                    parts.append(
                        f'<text x="{place + wide / 2 - 2:.1f}" y="{y + down}" {fill} '
                        'text-anchor="middle" font-family="system-ui, sans-serif" '
                        f'font-size="12">{escape(text)}</text>'
                    )
    return Picture(svg(parts, top + high * len(models) + 4, "; ".join(said)))


def _needed(model: str, device: str, network: float, gpus: int, batch: int) -> tuple[str, str]:
    """The answer, and seconds without and with a pipeline."""
    try:
        found = planned(model, device, network, gpus=gpus, batch=batch)
    except UsageError:
        return "", ""
    best = []
    for piped in (False, True):
        took = [r.estimate.seconds for r in found.rows if (r.layout.pipeline > 1) is piped]
        best.append(short(took[0]) if took else "–")
    return found.pipeline_needed["answer"], " | ".join(best)


def played(found: Plan, row: int = 0, *, seconds: float = 2.5) -> float:
    """Run the pipeline of a planned row for real, paced, and say how long its step would be.

    One of its pipelines runs, with a worker for each rank and a small model: every action takes
    its planned share of the time.

    Args:
        found: the plan.
        row: its number.
        seconds: that a step may take here.

    Returns:
        Seconds of a step on the planned machine, with what comes after the pipeline.
    """
    from ..engine import run
    from ..layout.planner.step_seconds import (
        schedule_of,
        stage_costs,
        stage_seconds,
        transfer_seconds,
    )
    from ..model import workload
    from ..simulator import Costs, simulate

    layout, estimate = found.rows[row].layout, found.rows[row].estimate
    stages = stage_seconds(found.model, found.machine, layout)
    transfer = transfer_seconds(found.model, found.machine, layout)
    costs, schedule = stage_costs(layout, stages, transfer), schedule_of(layout)
    share = seconds / simulate(schedule, costs).makespan

    def scaled(seconds: object) -> list[float]:
        return [share * one for one in seconds] if isinstance(seconds, Sequence) else []

    pace = Costs(
        forward=scaled(costs.forward),
        input_grad=scaled(costs.input_grad),
        weight_grad=scaled(costs.weight_grad),
    )
    job = workload("mlp", layers=layout.stages, width=8, batch=layout.microbatches)
    done = run(
        job.model, job.batches, None, job.loss_fn, schedule=schedule, pace=pace,
        latency=share * transfer if costs.latency else 0.0,
    )  # fmt: skip
    rest = estimate.seconds_by_part["data"] + estimate.seconds_by_part["optimizer"]
    return done.timeline.makespan / share + rest
