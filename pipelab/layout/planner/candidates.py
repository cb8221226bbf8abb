"""All layouts of so many GPUs that the planner compares, and why it does not compare others."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...catalogue import entry
from ...errors import UsageError
from .layout import CHOICES, Layout, problem
from .machine import Machine
from .model import Transformer
from .step_seconds import has_closed_form

SCHEDULES = ("1f1b", "zb-h1", "interleaved-1f1b")
"""Those compared for a pipeline: synchronous, and with a closed form: thousands are quick."""
CHUNKS = (2, 3, 4, 6, 8)
MICROBATCHES = (1, 2, 4, 8, 16)
ACTIONS = 4_000
"""Of the largest schedule that the search simulates for each layout that has it."""
FIXABLE = (
    "tensor", "pipeline", "data", "stages_per_rank", "microbatch", "schedule", "recompute", "zero",
    "sequence_parallel",
)  # fmt: skip
"""What ``fix`` can name."""


def divisors(n: int) -> list[int]:
    """Of a whole number, smallest first."""
    return [i for i in range(1, n + 1) if n % i == 0]


def require_fixable(fix: Mapping[str, Any]) -> None:
    """Raise UsageError for a name or value that cannot be fixed."""
    for name, value in fix.items():
        if name not in FIXABLE:
            raise UsageError(f"{name} cannot be fixed; these can: {', '.join(FIXABLE)}.")
        if name in CHOICES and value not in CHOICES[name]:
            said = " | ".join(map(str, CHOICES[name]))
            raise UsageError(f"{name} is {value!r}; it is {said}.")
        if name == "sequence_parallel" and not isinstance(value, bool):
            raise UsageError(f"sequence_parallel is {value!r}; it is true or false.")
        counts = ("tensor", "pipeline", "data", "stages_per_rank", "microbatch")
        if name in counts and (not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} is {value!r}; it is a whole number, 1 or more.")


def candidates(
    model: Transformer,
    machine: Machine,
    gpus: int,
    layout: Layout,
    fix: Mapping[str, Any],
    rejected: Counter[str],
) -> Iterator[Layout]:
    """Layouts that are possible; those that are not are counted in ``rejected`` by reason.

    layout: whose batch and options all of them have. A reason that holds whatever else is chosen
    counts once.
    """
    for t, p, d in _meshes(gpus, fix):
        split = t > 1 if "sequence_parallel" not in fix else fix["sequence_parallel"]
        mesh = replace(layout, tensor=t, pipeline=p, data=d, sequence_parallel=split)
        for name, v in _orders(model, p, fix):
            for b in _values(fix, "microbatch", MICROBATCHES):
                one = replace(mesh, schedule=name, stages_per_rank=v, microbatch=b)
                found = problem(one, model, machine)
                reason = found[0] if found else _too_slow(one, fix)
                if reason:
                    rejected[reason] += 1
                else:
                    yield from _options(one, fix)


def _meshes(gpus: int, fix: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    for t in divisors(gpus):
        for p in divisors(gpus // t):
            mesh = {"tensor": t, "pipeline": p, "data": gpus // t // p}
            if all(fix.get(name, value) == value for name, value in mesh.items()):
                yield t, p, gpus // t // p


def _orders(model: Transformer, p: int, fix: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Schedules with their stages per rank."""
    if p == 1 and fix.get("schedule", "1f1b") == "1f1b":
        if fix.get("stages_per_rank", 1) == 1:
            yield "1f1b", 1
        return
    if p == 1:
        return
    for name in _values(fix, "schedule", SCHEDULES):
        if name == "interleaved-1f1b":
            chunks = [v for v in CHUNKS if model.layers % (p * v) == 0]
        else:
            chunks = [entry(name).stages_per_rank]
        for v in _values(fix, "stages_per_rank", chunks):
            if name == "interleaved-1f1b" or v in chunks:
                yield name, v


def _too_slow(one: Layout, fix: Mapping[str, Any]) -> str | None:
    """Why a layout would have to be simulated, which is done for a schedule that is fixed."""
    if has_closed_form(one):
        return None
    if "schedule" in fix:
        actions = 3 * one.stages * one.microbatches
        return "too many actions to simulate" if actions > ACTIONS else None
    if one.schedule == "interleaved-1f1b":
        return "micro-batches do not divide by the ranks, to interleave"
    return "fewer micro-batches than ranks, for zb-h1"


def _options(one: Layout, fix: Mapping[str, Any]) -> Iterator[Layout]:
    """Recomputation and ZeRO; with flash attention selective recomputation saves nothing."""
    ways = ("none", "full") if one.flash else CHOICES["recompute"]
    for recompute in _values(fix, "recompute", ways):
        for zero in _values(fix, "zero", CHOICES["zero"] if one.data > 1 else (0,)):
            yield replace(one, recompute=recompute, zero=zero)


def _values(fix: Mapping[str, Any], name: str, values: Any) -> Any:
    return (fix[name],) if name in fix else values
