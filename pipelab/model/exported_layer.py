"""A layer made of operations of an exported module."""

import operator
import types
from typing import Any

import torch
from torch import fx, nn


class ExportedLayer(nn.Module):
    """Operations of an exported module, with the weights that they use.

    Each has a class of its own with a forward that was generated from them. It travels as that
    text: an ``fx.GraphModule`` would be traced anew, which runs what has no input, such as a
    counter, and leaves it out.
    """

    _code: str
    _names: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__name__, self._code, self._names), self.__dict__

    @classmethod
    def of(cls, name: str, graph: fx.Graph, tensors: dict[str, torch.Tensor]) -> "ExportedLayer":
        """Make one. tensors: parameters, buffers and constants, by their names in the module."""
        made = graph.python_code("self")
        names = {k: v for k, v in made.globals.items() if not isinstance(v, types.ModuleType)}
        layer = _blank(name, made.src, names)
        for target, tensor in tensors.items():
            owner: nn.Module = layer
            *within, place = target.split(".")
            for step in within:
                if step not in owner._modules:
                    owner.add_module(step, nn.Module())
                owner = owner.get_submodule(step)
            if isinstance(tensor, nn.Parameter):
                owner.register_parameter(place, tensor)
            else:
                owner.register_buffer(place, tensor)
        return layer


def _blank(name: str, code: str, names: dict[str, Any]) -> ExportedLayer:
    """A layer without its tensors. names: what the code uses beside torch."""
    space = {"torch": torch, "operator": operator} | names
    exec(compile(code, f"<layer {name}>", "exec"), space)
    layer: ExportedLayer = type(name, (ExportedLayer,), {"forward": space["forward"]})()
    layer._code, layer._names = code, names
    return layer
