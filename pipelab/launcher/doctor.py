"""`pipelab doctor`: what this machine has, what is missing, and what to do about it.

In: nothing. Out: a report as data and as text. torch is looked at in a process of its own,
so that one that crashes on import is a finding and not the end.
"""

import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from ..course.table import find_home
from ..errors import UsageError
from .selfcheck import cores

PACKAGES = [
    "pipelab",
    "torch",
    "jupyterlab",
    "ipywidgets",
    "anywidget",
    "plotly",
    "numpy",
    "cloudpickle",
    "pytest",
]
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
TORCH_S = 60
"""Seconds that importing torch may take."""
HOUSE = str(Path(__file__).parents[2])
"""The folder from which pipelab is imported."""

PROBE = """
import json, sys, torch
sys.path.append(sys.argv[1])
from pipelab.engine import gpu_names, unusable_gpus
print(json.dumps({"torch": torch.__version__, "gpus": gpu_names(), "unusable": unusable_gpus()}))
"""


@dataclass(frozen=True)
class Report:
    """What `pipelab doctor` found, for a program and for a person."""

    data: dict[str, Any]
    text: str


def examine() -> Report:
    """Look at everything that pipelab needs.

    Returns:
        A report whose data has `ok` (nothing needed is missing), `versions`, `cores`,
        `memory_bytes`, `gpus`, `unusable_gpus`, `fork`, `shared_memory`, `notebooks`, `chromium`
        and `problems`, a list of `{"what", "do", "needed"}`.
    """
    versions = {package: installed(package) for package in PACKAGES}
    torch, torch_problem = look_at_torch()
    data = {
        "versions": {"python": platform.python_version()} | versions,
        "platform": platform.platform(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": torch["gpus"] if torch else [],
        "unusable_gpus": torch["unusable"] if torch else None,
        "fork": "fork" in multiprocessing.get_all_start_methods(),
        "shared_memory": shared_memory(),
        "notebooks": notebooks(),
        "chromium": next(filter(None, map(shutil.which, BROWSERS)), None),
    }
    data["problems"] = problems(data, torch_problem)
    data["ok"] = not any(problem["needed"] for problem in data["problems"])
    return Report(data, as_text(data))


def installed(package: str) -> str | None:
    """The installed version, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def look_at_torch() -> tuple[dict[str, Any] | None, str | None]:
    """Ask torch about itself; returns what it answers, or else why it does not."""
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", PROBE, HOUSE],
            capture_output=True,
            text=True,
            timeout=TORCH_S,
        )
    except subprocess.TimeoutExpired:
        return None, f"importing torch takes longer than {TORCH_S} s"
    if answer.returncode:
        said = answer.stderr.strip() or f"exit code {answer.returncode}"
        return None, f"torch cannot be imported: {said.splitlines()[-1]}"
    return json.loads(answer.stdout), None


def shared_memory() -> dict[str, Any]:
    """How tensors travel between workers, and how much room there is for them."""
    if hasattr(os, "memfd_create"):
        return {"kind": "memfd", "free_bytes": psutil.virtual_memory().available}
    return {"kind": "file", "free_bytes": shutil.disk_usage(tempfile.gettempdir()).free}


def notebooks() -> str | None:
    """The folder of the course, None where it is missing."""
    try:
        return str(find_home() / "notebooks")
    except UsageError:
        return None


def problems(data: dict[str, Any], torch_problem: str | None) -> list[dict[str, Any]]:
    """What is missing, what to do about it, and whether pipelab needs it."""
    found: list[dict[str, Any]] = []

    def missing(what: str, do: str, *, needed: bool) -> None:
        found.append({"what": what, "do": do, "needed": needed})

    absent = [package for package, number in data["versions"].items() if number is None]
    if absent:
        what = f"not installed: {', '.join(absent)}"
        missing(what, "run pip install -e . in the checkout", needed=True)
    if torch_problem and "torch" not in absent:
        do = "install torch again: pip install --force-reinstall torch"
        missing(torch_problem, do, needed=True)
    if data["notebooks"] is None:
        missing(
            "the notebooks are not there",
            "run pipelab from a checkout, installed with pip install -e .",
            needed=True,
        )
    if data["unusable_gpus"]:
        what, do = data["unusable_gpus"]
        missing(f"runs use the processor: {what}", do, needed=False)
    if data["cores"] < 2:
        missing(
            "one CPU core: workers take turns, so raw runs show no speed-up",
            "use paced runs (the default in the lab; --pace 10,20 on the command line)",
            needed=False,
        )
    if not data["fork"]:
        missing(
            "this system cannot fork: starting workers takes seconds instead of a tenth",
            "nothing; it works",
            needed=False,
        )
    if data["chromium"] is None:
        missing(
            "no Chromium; only the browser tests need one",
            "install it: apt-get install chromium",
            needed=False,
        )
    return found


def as_text(data: dict[str, Any]) -> str:
    """The report for a person."""
    known = ", ".join(
        f"{package} {number}" for package, number in data["versions"].items() if number
    )
    shared = data["shared_memory"]
    lines = [
        f"versions       {known}",
        f"system         {data['platform']}",
        f"cores          {data['cores']}",
        f"memory         {gib(data['memory_bytes'])}",
        f"GPUs           {', '.join(data['gpus']) or 'none'}",
        f"workers        {'forked' if data['fork'] else 'spawned'}; tensors through "
        f"{shared['kind']}, {gib(shared['free_bytes'])} free",
        f"notebooks      {data['notebooks'] or 'missing'}",
        f"chromium       {data['chromium'] or 'missing'}",
    ]
    for problem in data["problems"]:
        kind = "PROBLEM" if problem["needed"] else "note"
        lines.append(f"{kind}: {problem['what']}\n  → {problem['do']}")
    if data["ok"]:
        lines.append("all that pipelab needs is here")
    else:
        lines.append("pipelab will not work until the problems are solved")
    return "\n".join(lines)


def gib(size: int) -> str:
    """A size in GiB, for a person."""
    return f"{size / 2**30:.1f} GiB"
