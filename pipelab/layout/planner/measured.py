"""``Measured``: a machine whose layers were timed, in place of a roofline's constants.

``pipelab.measure_machine`` makes one where it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .layer_seconds import Seconds
from .layout import Layout
from .machine import Machine
from .model import Transformer


@dataclass(frozen=True)
class Measured(Machine):
    """This machine, with what the layers of one model take on it.

    model: whose layers they are. passes: by samples of a micro-batch, the seconds of the embedding,
    of one layer, and of the head with the loss. collectives: seconds of a parameter in an
    all-reduce, a gather and a reduce-scatter over all workers.
    """

    model: Transformer | None = None
    passes: Mapping[int, tuple[Seconds, Seconds, Seconds]] = field(default_factory=dict)
    collectives: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def defaults(self) -> dict[str, Any]:
        """As the package's engine trains: it hides no traffic, and torch keeps no scores."""
        return {"precision": "fp32", "flash": True, "overlap": "none"}

    def problem(self, layout: Layout, model: Transformer) -> tuple[str, str] | None:
        """Why a layout cannot be predicted: a short reason, and a sentence with what would work."""
        assert self.model is not None
        if replace(model, name="", layers=1) != replace(self.model, name="", layers=1):
            text = f"{self.name} was measured with the layers of {self.model.name}: measure it "
            return "measured with another model", f"{text}again with those of {model.name}."
        if layout.tensor > 1:
            text = f"The layers of {model.name} were measured whole on {self.name}: tensor = 1."
            return "divided layers were not measured", text
        if layout.microbatch not in self.passes:
            sizes = ", ".join(map(str, self.passes))
            text = f"Micro-batches of {sizes} samples were measured on {self.name}."
            return "micro-batch was not measured", text
        if layout.precision != "fp32":
            text = f"The layers were measured in 32 bits on {self.name}: precision = fp32."
            return "precision was not measured", text
        return None

    def seconds(self, layout: Layout) -> tuple[Seconds, Seconds, Seconds]:
        """Of one layer, of the embedding, and of the head with the loss."""
        first, layer, last = self.passes[layout.microbatch]
        if layout.recompute == "full":
            layer = layer._replace(recompute=layer.forward)
        return layer, first, last
