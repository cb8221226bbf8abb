"""For every test: one thread per process, so that workers do not fight for cores (before any test
imports torch), and no GPU where the machine has some, whose numbers are not exact: but for tests
marked ``gpu``."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def on_the_processor(request, monkeypatch):
    if "gpu" not in request.keywords:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
