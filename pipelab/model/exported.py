"""``layers``: any module that ``torch.export`` can export, as a list of layers.

    module ─ torch.export ─▶ operations in a row ─ cut before those with weights ─▶ layers

    x ─▶ layer 0 ─▶ (x, y) ─▶ layer 1 ─▶ (x, z) ─▶ layer 2 ─▶ output

What a later layer needs (the x of a skip connection) travels along from layer to layer. A place is
no cut where that would be too many tensors, or would tear apart what is changed in place.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from ..errors import UsageError
from .export import arguments_of, export
from .exported_layer import ExportedLayer

MOST = 8
"""The most tensors that pass from one layer to the next: as between the stages of a run."""


class Layers(list[nn.Module]):
    """Layers for ``run``. names: parameter name in the list -> its name in the module."""

    names: dict[str, str]


def layers(module: nn.Module, example_inputs: Any) -> Layers:
    """Turn a module into a list of layers that ``run`` takes, by ``torch.export``.

    The layers hold the module's own parameters; each begins with an operation that has some. What
    the module does by its mode (dropout, BatchNorm) is what it does in its mode now. The number of
    samples stays free; other sizes are those of the example.

    Args:
        module: any module that torch.export can export with a free first dimension.
        example_inputs: a tensor, a tuple of tensors, or a dict of tensors by argument name, with
            two samples or more as their first dimension. ``run`` then gets the tensor, or the
            tuple of all tensors in that order.

    Returns:
        A list, whose ``names`` maps the names of parameters in it to those in the module. The last
        layer returns the module's output: a tensor, or the tuple of all tensors in it.

    Raises:
        UsageError: what cannot be exported, with the reason and the line.

    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.b(self.a(x).relu())
    >>> found = layers(Residual(), torch.randn(2, 4))
    >>> len(found), found.names["1.b.weight"]
    (2, 'b.weight')
    """
    arguments, named = arguments_of(module, example_inputs)
    graph_module = export(module, arguments, named)
    return _Cutting(module, graph_module).layers()


class _Cutting:
    """Cuts the operations of a module into layers."""

    def __init__(self, module: nn.Module, whole: fx.GraphModule):
        self._module, self._whole = module, whole
        nodes = list(whole.graph.nodes)
        self._inputs = [node for node in nodes if node.op == "placeholder"]
        self._work = [n for n in nodes if n.op == "call_function" and not _is_number(n)]
        self._outputs = self._tensors_of(nodes[-1])
        self._where = {node: i for i, node in enumerate(self._work)}
        self._last: dict[fx.Node, int] = {}
        for i, node in enumerate(self._work):
            self._last |= dict.fromkeys(self._used_by(node), i)
        self._last |= dict.fromkeys(self._outputs, len(self._work))
        self._trained = self._depends_on_weights()

    def layers(self) -> Layers:
        """The layers, and where their parameters come from."""
        cuts = [0, *self._cuts(), len(self._work)]
        found = Layers()
        found.names = {}
        own = {parameter: name for name, parameter in self._module.named_parameters()}
        taken = self._inputs
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            given = self._alive(stop) if stop < len(self._work) else self._outputs
            layer = self._layer(start, stop, taken, given)
            for name, parameter in layer.named_parameters():
                found.names[f"{len(found)}.{name}"] = own.get(parameter, name)
            found.append(layer)
            taken = given
        return found

    def _tensors_of(self, output: fx.Node) -> list[fx.Node]:
        """The tensors that the module returns. Raises UsageError for anything else."""
        found = torch.utils._pytree.tree_leaves(output.args)
        nodes = [each for each in found if each is not None]
        for each in nodes:
            if not isinstance(each, fx.Node) or not _is_tensor(each):
                raise UsageError(
                    f"{type(self._module).__name__} returns {each} beside its tensors; a layer of "
                    "a pipeline returns tensors only."
                )
        return nodes

    def _used_by(self, node: fx.Node) -> Iterator[fx.Node]:
        """The values that a node needs; of numbers and weights nothing travels."""
        for each in node.all_input_nodes:
            if each.op == "placeholder" or each in self._where:
                yield each

    def _depends_on_weights(self) -> set[fx.Node]:
        """The values that have a gradient."""
        found: set[fx.Node] = set()
        for node in self._work:
            value = node.meta.get("val")
            real = not isinstance(value, torch.Tensor) or value.is_floating_point()
            if real and any(n in found or self._is_weight(n) for n in node.all_input_nodes):
                found.add(node)
        return found

    def _is_weight(self, node: fx.Node) -> bool:
        if node.op != "get_attr":
            return False
        value = self._value(str(node.target))
        return isinstance(value, nn.Parameter) and value.requires_grad

    def _value(self, target: str) -> Any:
        """The module's own parameter or buffer; a constant of the export."""
        try:
            return operator.attrgetter(target)(self._module)
        except AttributeError:
            return operator.attrgetter(target)(self._whole)

    def _alive(self, place: int) -> list[fx.Node]:
        """The values that pass a cut before an operation."""
        before = [*self._inputs, *self._work[:place]]
        return [node for node in before if self._last.get(node, -1) >= place]

    def _cuts(self) -> list[int]:
        """Every place where a layer may begin."""
        torn = self._torn()
        found = []
        for place, node in enumerate(self._work):
            if place in torn or not any(map(self._is_weight, node.all_input_nodes)):
                continue
            alive = self._alive(place)
            can_pass = all(map(_is_tensor, alive)) and len(alive) <= MOST
            if can_pass and any(node in self._trained for node in alive):
                found.append(place)
        return found

    def _torn(self) -> set[int]:
        """Places between a value and the last operation that changes it in place."""
        torn: set[int] = set()
        buffers: dict[str, list[int]] = {}
        for place, node in enumerate(self._work):
            changes = _changes_in_place(node)
            for each in node.all_input_nodes:
                if each.op == "get_attr" and (changes or "batch_norm" in str(node.target)):
                    if not self._is_weight(each):
                        buffers.setdefault(str(each.target), []).append(place)
            first = node.args[0] if node.args else None
            if changes and isinstance(first, fx.Node) and first in self._where:
                torn |= set(range(self._where[self._base(first)] + 1, place + 1))
        for places in buffers.values():
            torn |= set(range(min(places) + 1, max(places) + 1))
        return torn

    def _base(self, node: fx.Node) -> fx.Node:
        """The value whose memory a view shows."""
        while True:
            first = node.args[0] if node.args else None
            if not _is_view(node) or not isinstance(first, fx.Node) or first not in self._where:
                return node
            node = first

    def _layer(
        self, start: int, stop: int, taken: list[fx.Node], given: list[fx.Node]
    ) -> ExportedLayer:
        """Operations as a layer."""
        graph, held = fx.Graph(), {}
        known = {node: graph.placeholder(node.name) for node in taken}
        numbers = _Numbers(graph, taken, known)

        def here(node: fx.Node) -> Any:
            if node not in known:
                if node.op == "get_attr":
                    held[str(node.target)] = self._value(str(node.target))
                    known[node] = graph.create_node("get_attr", str(node.target))
                else:
                    return numbers.of(node)
            return known[node]

        for node in self._work[start:stop]:
            known[node] = graph.node_copy(node, here)
        values = [here(node) for node in given]
        graph.output(values[0] if len(values) == 1 else tuple(values))
        return ExportedLayer.of(self._name(start, stop), graph, held)

    def _name(self, start: int, stop: int) -> str:
        """What owns the first weight, such as layer1.0.conv1."""
        for node in self._work[start:stop]:
            for each in filter(self._is_weight, node.all_input_nodes):
                return str(each.target).rpartition(".")[0] or type(self._module).__name__
        return type(self._module).__name__


