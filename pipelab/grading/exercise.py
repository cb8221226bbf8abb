"""The exercises of a folder: where each one's stub and tests are."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnknownName, UsageError

_NAME = re.compile(r"(\d\d)_(\w+)")


@dataclass(frozen=True)
class Exercise:
    """number: "06". name: the folder's, "06_one_f_one_b". tests: what is run. file: what the
    student edits, beside it.
    """

    number: str
    name: str
    tests: Path
    file: Path

    @property
    def title(self) -> str:
        """The first heading of its README."""
        readme = self.tests.parent / "README.md"
        lines = readme.read_text(encoding="utf-8").splitlines() if readme.exists() else []
        return next((line.lstrip("# ") for line in lines if line.startswith("#")), self.name)


def exercises(
    folder: str | Path | None = None, numbers: tuple[str, ...] | list[str] = ()
) -> list[Exercise]:
    """The exercises in ``folder`` (default: the nearest folder "exercises"), all or those of these
    numbers, in order.

    Raises UsageError where there are none, UnknownName for a number that none has.
    """
    place = Path(folder) if folder is not None else nearest()
    found = {}
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        match, tests = _NAME.fullmatch(one.name), sorted(one.glob("test_*.py"))
        if match and len(tests) == 1:
            stem = tests[0].stem.removeprefix("test_")
            files = [
                path for path in sorted(one.glob(f"{stem}.*")) if path.suffix in (".py", ".csv")
            ]
            if files:
                found[match[1]] = Exercise(match[1], one.name, tests[0], files[0])
    if not found:
        raise UsageError(
            f"There are no exercises in {place}: folders such as 06_one_f_one_b, each with a test "
            "and a file."
        )
    for number in numbers:
        if number.zfill(2) not in found:
            raise UnknownName("exercise", number, found)
    return [found[number.zfill(2)] for number in numbers] if numbers else list(found.values())


def nearest() -> Path:
    """The folder "exercises" here or in a folder above, else the one of the checkout that this
    package is in.
    """
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / "exercises").is_dir():  # first, for a checkout that is itself called so
            return place / "exercises"
        if place.name == "exercises":
            return place
    return Path(__file__).parents[2] / "exercises"
