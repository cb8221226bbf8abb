"""The course's one table: its notebooks in order, each with its exercises.

In: ``notebooks/course.toml``, in a checkout, in a handout, or as the wheel installed it. Out:
Lessons with their Tasks, as values.
"""

import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError

TABLE = "notebooks/course.toml"


@dataclass(frozen=True)
class Task:
    """An exercise as the course lists it.

    ``section`` is the part of the notebook to read again; ``folder`` is its place in ``exercises``.
    """

    number: str
    slug: str
    title: str
    points: int
    section: str

    @property
    def folder(self) -> str:
        """The exercise's folder, such as "06_one_f_one_b"."""
        return f"{self.number}_{self.slug}"


@dataclass(frozen=True)
class Lesson:
    """A notebook as the course lists it.

    ``difficulty`` is 1 to 3; ``needs`` are the numbers of the notebooks to read before it;
    ``guesses`` and ``goals`` are the slugs under which the learner's are stored; ``measured`` is
    the guess that the notebook ends with, and ``remember`` its sentence.
    """

    number: str
    slug: str
    title: str
    minutes: int
    difficulty: int
    needs: tuple[str, ...]
    guesses: tuple[str, ...]
    goals: tuple[str, ...]
    measured: str
    remember: str
    exercises: tuple[Task, ...]

    @property
    def file(self) -> str:
        """The notebook's file, such as "00-start-here.ipynb"."""
        return f"{self.number}-{self.slug}.ipynb"


def lessons(home: str | Path | None = None) -> list[Lesson]:
    """Read the course.

    Args:
        home: the folder that holds ``notebooks/``; without it, the course of this package.

    Raises:
        UsageError: there is no course, or its table cannot be read.

    >>> [lesson.slug for lesson in lessons()][:2]
    ['start-here', 'naive-model-parallelism']
    """
    path = (find_home() if home is None else Path(home)) / TABLE
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["notebook"]
        return [_lesson(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a table of the course: {error}") from error


def find_home() -> Path:
    """Find the folder that holds ``notebooks/``.

    It is the handout or checkout that this is run in, else the package's checkout, else what the
    wheel installed.

    Raises:
        UsageError: neither is there.
    """
    here = Path.cwd()
    places = [Path(__file__).parents[2], Path(sysconfig.get_path("data")) / "share" / "pipelab"]
    places = [here, *here.parents, *places]
    for place in places:
        if (place / TABLE).is_file():
            return place
    raise UsageError(
        f"the notebooks are missing: found no {TABLE} in {' or '.join(map(str, places[-2:]))}, nor "
        f"in {here} or above it. "
        "Install pipelab again, or run it from a checkout (pip install -e .)"
    )


def _lesson(row: dict[str, Any]) -> Lesson:
    tasks = tuple(Task(**task) for task in row.get("exercise", ()))
    facts = {name: value for name, value in row.items() if name != "exercise"}
    facts |= {name: tuple(row[name]) for name in ("needs", "guesses", "goals")}
    return Lesson(**facts, exercises=tasks)
