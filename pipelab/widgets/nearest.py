"""Impossible settings, and the possible ones next to them."""

from collections.abc import Iterator

from ..catalogue import entry
from ..errors import UsageError
from .settings import Settings

MOST = 3
"""Offers at a time: the nearest of each kind."""
FAR = 64
"""How far a count may move."""


def offers(settings: Settings) -> list[dict]:
    """Changes that make impossible settings possible, each {"label", "changes"}: one of each kind,
    the smallest of it.

    >>> [offer["label"] for offer in offers(Settings("dualpipe", ranks=4, microbatches=6))]
    ['8 micro-batches', '2 ranks']
    """
    found = []
    for candidates in (
        _counts(settings, "microbatches"),
        _counts(settings, "ranks"),
        _stages(settings),
        _switches(settings),
    ):
        change = next((c for c in candidates if _possible(settings.with_changes(**c))), None)
        if change:
            found.append(change)
    if not found:  # two counts at once: even ranks and enough micro-batches, for instance
        found = [change for change in [_pair(settings)] if change]
    return [{"label": _label(change), "changes": change} for change in found[:MOST]]


def _possible(settings: Settings) -> bool:
    if settings.problem():
        return False
    try:
        settings.predict()
    except UsageError:
        return False
    return True


def _counts(settings: Settings, name: str) -> Iterator[dict]:
    """The same count a little larger or smaller, the larger of two equally near first; only what
    the schedule takes.
    """
    now = getattr(settings, name)
    for step in range(1, FAR):
        for count in (now + step, now - step):
            if count >= 1 and not settings.with_changes(**{name: count}).problem():
                yield {name: count}
                return


def _stages(settings: Settings) -> Iterator[dict]:
    if not entry(settings.schedule).fixed:
        yield from (
            {"stages_per_rank": count}
            for count in (1, 2, 3, 4)
            if count != settings.stages_per_rank
        )


def _switches(settings: Settings) -> Iterator[dict]:
    if settings.recompute == "early":
        yield {"recompute": "in-backward"}
    if settings.stage_costs:
        yield {"stage_costs": []}
    if settings.memory_limit:
        yield {"memory_limit": 0.0}


def _pair(settings: Settings) -> dict | None:
    for ranks in sorted(
        range(1, settings.ranks + 9), key=lambda count: abs(count - settings.ranks)
    ):
        for change in _counts(settings.with_changes(ranks=ranks), "microbatches"):
            if _possible(settings.with_changes(ranks=ranks, **change)):
                return {"ranks": ranks, **change}
    return None


_WORDS = {
    "microbatches": "{} micro-batch{es}",
    "ranks": "{} rank{s}",
    "stages_per_rank": "{} stage{s} per rank",
    "recompute": "recompute {}",
    "stage_costs": "equal stages",
    "memory_limit": "no memory limit",
}


def _label(change: dict) -> str:
    plural = {
        name: {"s": "s" * (value != 1), "es": "es" * (value != 1)} for name, value in change.items()
    }
    return " and ".join(
        _WORDS[name].format(value, **plural[name]) for name, value in change.items()
    )
