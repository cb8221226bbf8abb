"""GPUs that CUDA cannot use: runs go on without them, and everybody is told why."""

import ctypes

import pytest
import torch
from torch.nn import functional

import pipelab
from pipelab.engine.job import gpus
from pipelab.engine.job.where import Where
from pipelab.launcher import doctor, selfcheck


class Nvml:
    """NVIDIA's library, as ctypes shows it. init: what its initialization returns."""

    def __init__(self, version="535.104.05", cuda=12020, count=1, init=0):
        self.version, self.cuda, self.count, self.init = version, cuda, count, init

    def nvmlInit_v2(self):
        return self.init

    def nvmlSystemGetDriverVersion(self, buffer, _):
        buffer.value = self.version.encode()

    def nvmlSystemGetCudaDriverVersion(self, number):
        number._obj.value = self.cuda

    def nvmlDeviceGetCount_v2(self, number):
        number._obj.value = self.count

    def nvmlShutdown(self):
        return 0


@pytest.fixture
def machine(monkeypatch):
    """A machine with GPUs that NVML sees, and CUDA does not. machine(torch's CUDA, **of NVML)."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    def of(cuda="13.0", **nvml):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch, "__version__", "2.11.0")
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml(**nvml))

    return of


OLD = (
    "the driver 535.104.05 of the GPU knows CUDA up to 12.2, and torch 2.11.0 is built for CUDA "
    "13.0; install a newer driver, or pip install --force-reinstall torch --index-url "
    "https://download.pytorch.org/whl/cu126"
)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({}, OLD),
        (
            {"cuda": None, "count": 2},
            "torch 2.11.0 is built without CUDA, so it cannot use the 2 GPUs; install one with it "
            "for the driver 535.104.05: pip install --force-reinstall torch --index-url "
            "https://download.pytorch.org/whl/cu126",
        ),
        (
            {"cuda": "12.8"},
            "CUDA does not start on the GPU (driver 535.104.05, CUDA 12.2); "
            'python -c "import torch; torch.cuda.init()" says why',
        ),
        ({"count": 0}, "None"),
        ({"init": 9}, "None"),
    ],
)
def test_it_is_said_why_cuda_cannot_use_a_gpu(machine, of, said):
    if "cuda" in of and of["cuda"] != "12.8":
        of = {"cuda": of["cuda"], "count": of["count"]}
    machine(**of)
    assert str(gpus.unusable_gpus()) == said


def test_a_driver_too_old_for_every_wheel(machine, monkeypatch):
    machine()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml("470.1", 11040))
    assert gpus.unusable_gpus().do == "install a newer driver"


def test_a_gpu_that_was_hidden(machine, monkeypatch):
    machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.unusable_gpus() == ("CUDA_VISIBLE_DEVICES='' hides the GPU", "unset it to use them")


def test_without_a_driver_there_is_nothing_to_say(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpus.unusable_gpus() is None and gpus.gpu_names() == []


def test_a_gpu_that_fails_takes_nothing_with_it(monkeypatch):
    """The self-check ended in a traceback."""

    def fail(index):
        raise RuntimeError("CUDA error: device busy\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    assert gpus.gpu_names() == ["GPU 0, which fails: CUDA error: device busy"]


def test_a_run_goes_on_without_it_and_says_why(machine, model, data, monkeypatch):
    """Every default run raised: NVML counts GPUs that CUDA cannot use, and torch counts by NVML."""
    machine()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # CUDA itself sees none
    sizes = {"schedule": "1f1b", "ranks": 2, "microbatches": 2}
    run = pipelab.run(model, *data, functional.cross_entropy, **sizes)
    assert (run.device, run.workers) == ("cpu", "processes")
    assert run.device_note == f"on the processor: {OLD}"
    with pytest.raises(pipelab.PipelabError, match="torch sees no GPU here: .* knows CUDA up to"):
        Where.of("cuda", "auto", "pipelab")


def test_the_self_check_and_the_doctor_say_why(machine):
    machine()
    assert selfcheck.devices().endswith(f"GiB memory, no GPU to use: {OLD}")
    healthy = {"versions": {}, "notebooks": "", "cores": 8, "fork": True, "chromium": ""}
    (problem,) = doctor.problems(healthy | {"unusable_gpus": gpus.unusable_gpus()}, None)
    assert problem["what"].startswith("runs use the processor: the driver 535.104.05 of the GPU")
    assert problem["do"].startswith("install a newer driver, or pip install")
    assert not problem["needed"]


def test_tests_without_the_mark_see_no_gpu_that_another_has_used(monkeypatch):
    """After a test that used the GPU, torch knew their number for good: 62 others ran on it."""
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_cached_device_count", 1)
    assert torch.cuda.device_count() == gpus.gpu_count() == 0
