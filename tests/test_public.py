"""What pipelab offers: the public names, and every example in a docstring."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import pipelab

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(pipelab.__path__, "pipelab.")
    if not module.name.endswith("__main__")
)


WITHOUT_A_DISTRIBUTION = """
import importlib.metadata
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
import pipelab
print(pipelab.__version__)
"""


def test_a_checkout_that_nobody_has_installed_can_be_imported():
    """On a GPU machine without network, where nothing can be installed, importing raised."""
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_DISTRIBUTION], capture_output=True, text=True, timeout=60
    )
    assert answer.stdout == "0+unknown\n", answer.stderr


def test_public_names():
    assert pipelab.__all__ == [
        "Action",
        "Costs",
        "Kind",
        "Link",
        "Memory",
        "Mesh",
        "Nodes",
        "Partition",
        "PipelabError",
        "Plan",
        "Profile",
        "Run",
        "Schedule",
        "Timeline",
        "build",
        "check",
        "cuts",
        "estimate",
        "evaluate",
        "fit_link",
        "grade",
        "guess",
        "lab",
        "layers",
        "measure_machine",
        "memory",
        "partition",
        "plan",
        "planner",
        "plot",
        "profile",
        "read_csv",
        "run",
        "shapes",
        "simulate",
        "start",
        "train_layout",
    ]
    assert dir(pipelab) == pipelab.__all__
    assert all(getattr(pipelab, name).__doc__ for name in pipelab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'gpipe'"):
        _ = pipelab.gpipe


def test_signatures_are_the_contract():
    signatures = {
        name: list(inspect.signature(getattr(pipelab, name)).parameters)
        for name in ("build", "simulate", "run", "profile", "partition")
    }
    assert signatures["build"] == [
        "name", "ranks", "microbatches", "stages_per_rank", "costs", "memory_limit", "placement",
    ]  # fmt: skip
    assert signatures["simulate"][:2] == ["schedule", "costs"]
    assert signatures["profile"][:7] == [
        "model", "inputs", "targets", "loss_fn", "microbatches", "device", "repeats",
    ]  # fmt: skip
    assert signatures["partition"][:9] == [
        "profile", "ranks", "stages_per_rank", "placement", "link", "memory_limit", "schedule",
        "microbatches", "optimizer",
    ]  # fmt: skip
    assert signatures["run"][:4] == ["model", "inputs", "targets", "loss_fn"]
    assert {
        "schedule",
        "ranks",
        "microbatches",
        "stages_per_rank",
        "steps",
        "optimizer",
        "device",
        "workers",
        "pace",
        "latency",
        "partition",
        "seed",
        "timeout",
        "on_event",
    } <= set(signatures["run"][4:])


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__, "every file says what it is for"
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0


def test_examples_are_there():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples
    ]
    assert len(examples) >= 10
