"""Profile: what each layer of a model costs and keeps, and its file.

{"format": "pipelab-profile-1", "device": "cpu", "dtype": "float32", "microbatch": 8,
 "layers": [{"name": "0 Embedding", "forward": 0.00012, …}, …], "loss": {…}}
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UsageError

FORMAT = "pipelab-profile-1"
_MAKE_ONE = "make one with pipelab profile --save FILE, or Profile.save"


@dataclass(frozen=True)
class LayerProfile:
    """What one layer, or the loss, takes for one micro-batch, in seconds and bytes.

    Every storage that is saved for the backward counts once, at the first layer that saves it.

    Attributes:
        name: The layer's name in the model, and its class.
        forward: Seconds of its forward, a median.
        input_grad: Seconds of the gradient of its input.
        weight_grad: Seconds of the gradients of its weights; 0 without weights.
        activation_bytes: What it is the first to save for the backward.
        saved_input_bytes: What it saves of its input that an earlier layer counts.
        output_bytes: What it hands on.
        parameter_bytes: Of its weights.
        deferred_activation_bytes: The part of what it saves that W needs; None: not measured.
        deferred_gradient_bytes: What I keeps in addition for W, gradients of outputs; None: not
            measured.
        spread: Seconds between the quartiles of forward + input_grad + weight_grad; None: unknown.
    """

    name: str
    forward: float
    input_grad: float
    weight_grad: float
    activation_bytes: int
    saved_input_bytes: int
    output_bytes: int
    parameter_bytes: int
    deferred_activation_bytes: int | None = None
    deferred_gradient_bytes: int | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise UsageError(f"name is {self.name!r}; it is a text.")
        for field in _NUMBERS:
            value = getattr(self, field)
            optional = field in _OPTIONAL and value is None
            if not optional and not _is_amount(value):
                unit = "bytes" if field.endswith("bytes") else "seconds"
                raise UsageError(f"{field} is {value!r}; it is a number of {unit}, 0 or more.")

    @property
    def seconds(self) -> float:
        """F + I + W."""
        return self.forward + self.input_grad + self.weight_grad


_NUMBERS = [field.name for field in fields(LayerProfile) if field.name != "name"]
_OPTIONAL = {"deferred_activation_bytes", "deferred_gradient_bytes", "spread"}


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


@dataclass(frozen=True)
class Profile:
    """What the layers of a model and its loss take for one micro-batch.

    Attributes:
        device: What it was measured on, "cpu" or "cuda".
        dtype: What was computed in.
        microbatch: Samples of the micro-batch.
        layers: In order.
        loss: It belongs to the last stage.
        input_bytes: Of the micro-batch itself, what the first layer gets.

    >>> layer = LayerProfile("0 Linear", 0.001, 0.001, 0.001, 4096, 0, 4096, 65792)
    >>> loss = LayerProfile("loss", 0.0001, 0.0001, 0, 128, 0, 4, 0)
    >>> Profile("cpu", "float32", 8, (layer,), loss).seconds
    0.0032

    Raises UsageError for no layers at all, and for numbers that are none.
    """

    device: str
    dtype: str
    microbatch: int
    layers: tuple[LayerProfile, ...]
    loss: LayerProfile
    input_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("A profile without layers: it needs one or more.")
        for name, least in (("microbatch", 1), ("input_bytes", 0)):
            value = getattr(self, name)
            if not _is_amount(value) or value < least:
                raise UsageError(f"{name} is {value!r}; it is a number, {least} or more.")

    @property
    def seconds(self) -> float:
        """F + I + W of all layers and of the loss, for one micro-batch."""
        return math.fsum(each.seconds for each in (*self.layers, self.loss))

    def to_json(self) -> dict[str, Any]:
        """The content of its file."""
        return {
            "format": FORMAT,
            "device": self.device,
            "dtype": self.dtype,
            "microbatch": self.microbatch,
            "input_bytes": self.input_bytes,
            "layers": [_known(layer) for layer in self.layers],
            "loss": _known(self.loss),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Profile":
        """Read what ``save`` wrote.

        Raises UsageError, one line that names the place, for a file that is not a profile; OSError
        for one that cannot be read.
        """
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise UsageError(f"{os.fspath(path)} is not JSON ({error}): {_MAKE_ONE}.") from None
        except UsageError as error:
            raise UsageError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def from_json(cls, data: object) -> "Profile":
        """The inverse of ``to_json``. Keys beyond those are ignored. Raises UsageError."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise UsageError(f'this is not a profile ("format": "{FORMAT}"): {_MAKE_ONE}.')
        missing = sorted({"device", "dtype", "microbatch", "layers", "loss"} - data.keys())
        if missing:
            raise UsageError(f"the profile has no {' and no '.join(missing)}: {_MAKE_ONE}.")
        layers = data["layers"]
        if not isinstance(layers, Sequence) or isinstance(layers, str):
            raise UsageError(f"layers is a {type(layers).__name__}; it is a list, one per layer.")
        return cls(
            device=str(data["device"]),
            dtype=str(data["dtype"]),
            microbatch=data["microbatch"],
            layers=tuple(_layer(f"layer {i}", layer) for i, layer in enumerate(layers)),
            loss=_layer("loss", data["loss"]),
            input_bytes=data.get("input_bytes", 0),
        )


def _known(layer: LayerProfile) -> dict[str, Any]:
    """Its fields by name, without what was not measured."""
    return {name: value for name, value in asdict(layer).items() if value is not None}


def _layer(where: str, data: object) -> LayerProfile:
    """One entry of the file. Raises UsageError that says where."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} is a {type(data).__name__}; it is an object with a name.")
    needed = ["name", *(name for name in _NUMBERS if name not in _OPTIONAL)]
    if where == "loss":
        data = {"name": "loss"} | dict(data)
    missing = [name for name in needed if name not in data]
    if missing:
        raise UsageError(f"{where} has no {' and no '.join(missing)}: {_MAKE_ONE}.")
    try:
        values: dict[str, Any] = {name: data.get(name) for name in ("name", *_NUMBERS)}
        return LayerProfile(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
