"""The GPUs of this machine: those that CUDA can use, and why it cannot use the others.

torch counts GPUs by the driver's own library (NVML). That sees GPUs that this torch cannot use, for
their driver is too old for it, or it was built without CUDA. What counts is what CUDA says.
"""

import ctypes
import os
import warnings
from typing import NamedTuple

import torch

WHEELS = "https://download.pytorch.org/whl/cu126"
"""Wheels for CUDA 12, the oldest that this package's torch is built for."""


class Unusable(NamedTuple):
    """Why the GPUs that are here cannot be used, and what to do about it."""

    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what}; {self.do}"


class Driver(NamedTuple):
    """NVIDIA's driver. cuda: the newest CUDA that it knows, 12020 for 12.2."""

    version: str
    cuda: int
    gpus: int


def gpu_count() -> int:
    """How many GPUs CUDA can use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ``unusable_gpus`` says it better
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_names() -> list[str]:
    """The GPUs that CUDA can use, by name."""
    return [_name(i) for i in range(gpu_count())]


def _name(index: int) -> str:
    try:
        return torch.cuda.get_device_name(index)
    except RuntimeError as error:
        return f"GPU {index}, which fails: {str(error).splitlines()[0]}"


def unusable_gpus() -> Unusable | None:
    """Why CUDA cannot use the GPUs that are here; None where it can, or where there are none."""
    driver = None if gpu_count() else driver_here()
    if driver is None or not driver.gpus:
        return None
    gpus = "the GPU" if driver.gpus == 1 else f"the {driver.gpus} GPUs"
    known = f"{driver.cuda // 1000}.{driver.cuda % 1000 // 10}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip(" -1"):
        return Unusable(f"CUDA_VISIBLE_DEVICES={hidden!r} hides {gpus}", "unset it to use them")
    newer = "install a newer driver"
    other = f"pip install --force-reinstall torch --index-url {WHEELS}"
    if torch.version.cuda is None:
        what = f"torch {torch.__version__} is built without CUDA, so it cannot use {gpus}"
        return Unusable(what, f"install one with it for the driver {driver.version}: {other}")
    wanted = int(torch.version.cuda.split(".")[0])
    if driver.cuda // 1000 < wanted:
        what = (
            f"the driver {driver.version} of {gpus} knows CUDA up to {known}, and torch "
            f"{torch.__version__} is built for CUDA {torch.version.cuda}"
        )
        return Unusable(what, newer if driver.cuda < 12000 else f"{newer}, or {other}")
    what = f"CUDA does not start on {gpus} (driver {driver.version}, CUDA {known})"
    return Unusable(what, 'python -c "import torch; torch.cuda.init()" says why')


def driver_here() -> Driver | None:
    """NVIDIA's driver on this machine, by its own library (NVML)."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    version, cuda, gpus = ctypes.create_string_buffer(80), ctypes.c_int(), ctypes.c_uint()
    nvml.nvmlSystemGetDriverVersion(version, len(version))
    nvml.nvmlSystemGetCudaDriverVersion(ctypes.byref(cuda))
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(gpus))
    nvml.nvmlShutdown()
    return Driver(version.value.decode(), cuda.value, gpus.value)
