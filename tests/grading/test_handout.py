"""A handout is complete alone, and gives nothing away."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from pipelab import __version__
from pipelab.cli import main
from pipelab.course import table as course
from pipelab.grading import exercises
from pipelab.grading.publish import TEMPLATES, handout
from pipelab.grading.wheel import NAME

ROOT = Path(__file__).parents[2]
SOLUTIONS = Path(__file__).parent / "solutions"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return handout(tmp_path_factory.mktemp("handout") / "students", ROOT / "exercises")


def test_it_has_all_that_students_need_and_no_answers(copy):
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert {"README.md", "LICENSE", ".gitignore", NAME, "exercises/README.md"} <= names
    assert {"notebooks/course.toml", "exercises/01_makespan/test_makespan.py"} <= names
    assert not any(re.search("solution|mistake|TEACHING|guesses", name) for name in names)
    readme = (copy / "README.md").read_text()
    assert f"pip install ./{NAME}" in readme and "WHEEL" not in readme
    for heading in ("Install", "Work", "Grade", "Hand in"):
        assert f"## {heading}\n" in readme


def test_links_in_the_handout_lead_somewhere(copy):
    for page in [*copy.glob("*.md"), *copy.glob("exercises/**/*.md"), *copy.glob("notebooks/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_its_package_installs_without_the_repository(copy, tmp_path):
    place = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", place, copy / NAME], check=True, timeout=100)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); import pipelab, pipelab.cli; "
        "print(pipelab.__file__, flush=True); pipelab.cli.main(['grade', '--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=copy
    )
    assert done.stdout.startswith(str(place)), done.stderr
    assert "--submissions" in done.stdout
    with zipfile.ZipFile(copy / NAME) as wheel:
        assert not any("solution" in name or "/tests/" in name for name in wheel.namelist())
        assert (
            f"Version: {__version__}"
            in wheel.read(f"pipelab-{__version__}.dist-info/METADATA").decode()
        )


def test_the_lab_serves_the_handout_that_it_is_started_in(copy, monkeypatch):
    monkeypatch.chdir(copy / "exercises" / "01_makespan")
    assert course.find_home() == copy


def test_no_solution_is_published():
    """The tests go into the sdist, and the solutions lay among them."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert f"/{SOLUTIONS.relative_to(ROOT)}" in build["targets"]["sdist"]["exclude"]
    assert build["targets"]["wheel"]["packages"] == ["pipelab"]
    assert not [path for path in (ROOT / "pipelab").rglob("*solution*")]


@pytest.fixture
def made(tmp_path):
    hidden = tmp_path / "more" / "01_makespan"
    hidden.mkdir(parents=True)
    (hidden / "test_makespan.py").write_text("")
    flags = ["--exercises", str(ROOT / "exercises"), "--hidden", str(tmp_path / "more")]
    assert main(["autograder", str(tmp_path / "out"), "01", "06", *flags]) == 0
    return tmp_path / "out"


def test_what_gradescope_takes(made):
    with zipfile.ZipFile(made / "gradescope.zip") as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", NAME, "exercises/pytest.ini"} <= names
        assert {"exercises/06_one_f_one_b/test_one_f_one_b.py"} <= names
        assert {"hidden/01_makespan/test_makespan.py"} <= names
        assert not any("02_" in name for name in names)
        script = archive.read("run_autograder").decode()
        assert archive.getinfo("run_autograder").external_attr >> 16 & 0o111
    assert "pipelab grade 01 06 --exercises exercises --hidden hidden " in script


def test_the_script_of_gradescope_writes_its_results(made, tmp_path):
    """As on Gradescope, but for the folder /autograder."""
    place = tmp_path / "autograder"
    with zipfile.ZipFile(made / "gradescope.zip") as archive:
        archive.extractall(place / "source")
    (place / "submission").mkdir()
    shutil.copy(SOLUTIONS / "01" / "solution.py", place / "submission" / "makespan.py")
    (place / "submission_metadata.json").write_text('{"users": [{"id": 7}]}')
    (place / "venv" / "bin").mkdir(parents=True)
    for name, rest in {"python": '"$@"', "pipelab": '-m pipelab "$@"'}.items():
        (place / "venv" / "bin" / name).write_text(f"#!/bin/sh\nexec {sys.executable} {rest}\n")
        (place / "venv" / "bin" / name).chmod(0o755)
    script = (place / "source" / "run_autograder").read_text()
    script = script.replace("/autograder", str(place)).replace("01 06", "01")
    script = script.replace("--hidden hidden", "")
    subprocess.run(["bash", "-c", script], check=True, timeout=100)
    results = json.loads((place / "results" / "results.json").read_text())
    assert results["score"] == sum(test["max_score"] for test in results["tests"]) > 0


def test_what_github_and_docker_take(made):
    flow = (made / "classroom.yml").read_text()
    assert f"pip install ./{NAME}" in flow and "pipelab grade 01 06 --student" in flow
    file = (made / "docker" / "Dockerfile").read_text()
    assert '"--hidden", "/grader/hidden", "--submissions"' in file and "--network none" in file
    assert (made / "docker" / NAME).is_file()
    for text in (flow, file):
        assert not re.search(r"\b(WHEEL|EXERCISES|HIDDEN)\b", text)


@pytest.mark.parametrize("name", ["setup.sh", "run_autograder"])
def test_scripts_can_be_read_by_bash(name):
    assert subprocess.run(["bash", "-n", TEMPLATES / name], check=False).returncode == 0


def test_the_example_of_hidden_tests_in_the_page_for_teachers_works(tmp_path, monkeypatch):
    page = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
    path, example = re.search(
        r"`hidden/(\S+\.py)`:\n\n```python\n(.*?)^```", page, re.S | re.M
    ).groups()
    (tmp_path / "hidden" / path).parent.mkdir(parents=True)
    (tmp_path / "hidden" / path).write_text(example)
    number = path[:2]
    exercise = exercises(ROOT / "exercises", [number])[0]
    (tmp_path / "class" / "ada").mkdir(parents=True)
    shutil.copy(SOLUTIONS / number / "solution.py", tmp_path / "class" / "ada" / exercise.file.name)
    monkeypatch.chdir(tmp_path)
    flags = ["--exercises", str(ROOT / "exercises"), "--submissions", "class", "--out", "out"]
    assert main(["grade", number, *flags, "--hidden", "hidden"]) == 0
    tests = json.loads((tmp_path / "out" / "ada" / "grade.json").read_text())["exercises"][0][
        "tests"
    ]
    hidden = [test for test in tests if test["test"].startswith("hidden: ")]
    assert [test["status"] for test in hidden] == ["passed"]
