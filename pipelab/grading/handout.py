"""The students' copy of the course: notebooks and exercises, and no answers."""

import shutil
from pathlib import Path

from ..errors import UsageError
from .exercise import nearest

LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "guesses.json")
"""The guesses in the folder are the teacher's."""


def handout(folder: str | Path, exercises: str | Path | None = None) -> Path:
    """Copy the exercises, and the notebooks beside them, into a new folder.

    Solutions are kept elsewhere from the start, so nothing has to be taken out. Raises UsageError
    when the folder is there already and is not empty.
    """
    target, source = Path(folder), Path(exercises) if exercises else nearest()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} is there already: a handout goes into a new or an empty folder."
        )
    shutil.copytree(source, target / "exercises", ignore=LEFT_OUT, dirs_exist_ok=True)
    notebooks = source.parent / "notebooks"
    if notebooks.is_dir():
        shutil.copytree(notebooks, target / "notebooks", ignore=LEFT_OUT, dirs_exist_ok=True)
    return target
