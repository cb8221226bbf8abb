"""The students' copy of the course, and what lets platforms grade it.

A handout is complete alone: notebooks, exercises, this package as a wheel, and how to begin. It has
no answers, no page for teachers and no hidden tests. An autograder has the exercises and the hidden
tests; it is for the teacher.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .exercise import Exercise, nearest
from .wheel import NAME, license_text, write_wheel

LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", ".*", "*.pyc", "guesses.json", "points.json", "TEACHING.md", "trace.json",
    "torch_by_hand.py",
)  # fmt: skip
"""The guesses in the folder are the teacher's, and so is what notebook 11 has written there."""
TEMPLATES = Path(__file__).parent / "templates"


def handout(folder: str | Path, exercises: str | Path | None = None) -> Path:
    """Copy the exercises, and the notebooks beside them, into a new folder.

    Solutions are kept elsewhere from the start, so nothing has to be taken out. Raises UsageError
    when the folder is there already and is not empty.
    """
    target, source = _new(folder), Path(exercises or nearest()).resolve()
    shutil.copytree(source, target / "exercises", ignore=LEFT_OUT, dirs_exist_ok=True)
    notebooks = source.parent / "notebooks"
    if notebooks.is_dir():
        shutil.copytree(notebooks, target / "notebooks", ignore=LEFT_OUT, dirs_exist_ok=True)
    write_wheel(target)
    (target / "README.md").write_text(_filled("handout.md"), encoding="utf-8")
    (target / "LICENSE").write_text(license_text(), encoding="utf-8")
    shutil.copy(TEMPLATES / "gitignore", target / ".gitignore")
    return target


def autograder(
    folder: str | Path, exercises: Sequence[Exercise], hidden: str | Path | None = None
) -> Path:
    """Write what Gradescope, GitHub Classroom and Docker need to grade these exercises.

    Args:
        folder: a new one; in it are gradescope.zip, classroom.yml and the folder docker.
        exercises: with the teacher's tests.
        hidden: a folder of more tests.

    Raises:
        UsageError: the folder is there already and is not empty.
    """
    target = _new(folder)
    names = " ".join(exercise.number for exercise in exercises)
    flag = "" if hidden is None else "--hidden hidden"
    (target / "classroom.yml").write_text(_filled("classroom.yml", names), encoding="utf-8")
    docker = target / "docker"
    docker.mkdir()
    _tests(docker, exercises, hidden)
    inside = '"--hidden", "/grader/hidden", ' if hidden is not None else ""
    (docker / "Dockerfile").write_text(_filled("Dockerfile", names, inside), encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        _tests(Path(place), exercises, hidden)
        for name in ("setup.sh", "run_autograder"):
            (Path(place) / name).write_text(_filled(name, names, flag), encoding="utf-8")
            (Path(place) / name).chmod(0o755)
        with zipfile.ZipFile(target / "gradescope.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(place).rglob("*")):
                archive.write(path, path.relative_to(place))
    return target


def _new(folder: str | Path) -> Path:
    target = Path(folder).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} is there already: a handout goes into a new or an empty folder."
        )
    target.mkdir(parents=True, exist_ok=True)
    return target


def _tests(place: Path, exercises: Sequence[Exercise], hidden: str | Path | None) -> None:
    """The package and the tests."""
    write_wheel(place)
    for exercise in exercises:
        folder = exercise.tests.parent
        shutil.copytree(folder, place / "exercises" / exercise.name, ignore=LEFT_OUT)
    settings = exercises[0].tests.parents[1] / "pytest.ini"
    if settings.exists():
        shutil.copy(settings, place / "exercises")
    if hidden is not None:
        shutil.copytree(hidden, place / "hidden", ignore=LEFT_OUT)


def _filled(name: str, exercises: str = "", hidden: str = "") -> str:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return text.replace("WHEEL", NAME).replace("EXERCISES", exercises).replace("HIDDEN", hidden)
