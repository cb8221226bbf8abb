"""Cutting a model into the stages of a pipeline.

In: layers in order. Out: one `nn.Sequential` per stage, holding the very same layers under
the names they have in the whole model, so that `2.weight` is the same parameter in both.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from numbers import Integral

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import UsageError


def split(
    model: nn.Sequential | Sequence[nn.Module], stages: int, partition: Sequence[int] | None = None
) -> list[nn.Sequential]:
    """Cut a model into consecutive stages.

    Args:
        model: an `nn.Sequential` or a list of modules, each taking what the one before returns.
        stages: how many pieces.
        partition: number of layers of each stage; without it as equal as possible, the
            larger ones first (as `torch.tensor_split` does).

    Returns:
        One `nn.Sequential` per stage. The layers are the model's own, not copies.

    Raises:
        UsageError: not a list of layers; more stages than layers; a partition that does not
            add up; layers of two stages that share memory but not the parameter. (One parameter in
            several layers is a tied weight, which may be on several stages.)

    >>> import torch
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(5)))
    >>> [len(stage) for stage in split(model, 2)]
    [3, 2]
    >>> [list(stage.state_dict()) for stage in split(model, 2, [4, 1])][1]
    ['4.weight', '4.bias']
    """
    layers = _layers(model)
    counts = _equal(len(layers), stages) if partition is None else _whole(partition)
    _check_counts(counts, stages, len(layers), given=partition is not None)
    stage_of_layer: list[int] = []
    for stage, count in enumerate(counts):
        stage_of_layer += [stage] * count
    _check_shared(layers, stage_of_layer)
    bounds = [0, *accumulate(counts)]
    return [nn.Sequential(OrderedDict(layers[a:b])) for a, b in pairwise(bounds)]


def _layers(model: nn.Sequential | Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """The layers and their names in the whole model."""
    if isinstance(model, nn.Module):
        # A subclass with a forward of its own may do anything between its layers.
        if type(model).forward is not nn.Sequential.forward:
            raise UsageError(
                f"a model of type {type(model).__name__} cannot be cut into stages: pass an "
                "nn.Sequential, or a list of modules in which each takes what the one before "
                "returns"
            )
        _require_plain(model)
        layers = [(name, layer) for name, layer in model._modules.items() if layer is not None]
    else:
        if isinstance(model, (Iterator, Mapping)) or not isinstance(model, Iterable):
            raise UsageError(
                f"a model of type {type(model).__name__} cannot be cut into stages: pass an "
                "nn.Sequential or a list of modules"
            )
        for index, layer in enumerate(model):
            if not isinstance(layer, nn.Module):
                what = f"a {type(layer).__name__}, not an nn.Module"
                if isinstance(layer, type):
                    what = f"the class {layer.__name__}: make one of it, {layer.__name__}(...)"
                raise UsageError(f"layer {index} of the model is {what}")
        layers = [(str(index), layer) for index, layer in enumerate(model)]
    for index, (_, layer) in enumerate(layers):
        _require_movable(index, layer)
    return layers


_HOOKS = {
    "_forward_pre_hooks": "a forward pre-hook",
    "_forward_hooks": "a forward hook",
    "_backward_hooks": "a backward hook",
    "_backward_pre_hooks": "a backward pre-hook",
    "_parameters": "a parameter of its own",
    "_buffers": "a buffer of its own",
}


def _require_plain(model: nn.Sequential) -> None:
    """Refuse what belongs to the whole nn.Sequential: no stage would run it."""
    own = [what for attribute, what in _HOOKS.items() if getattr(model, attribute)]
    if "forward" in vars(model):
        own.append("a forward that replaces its own")
    if own:
        raise UsageError(
            f"the nn.Sequential itself has {own[0]}, which would be lost when it is cut into "
            "stages: put it on one of its layers, or into a layer of your own"
        )


def _require_movable(index: int, layer: nn.Module) -> None:
    """Refuse layers that cannot go to a rank."""
    try:
        modules = list(layer.named_modules())
    except AttributeError as error:
        raise UsageError(
            f"layer {index} ({type(layer).__name__}) is no whole module: {error}; begin its "
            "__init__ with super().__init__()"
        ) from None
    for name, module in modules:
        what = f"layer {index}" + (f" ({name})" if name else "")
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(
                f"{what} is TorchScript ({type(module).__name__}), which cannot be sent to a rank: "
                "use the module that it was made from"
            )
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if is_lazy(tensor):
            raise UsageError(
                f"{name} of layer {index} has no shape yet, as its module is lazy: run the model "
                "once before, on a sample (model(inputs[:1]))"
            )
        if tensor.is_meta:
            raise UsageError(
                f"{name} of layer {index} is on the meta device, which holds no numbers: give the "
                "model some first (model.to_empty(device='cpu'), then initialise it)"
            )


def _whole(partition: Sequence[int]) -> list[int]:
    """A partition as whole numbers, which it must be."""
    counts = list(partition) if isinstance(partition, Iterable) else []
    if not counts or not all(isinstance(count, Integral) for count in counts):
        raise UsageError(
            f"partition is {partition!r}; it is the number of layers of each stage, such as [3, 2]"
        )
    return [int(count) for count in counts]


def _equal(layers: int, stages: int) -> list[int]:
    """Share layers out over stages, the first ones one larger: 5 over 2 is [3, 2]."""
    return [layers // stages + (stage < layers % stages) for stage in range(stages)]


def _check_counts(counts: list[int], stages: int, layers: int, *, given: bool) -> None:
    if not layers:
        raise UsageError("the model has no layers: give it one or more for every stage")
    if stages > layers:
        raise UsageError(
            f"{stages} stages are more than the {layers} {_plural(layers, 'layer')} of the model, "
            f"and every stage needs at least one: use at most {layers} {_plural(layers, 'stage')} "
            "(stages = ranks × stages per rank), or a model with more layers"
        )
    if not given:
        return
    if len(counts) != stages:
        raise UsageError(
            f"the partition {counts} names {len(counts)} stages, but there are {stages}: "
            "give the number of layers of every stage"
        )
    if min(counts) < 1:
        raise UsageError(
            f"the partition {counts} leaves stage {counts.index(min(counts))} with {min(counts)} "
            "layers, and every stage needs at least one"
        )
    if sum(counts) != layers:
        raise UsageError(
            f"the partition {counts} adds up to {sum(counts)} layers, but the model has {layers}. "
            f"An equal one is {_equal(layers, stages)}"
        )


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"


def _check_shared(layers: list[tuple[str, nn.Module]], stage_of_layer: list[int]) -> None:
    """Refuse memory that two stages share unknown to torch: each would train a copy of it."""
    # Where the memory is -> what was met there first: its layer, its name, itself.
    first: dict[int, tuple[int, str, nn.Parameter]] = {}
    for index, (layer_name, layer) in enumerate(layers):
        for name, parameter in layer.named_parameters(prefix=layer_name, remove_duplicate=False):
            # Two Parameter objects over one memory are tied as well; "meta" tensors have none.
            key = id(parameter)
            if parameter.layout is torch.strided:
                key = parameter.untyped_storage().data_ptr() or key
            earlier, earlier_name, same = first.setdefault(key, (index, name, parameter))
            if parameter is not same and stage_of_layer[earlier] != stage_of_layer[index]:
                raise UsageError(
                    f"layer {earlier} and layer {index} share the memory of a parameter "
                    f"({earlier_name} and {name}), but they are on stages "
                    f"{stage_of_layer[earlier]} and {stage_of_layer[index]}: each stage would "
                    "train a copy of its own. Tie weights by giving both layers the same "
                    "nn.Parameter, put both layers on one stage (partition=[...]), or give layer "
                    f"{index} memory of its own"
                )
