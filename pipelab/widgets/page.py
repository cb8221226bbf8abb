"""A lab as one HTML file that lives without a kernel: sliders, player, goals, idle causes."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import UnknownName, UsageError
from ..plots.bundle import bundle
from ..plots.page import as_text, assemble
from .message import order
from .settings import Settings
from .styles import styles

_HERE = Path(__file__).parent
COUNTS = ("schedule", "ranks", "microbatches", "stages_per_rank")
"""What a page can have several of."""
USUAL = {"schedule": ("naive", "gpipe", "1f1b"), "microbatches": (1, 2, 4, 8, 16, 32)}
COSTS = ("forward", "backward", "input_grad", "weight_grad", "latency", "overhead", "stage_costs")
MOST_BYTES = 30_000_000
TRAITS = (
    *("numbers", "schedules", "catalogue", "defaults", "words", "pins", "goals", "goal", "show"),
    *("paced", "progress", "pace_ms", "predicted", "run_picture", "limits"),
)
"""What a page keeps of a lab beside its settings."""


def lab_page(
    traits: Mapping[str, Any],
    settings: Settings,
    title: str,
    counts: Mapping[str, Iterable[Any]] | None = None,
) -> str:
    """The page as text.

    Args:
        traits: those of the lab as it is now, by the names in ``TRAITS``; a run that is shown is
            there too.
        settings: those of the lab.
        title: of the page.
        counts: what can be chosen beside the costs: values of "schedule", "ranks",
            "microbatches" and "stages_per_rank". The lab's own are always among them.

    Raises:
        UnknownName: a count that there is not.
        UsageError: the page would have more than 30 MB.
    """
    choices = _choices(traits, settings, counts)
    orders, refusals = _orders(settings, choices)
    state = dict(traits) | settings.to_dict()
    state |= {name: as_text(state[name]) for name in ("predicted", "run_picture")}
    state["pins"] = [pin | {"picture": as_text(pin["picture"])} for pin in traits["pins"]]
    state |= {
        "orders": orders,
        "refusals": refusals,
        "choices": {name: values for name, values in choices.items() if len(values) > 1},
        "schedules": choices["schedule"],
        "show": [
            name for name in traits["show"] if name in COSTS or len(choices.get(name, ())) > 1
        ],
        "panels": [],
        "problem": "",
        "problems": {},
        "offers": [],
        "presets": [],
        "causes": {},
        "path": {},
        "explanation": {},
        "editor": None,
    }
    return assemble(title, styles(), state, bundle(_HERE / "labpage.js"))


def _choices(
    traits: Mapping[str, Any], settings: Settings, counts: Mapping[str, Iterable[Any]] | None
) -> dict[str, list[Any]]:
    """The values of each count, in order, the lab's own among them."""
    asked = dict(USUAL if counts is None else counts)
    if counts is None and traits["schedules"]:
        asked["schedule"] = tuple(traits["schedules"])
    for name in asked:
        if name not in COUNTS:
            raise UnknownName("count", name, COUNTS)
    found = {}
    for name in COUNTS:
        values = {*asked.get(name, ()), getattr(settings, name)}
        known = [entry["name"] for entry in traits["catalogue"]]
        found[name] = sorted(values, key=known.index if name == "schedule" else None)
    return found


def _orders(
    base: Settings, choices: dict[str, list[Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions of all combinations, and why others are impossible."""
    orders: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    size = 0
    for values in product(*choices.values()):
        settings: Settings = base.with_changes(**dict(zip(choices, values, strict=True)))
        try:
            found = as_text(order(settings, settings.predict()))
        except UsageError as refusal:
            refusals.append({"settings": settings.to_dict(), "problem": str(refusal)})
            continue
        size += sum(len(value) for value in found.values() if isinstance(value, str))
        if size > MOST_BYTES:
            raise UsageError(
                f"A page with all these counts would be larger than {MOST_BYTES // 10**6} MB: "
                "name fewer."
            )
        orders.append(found)
    return orders, refusals
