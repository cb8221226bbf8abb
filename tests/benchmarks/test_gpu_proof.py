"""The script that proves the GPU path: what it says without a GPU, and a dry run of a part."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("gpu_proof.py")


def prove(*options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_without_a_gpu_it_says_so():
    answer = prove()
    assert answer.returncode == 1 and answer.stdout == ""
    assert answer.stderr.startswith("gpu_proof: ") and len(answer.stderr.splitlines()) == 1


def test_a_part_that_does_not_exist_is_named():
    answer = prove("--only", "truth,spede")
    assert answer.returncode == 2 and "no such part: spede; there are facts, " in answer.stderr


def test_a_dry_run_leaves_a_table(tmp_path):
    answer = prove("--dry", "--only", "faults", "--out", str(tmp_path))
    assert "ok     faults: fault: a layer raises = " in answer.stdout, answer.stdout
    table = json.loads((tmp_path / "gpu_proof.json").read_text())
    assert [what for _, what, *_ in table][-2:] == ["fault: none, afterwards", "cancelled"]
    assert "===== faults" in (tmp_path / "gpu_proof.log").read_text()
