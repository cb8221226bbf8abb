"""The goals of the course's labs, as data by slug; ``goals.toml`` has them all."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UnknownName

_FILE = Path(__file__).with_name("goals.toml")


@lru_cache(maxsize=1)
def all_goals() -> dict[str, list[dict[str, Any]]]:
    """Every list of goals: dicts with text, when, and where they have them how and why."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def goals(slug: str) -> list[dict[str, Any]]:
    """The goals under a slug, such as "03-build", in order.

    Raises UnknownName, which lists the slugs.

    >>> goals("00-memory")[0]["how"]
    {'schedule': '1f1b'}
    """
    if slug not in all_goals():
        raise UnknownName("list of goals", slug, all_goals())
    return [dict(goal) for goal in all_goals()[slug]]
