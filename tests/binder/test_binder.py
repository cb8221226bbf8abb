"""What Binder builds from: every package that pipelab needs, and scripts that can run."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
ELSEWHERE = {"torch": "pytorch-cpu"}
"""Names that conda-forge has for packages."""


def requirements(lines):
    """Name -> the rest of the requirement."""
    return {
        match[1]: match[2]
        for line in lines
        if (match := re.fullmatch(r"([A-Za-z0-9-]+)(.*)", line.strip()))
    }


def test_the_environment_has_all_that_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = requirements(project["dependencies"])
    text = (BINDER / "environment.yml").read_text()
    there = requirements(
        line.removeprefix("  - ") for line in text.splitlines() if line.startswith("  - ")
    )
    for name, bounds in needed.items():
        assert there.get(ELSEWHERE.get(name, name)) == bounds, name
    assert there["python"] == "=3.12"


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_scripts(script):
    path = BINDER / script
    assert os.access(path, os.X_OK) and path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_start_hands_over():
    done = subprocess.run(
        [str(BINDER / "start"), "printenv", "OMP_NUM_THREADS"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_what_the_scripts_name_is_there():
    assert (ROOT / "pipelab" / "launcher" / "lab_settings" / "overrides.json").exists()
    assert "set -e" in (BINDER / "postBuild").read_text()


def test_repo2docker_makes_a_dockerfile_of_it():
    if shutil.which("jupyter-repo2docker") is None:
        pytest.skip("jupyter-repo2docker is not installed")
    done = subprocess.run(
        ["jupyter-repo2docker", "--no-build", "--debug", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    text = done.stdout + done.stderr
    assert (
        "binder/environment.yml" in text
        and "./binder/postBuild" in text
        and "R2D_ENTRYPOINT" in text
    )
