"""The tests marked gpu, in a pytest of their own; what they try of each schedule, truth tries."""

import os
import sys
from pathlib import Path

from .common import DRY, row
from .processes import run_limited

ENGINE = Path(__file__).parents[2] / "engine"


def tests(limit=95):
    files = [str(ENGINE / name) for name in ("test_gpu.py", "test_torchrun.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *files]
    command += ["-k", "not every_schedule", "--maxfail=3"]
    said, out = run_limited(command, limit, dict(os.environ), ENGINE.parents[1])
    lines = out.splitlines()
    why = [line for line in lines if line.startswith("E  ")]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            row("test", "FAILED", f"{line[:200]} {' '.join(why[:3])[:300]}", good=False)
    ends = [line for line in lines if "passed" in line or "failed" in line or "skipped" in line]
    value = ends[-1] if ends else said or "?"
    good = not said and ("passed" in value or DRY)
    row("tests marked gpu", value, "" if ends else out[-300:], good=good)
