"""The exercises of a folder: where each one's stub and tests are."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnknownName, UsageError

_NAME = re.compile(r"(\d\d)_(\w+)")


@dataclass(frozen=True)
class Exercise:
    """An exercise in its folder.

    ``number`` is "06" and ``name`` is the folder's, "06_one_f_one_b". ``tests`` is what is run, and
    ``file``, beside it, what the student edits.
    """

    number: str
    name: str
    tests: Path
    file: Path

    @property
    def slug(self) -> str:
        """The name without its number: "one_f_one_b"."""
        return self.name.partition("_")[2]

    @property
    def title(self) -> str:
        """The first heading of its README."""
        readme = self.tests.parent / "README.md"
        lines = readme.read_text(encoding="utf-8").splitlines() if readme.exists() else []
        return next((line.lstrip("# ") for line in lines if line.startswith("#")), self.name)

    def worth(self) -> list[tuple[str, str, float]]:
        """Name, title and points of each test, as its file says; nothing is run for it."""
        found = []
        for node in ast.walk(ast.parse(self.tests.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                marks = [each for each in node.decorator_list if isinstance(each, ast.Call)]
                for mark in marks:
                    if ast.unparse(mark.func) == "pytest.mark.points":
                        points, *title = [ast.literal_eval(each) for each in mark.args]
                        found.append((node.name, (title or [node.name])[0], float(points)))
        return found


def exercises(folder: str | Path | None = None, names: Sequence[str] = ()) -> list[Exercise]:
    """List the exercises of a folder, in order.

    Args:
        folder: where they are; without it, the nearest folder "exercises".
        names: which of them, by number ("06"), by name ("one_f_one_b") or by folder
            ("06_one_f_one_b"); without any, all.

    Raises:
        UsageError: there are no exercises in the folder.
        UnknownName: none of them has such a name; the text lists those that there are.
    """
    place = (Path(folder) if folder is not None else nearest()).resolve()
    found = [one for one in map(_exercise, _folders(place)) if one is not None]
    if not found:
        raise UsageError(
            f"There are no exercises in {place}: folders such as 06_one_f_one_b, each with a test "
            "and a file."
        )
    return [_named(name, found) for name in names] if names else found


def _folders(place: Path) -> list[Path]:
    return sorted(place.iterdir()) if place.is_dir() else []


def _exercise(folder: Path) -> Exercise | None:
    """The exercise that a folder holds; None where it holds none."""
    match, tests = _NAME.fullmatch(folder.name), sorted(folder.glob("test_*.py"))
    if not match or len(tests) != 1:
        return None
    stem = tests[0].stem.removeprefix("test_")
    files = [path for path in sorted(folder.glob(f"{stem}.*")) if path.suffix in (".py", ".csv")]
    return Exercise(match[1], folder.name, tests[0], files[0]) if files else None


def _named(name: str, found: Sequence[Exercise]) -> Exercise:
    wanted = name.strip().rstrip("/").replace("-", "_")
    for one in found:
        if wanted.zfill(2) == one.number or wanted in (one.slug, one.name):
            return one
    raise UnknownName("exercise", name, [one.name for one in found])


def nearest() -> Path:
    """Find the folder "exercises": here or in a folder above, else in this package's checkout."""
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / "exercises").is_dir():  # first, for a checkout that is itself called so
            return place / "exercises"
        if place.name == "exercises":
            return place
    return Path(__file__).parents[2] / "exercises"
