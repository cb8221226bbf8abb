"""Impossible settings, and the possible ones next to them."""

from collections.abc import Iterable, Iterator
from typing import Any

from ..catalogue import entry
from ..errors import UsageError
from .settings import Settings

MOST = 3
"""Offers at a time: the nearest of each kind."""
FAR = 64
"""How far a count may move."""
Change = dict[str, Any]


def offers(settings: Settings) -> list[dict[str, Any]]:
    """Changes that make impossible settings possible: the smallest of each kind.

    Each is ``{"label", "changes"}``.

    >>> [offer["label"] for offer in offers(Settings("dualpipe", ranks=4, microbatches=6))]
    ['8 micro-batches', '2 ranks']
    """
    kinds = (
        _counts(settings, "microbatches"),
        _counts(settings, "ranks"),
        _stages(settings),
        _switches(settings),
    )
    firsts = [_first_possible(settings, candidates) for candidates in kinds]
    if not any(firsts):  # two counts at once: even ranks and enough micro-batches, for instance
        firsts = [_pair(settings)]
    found = [change for change in firsts if change]
    return [{"label": _label(change), "changes": change} for change in found[:MOST]]


def _first_possible(settings: Settings, candidates: Iterable[Change]) -> Change | None:
    return next((c for c in candidates if _possible(settings.with_changes(**c))), None)


def _possible(settings: Settings) -> bool:
    if settings.problem():
        return False
    try:
        settings.predict()
    except UsageError:
        return False
    return True


def _counts(settings: Settings, name: str) -> Iterator[Change]:
    """The nearest count that the schedule takes; of two equally near ones, the larger."""
    now = getattr(settings, name)
    for step in range(1, FAR):
        for count in (now + step, now - step):
            if count >= 1 and not settings.with_changes(**{name: count}).problem():
                yield {name: count}
                return


def _stages(settings: Settings) -> Iterator[Change]:
    if entry(settings.schedule).fixed:
        return
    for count in (1, 2, 3, 4):
        if count != settings.stages_per_rank:
            yield {"stages_per_rank": count}


def _switches(settings: Settings) -> Iterator[Change]:
    if settings.recompute == "early":
        yield {"recompute": "in-backward"}
    if settings.stage_costs:
        yield {"stage_costs": []}
    if settings.memory_limit:
        yield {"memory_limit": 0.0}


def _pair(settings: Settings) -> Change | None:
    """The nearest number of ranks that is possible with some number of micro-batches."""
    for ranks in sorted(range(1, settings.ranks + 9), key=lambda n: abs(n - settings.ranks)):
        for change in _counts(settings.with_changes(ranks=ranks), "microbatches"):
            if _possible(settings.with_changes(ranks=ranks, **change)):
                return {"ranks": ranks, **change}
    return None


_WORDS = {
    "microbatches": ("{} micro-batch", "{} micro-batches"),
    "ranks": ("{} rank", "{} ranks"),
    "stages_per_rank": ("{} stage per rank", "{} stages per rank"),
    "recompute": ("recompute {}", "recompute {}"),
    "stage_costs": ("equal stages", "equal stages"),
    "memory_limit": ("no memory limit", "no memory limit"),
}
"""What a change is called: of one, and of several."""


def _label(change: Change) -> str:
    words = []
    for name, value in change.items():
        one, several = _WORDS[name]
        words.append((one if value == 1 else several).format(value))
    return " and ".join(words)
