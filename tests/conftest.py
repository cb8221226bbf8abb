"""What holds for every test.

One thread per process, so that workers do not fight for cores (set before any test imports torch).
No GPU where the machine has some, whose numbers are not exact, except for tests marked ``gpu``:
hidden from new processes by the environment, and in this one, which may have used it, from torch.
Without pytest-timeout, as on a borrowed machine with a GPU, tests run without their limits.
Tests marked ``timing`` run last, when nothing else is left of the session, and once more if they
fail: a busy machine may spoil one measurement, but hardly two.
"""

import os
import sys

import pytest
from _pytest.runner import runtestprotocol

os.environ["OMP_NUM_THREADS"] = "1"

REPEATED = pytest.StashKey[list[str]]()
"""Tests whose first try failed."""


@pytest.fixture(autouse=True)
def on_the_processor(request, monkeypatch):
    if "gpu" not in request.keywords:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        if "torch" in sys.modules:
            monkeypatch.setattr("torch.cuda.is_available", lambda: False)
            monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


def pytest_addoption(parser, pluginmanager):
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "of pytest-timeout, which is not installed")


def pytest_configure(config):
    config.stash[REPEATED] = []
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout: of pytest-timeout, which is not installed")


def pytest_collection_modifyitems(items):
    items.sort(key=is_timed)  # stable: all others keep their order


def is_timed(item):
    return item.get_closest_marker("timing") is not None


def pytest_runtest_protocol(item, nextitem):
    """pytest's own protocol, with a second try for a timed test that failed."""
    if not is_timed(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        item.config.stash[REPEATED].append(item.nodeid)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter, config):
    for name in config.stash[REPEATED]:
        terminalreporter.write_line(f"TIMING {name} failed and was tried once more")
