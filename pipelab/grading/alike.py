"""Pairs of students whose programs are the same once names, comments and layout are taken away.

That is a reason to look, and no proof: short right answers are often alike. So the number of parts
that are the same stands beside it.
"""

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

LONGEST = 200_000
"""Characters of a program that are compared."""
FEWEST = 40
"""Parts that a program needs to be worth comparing."""


@dataclass(frozen=True)
class Pair:
    """Two students with the same answer to an exercise; size: the parts that are the same."""

    exercise: str
    one: str
    other: str
    size: int


def normalised(source: str) -> tuple[str, int]:
    """A hash of what a program does whatever its names, and the number of its parts."""
    try:
        tree = ast.parse(source[:LONGEST])
        parts = list(_parts(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parts = source.split()
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest(), len(parts)


def _parts(tree: ast.Module) -> Iterable[str]:
    """The nodes of a program in order, its names as numbers in order of appearance."""
    numbers: dict[str, int] = {}
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "name", "")
        number = numbers.setdefault(name, len(numbers)) if isinstance(name, str) else 0
        value = repr(node.value) if isinstance(node, ast.Constant) else getattr(node, "attr", "")
        yield f"{type(node).__name__} {number} {value}"
        stack += list(ast.iter_child_nodes(node))[::-1]


def pairs(sources: Iterable[tuple[str, str, str]], stubs: dict[str, str]) -> list[Pair]:
    """Find the pairs among (exercise, student, source); what is the stub's own is nobody's."""
    owners: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for exercise, student, source in sources:
        found, size = normalised(source)
        if size >= FEWEST and found != normalised(stubs[exercise])[0]:
            owners[exercise, found, size].append(student)
    return [
        Pair(exercise, one, other, size)
        for (exercise, _, size), names in sorted(owners.items())
        for one, other in combinations(sorted(names), 2)
    ]