class _Numbers:
    """Sizes that depend on the number of samples, computed anew in the layer that needs them."""

    def __init__(self, graph: fx.Graph, taken: list[fx.Node], known: dict[fx.Node, fx.Node]):
        self._graph, self._taken, self._known = graph, taken, known
        self._samples: Any = None

    def of(self, node: fx.Node) -> Any:
        """A number of the module, as a node of the layer. Raises UsageError."""
        value = node.meta["val"]
        if not isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat):
            return value
        times = _times(value)
        if times is not None:
            samples = self._number_of_samples()
            return samples if times == 1 else self._call(operator.mul, samples, times)
        if node.target is torch.ops.aten.sym_size.int:
            raise UsageError(f"The size {value} is no multiple of the number of samples.")
        return self._graph.node_copy(node, self.of)

    def _number_of_samples(self) -> Any:
        if self._samples is None:
            for node in self._taken:
                for dim, size in enumerate(node.meta["val"].shape):
                    times = _times(size) if isinstance(size, torch.SymInt) else None
                    if times:
                        number = self._call(torch.ops.aten.sym_size.int, self._known[node], dim)
                        if times > 1:
                            number = self._call(operator.floordiv, number, times)
                        self._samples = number
                        return number
            raise UsageError("No value that reaches a layer tells the number of samples.")
        return self._samples

    def _call(self, function: Any, *arguments: Any) -> fx.Node:
        return self._graph.call_function(function, arguments)


def _times(size: Any) -> int | None:
    """How many times the number of samples a size is; None where it is something else."""
    expression = size.node.expr
    (symbol,) = expression.free_symbols
    times = expression.coeff(symbol)
    return int(times) if times.is_Integer and expression == times * symbol else None


def _is_number(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, int | float | torch.SymInt | torch.SymFloat | torch.SymBool)


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _changes_in_place(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema and schema.is_mutable)


def _is_view(node: fx.Node) -> bool:
    """Whether its result lies in the memory of its first argument."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.target is operator.getitem
    return any(each.alias_info is not None for each in schema.returns)
