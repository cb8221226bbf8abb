"""The import boundary: light things stay light, and data flows one way."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pipelab

PACKAGE = Path(pipelab.__file__).parent
HEAVY = [
    "torch",
    "plotly",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "IPython",
    "multiprocessing.process",
    "ortools",
]

# The house, in the order the data flows: a room may import only rooms above it.
ROOMS = [
    "errors",
    "schedule",
    "timeline",
    "simulator",
    "search",
    "catalogue",
    "layout",
    "model",
    "engine",
    "plots",
    "course",
    "widgets",
    "grading",
    "launcher",
    "cli",
]
TORCH = {"model", "engine", "grading"}  # grading: tensors of tests and of students' files


def loaded_by(source):
    """The heavy modules that a fresh Python has loaded after running `source`."""
    report = (
        f"{source}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "source",
    [
        "import pipelab",
        "import pipelab; pipelab.simulate(pipelab.build('1f1b', ranks=2, microbatches=2)).metrics",
        "from pipelab.cli import main; main(['schedule', '--list'])",
        "from pipelab.cli import main; main(['schedule', '1f1b', '--ranks', '2', "
        "'--microbatches', '2'])",
        "from pipelab.cli import main; main(['simulate', 'gpipe', '--ranks', '2', "
        "'--microbatches', '2', '--json'])",
        "from pipelab.cli import main; main(['simulate', 'auto', '--ranks', '2', "
        "'--microbatches', '2', '--json'])",
        "from pipelab.cli import main; main(['check', 'nowhere.csv'])",
        "from pipelab.cli import main; main(['train', '--schedule', 'nowhere'])",
        "import pipelab; pipelab.Profile",
        "import pipelab; pipelab.estimate",
        "from pipelab.cli import main; main(['plan', '--model', 'gpt-3', '--device', 'h100', "
        "'--gpus', '64', '--batch', '64'])",
        "from pipelab.cli import main; main(['estimate', '--model', 'gpt-3', '--device', 'h100', "
        "'--batch', '1'])",
        "import pipelab.launcher.serve, pipelab.launcher.train, pipelab.launcher.selfcheck",
    ],
)
def test_light_things_load_nothing_heavy(source):
    assert loaded_by(source) == []


def test_this_test_would_see_it():
    assert loaded_by("import plotly") == ["plotly"]


def room_of(path):
    """The room a file belongs to; the package's own `__init__` and `__main__` belong to none."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first.startswith("__") else first


def imports(path):
    """Every module that a file imports, as an absolute name."""
    package = ["pipelab", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            if module == "pipelab":
                yield from (f"pipelab.{alias.name}" for alias in node.names)


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path)]


def test_every_room_is_known():
    assert {room_of(path) for path in FILES} <= set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_rooms_above_its_own(path):
    room = room_of(path)
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "pipelab" and len(parts) > 1 and parts[1] in ROOMS:
            assert parts[1] in allowed, f"{room} may not import {module}"
        if parts[0] == "torch":
            assert room in TORCH, f"{room} may not import torch"


# The engine, in the order its data needs: a folder imports only folders before its own.
ENGINE = ["record", "transport", "mesh", "travel", "job", "setup", "stage", "rank", "reference"]
ENGINE += ["workers", "hosts"]
ENGINE_FILES = [path for path in FILES if path.is_relative_to(PACKAGE / "engine")]


def test_every_folder_of_the_engine_is_known():
    folders = {path.parent.name for path in (PACKAGE / "engine").glob("*/__init__.py")}
    assert folders == set(ENGINE)


@pytest.mark.parametrize("path", ENGINE_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_of_the_engine_imports_only_folders_before_its_own(path):
    folder = path.parent.name
    if folder == "engine":
        return  # what begins a run may use all of them
    for module in imports(path):
        parts = module.split(".")
        if parts[:2] == ["pipelab", "engine"] and len(parts) > 2:
            before = ENGINE[: ENGINE.index(folder) + 1]
            assert parts[2] in before, f"{folder} may not import {module}"


def test_no_module_of_the_engine_imports_itself_in_a_circle():
    """Two modules that need each other cannot be read one after the other."""
    names = {}
    for path in ENGINE_FILES:
        if path.name != "__init__.py":
            names[".".join(["pipelab", *path.relative_to(PACKAGE).with_suffix("").parts])] = path
    needs = {}
    for name, path in names.items():
        used = set()
        for module in imports(path):
            used |= {other for other in names if other == module}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level and not node.module:
                folder = name.rsplit(".", node.level)[0]
                used |= {f"{folder}.{alias.name}" for alias in node.names} & names.keys()
        needs[name] = used
    graphlib.TopologicalSorter(needs).prepare()
