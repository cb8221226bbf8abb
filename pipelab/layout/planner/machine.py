"""GPUs in nodes: peaks, links, and the shares of them that real kernels reach."""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ...errors import UnknownName, UsageError

if TYPE_CHECKING:
    from .layout import Layout
    from .model import Transformer


@dataclass(frozen=True)
class Machine:
    """One kind of GPU and its links. Bandwidths in GB/s (10⁹ bytes), one way, of one GPU.

    tflops: peak for 16-bit matrices, dense. fp32: the share of it for 32-bit (TF32 where there is
    one). memory: GB. memory_bandwidth: of its own memory. node_bandwidth, network_bandwidth: to
    GPUs of the same node (or link domain), and to others. node_size: GPUs of a node. gemm: share of
    the peak that large matrix products reach in training; link: of a link's bandwidth that
    collectives reach. hop: seconds of latency of each step of a ring. kernels: seconds that a
    layer's forward loses whatever its size, and each half of its backward. source: of gemm.
    """

    name: str
    tflops: float
    memory: float
    memory_bandwidth: float
    node_bandwidth: float
    network_bandwidth: float
    node_size: int = 8
    gemm: float = 0.65
    fp32: float = 0.5
    link: float = 0.74
    hop: float = 2.5e-6
    kernels: float = 3e-4
    source: str = "assumed: no published run to fit it to"

    # link: SimuMax's measured all-reduce (0.67 to 0.74 for its collectives). kernels: about 25,
    # each with a launch, a ramp and a last wave, 12 µs together. It is the least, in steps of
    # 0.1 ms, with which BLOOM's sweep of micro-batches has its optimum above 1 sample.

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type not in (float, int):
                continue
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{field.name} is {value!r}; it is a number above 0.")
        if self.node_size != int(self.node_size):
            raise UsageError(f"node_size is {self.node_size!r}; it is a whole number.")

    def defaults(self) -> dict[str, Any]:
        """The options of a layout that nobody has chosen."""
        return {"precision": "fp16" if self.name.startswith("v100") else "bf16"}

    def problem(self, layout: "Layout", _: "Transformer") -> tuple[str, str] | None:
        """Why it cannot have a layout of a model: a short reason, and what would work."""
        if layout.precision == "bf16" and self.name.startswith("v100"):
            return "no bf16", "The V100 has no bf16; --precision fp16 is possible."
        return None

    def bandwidth(self, span: int, links: int = 1) -> float:
        """Bytes per second that collectives and transfers reach.

        span: GPUs in a row that a group spans; more than a node's leave it. links: network links of
        a node that the group uses at once.
        """
        if span <= self.node_size:
            return self.link * 1e9 * self.node_bandwidth
        return self.link * 1e9 * min(self.node_bandwidth, links * self.network_bandwidth)


MEMORY = 0.80
"""Share of the memory's bandwidth that elementwise kernels reach: set, not fitted."""

_A100 = (
    "chosen with Tables 1 and 2 of arXiv 2104.04473 and Table 5 of arXiv 2205.05198 together; "
    "SimuMax measured 0.73 for large products"
)
_H100 = "fitted to NVIDIA's published H100 runs in bf16 (dgxc-benchmarking v25.04)"
_B200 = "fitted to NVIDIA's published GB200 runs in bf16; SimuMax measured about 0.5"
_V100 = "fitted to the V100 runs of Megatron-LM, arXiv 1909.08053"
_MI300 = "0.83 of the best measured product (0.51 of the peak), as on the A100"
DEVICES = {
    device.name: device
    for device in (
        Machine("v100-32", 125, 32, 900, 150, 12.5, 16, 0.8, 0.125, source=_V100),
        Machine("a100-40", 312, 40, 1560, 300, 25, 8, 0.75, source=_A100),
        Machine("a100-80", 312, 80, 2040, 300, 25, 8, 0.75, source=_A100),
        Machine("h100", 989, 80, 3350, 450, 50, 8, 0.65, source=_H100),
        Machine("h200", 989, 141, 4800, 450, 50, 8, 0.65, source=_H100),
        Machine("b200", 2250, 180, 8000, 900, 50, 8, 0.50, source=_B200),
        Machine("gb200", 2450, 186, 8000, 900, 50, 72, 0.50, source=_B200),
        Machine("mi250x", 383, 128, 3280, 350, 25, 8, fp32=0.25),
        Machine("mi300x", 1300, 192, 5300, 448, 50, 8, 0.42, source=_MI300),
        Machine("tpu-v4", 275, 32, 1200, 300, 300, 64, fp32=1 / 6),
        Machine("tpu-v5p", 459, 95, 2770, 600, 600, 64, fp32=1 / 6),
        Machine("rtx4090", 165, 24, 1010, 31, 3, 8),
    )
}
"""By name, from the vendors' data sheets; networks: the usual one of a cluster. A TPU's links form
one torus, so that both bandwidths are the same."""


def device_named(name: str) -> Machine:
    """A preset. Raises UnknownName."""
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    return DEVICES[name]
