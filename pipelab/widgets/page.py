"""A lab as one HTML file that lives without a kernel: sliders, player, goals, idle causes."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnknownName, UsageError
from ..plots.bundle import bundle
from ..plots.page import as_text, assemble
from ..plots.view import caption
from ..simulator import Costs
from .builder import styles
from .settings import Settings
from .training import measured_settings

if TYPE_CHECKING:
    from ..engine import Run
    from .lab import Lab

_HERE = Path(__file__).parent
COUNTS = ("schedule", "ranks", "microbatches", "stages_per_rank")
"""What a page can have several of."""
USUAL = {"schedule": ("naive", "gpipe", "1f1b"), "microbatches": (1, 2, 4, 8, 16, 32)}
COSTS = ("forward", "backward", "input_grad", "weight_grad", "latency", "overhead", "stage_costs")
MOST_BYTES = 30_000_000
_TRAITS = (
    "numbers schedules catalogue defaults words pins goals goal paced progress pace_ms predicted "
    "run_picture limits"
)


def lab_page(lab: "Lab", counts: Mapping[str, Iterable[Any]] | None = None) -> str:
    """The page as text.

    Args:
        lab: what is saved, as it is now; a run that is shown is there too.
        counts: what can be chosen beside the costs: values of "schedule", "ranks",
            "microbatches" and "stages_per_rank". The lab's own are always among them.

    Raises:
        UnknownName: a count that there is not.
        UsageError: the settings are impossible, or the page would have more than 30 MB.
    """
    if lab.timeline is None:
        raise UsageError(f"There is nothing to show: {lab.problem}")
    choices = _choices(lab, counts)
    orders, refusals = _orders(lab, choices)
    state: dict[str, Any] = {name: getattr(lab, name) for name in _TRAITS.split()}
    state |= lab.settings.to_dict()
    state |= {name: as_text(state[name]) for name in ("predicted", "run_picture")}
    state["pins"] = [pin | {"picture": as_text(pin["picture"])} for pin in lab.pins]
    state |= {
        "orders": orders,
        "refusals": refusals,
        "choices": {name: values for name, values in choices.items() if len(values) > 1},
        "schedules": choices["schedule"],
        "show": [name for name in lab.show if name in COSTS or len(choices.get(name, ())) > 1],
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
    return assemble(caption(lab.timeline), styles(), state, bundle(_HERE / "labpage.js"))


def run_page(run: "Run", settings: Settings, costs: Costs) -> str:
    """The last step of a run over its prediction, as such a page.

    Args:
        run: a finished one, of a schedule of the catalogue.
        settings: its schedule and counts.
        costs: of its pace, or those that it measured, in seconds. Its cost sliders begin there,
            with the mean forward as 1.
    """
    from .lab import Lab

    lab = Lab(**measured_settings(settings, costs).to_dict())
    lab._draw({"predicted": run.predicted, "measured": run.timeline}, costs=costs)
    return lab_page(lab, {})


def _choices(lab: "Lab", counts: Mapping[str, Iterable[Any]] | None) -> dict[str, list[Any]]:
    """The values of each count, in order, the lab's own among them."""
    asked = dict(USUAL if counts is None else counts)
    if counts is None and lab.schedules:
        asked["schedule"] = tuple(lab.schedules)
    for name in asked:
        if name not in COUNTS:
            raise UnknownName("count", name, COUNTS)
    found = {}
    for name in COUNTS:
        values = {*asked.get(name, ()), getattr(lab, name)}
        known = [entry["name"] for entry in lab.catalogue]
        found[name] = sorted(values, key=known.index if name == "schedule" else None)
    return found


def _orders(
    lab: "Lab", choices: dict[str, list[Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions of all combinations, and why others are impossible."""
    orders: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    size = 0
    for values in product(*choices.values()):
        settings: Settings = lab.settings.with_changes(**dict(zip(choices, values, strict=True)))
        try:
            order = as_text(lab._order(settings, settings.predict()))
        except UsageError as refusal:
            refusals.append({"settings": settings.to_dict(), "problem": str(refusal)})
            continue
        size += sum(len(value) for value in order.values() if isinstance(value, str))
        if size > MOST_BYTES:
            raise UsageError(
                f"A page with all these counts would be larger than {MOST_BYTES // 10**6} MB: "
                "name fewer."
            )
        orders.append(order)
    return orders, refusals
