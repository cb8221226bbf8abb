"""A pickler that loses nothing of a model, and one that only looks what an object reaches.

torch itself does not pickle the hooks of a parameter, and refuses parametrized modules. Both change
what a model computes or how it trains, so they travel here.
"""

import importlib
import io
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import torch
from torch import nn
from torch.nn.utils import parametrize


class ModelPickler(cloudpickle.Pickler):
    """As cloudpickle's, with the hooks of parameters and with torch's parametrizations.

    The hooks are pickled after their parameter, so that they may refer to it.
    """

    def reducer_override(self, obj: Any) -> Any:
        """How an object is taken apart and put together again."""
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
            if sys.modules.get(obj.__name__) is obj:  # such as torch.backends
                return importlib.import_module, (obj.__name__,)
        if isinstance(obj, nn.Parameter):
            hooks = _hooks_of(obj)
            if hooks:
                make, arguments = obj.__reduce_ex__(2)[:2]
                return make, arguments, hooks, None, None, _set_hooks
        if isinstance(obj, nn.Module) and parametrize.is_parametrized(obj):
            base = parametrize.type_before_parametrizations(obj)
            return _new, (base,), obj.__dict__, None, None, _parametrize
        return super().reducer_override(obj)


class _Looker(ModelPickler):
    """Walks through an object without copying its tensors. parameters, holders: what it met."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.parameters: dict[nn.Parameter, None] = {}
        self.holders: list[Any] = []
        self.failed = False

    def reducer_override(self, obj: Any) -> Any:
        """As for sending; what has a name for people is noted."""
        if isinstance(obj, (nn.Module, FunctionType)):
            self.holders.append(obj)
        return super().reducer_override(obj)

    def persistent_id(self, obj: Any) -> str | None:
        """Tensors are noted instead of copied."""
        if isinstance(obj, nn.Parameter):
            self.parameters[obj] = None
        return "tensor" if isinstance(obj, torch.Tensor) else None


def dumps(value: Any) -> bytes:
    """Pickle a value."""
    file = io.BytesIO()
    ModelPickler(file).dump(value)
    return file.getvalue()


def culprit(value: Any) -> str:
    """The innermost layer or function that holds what cannot be pickled, in words."""
    looker = _looked(value)
    for holder in reversed(looker.holders):
        if _looked(holder).failed:
            if isinstance(holder, FunctionType):
                return f" (in the function {holder.__qualname__})"
            return f" (in a layer of type {type(holder).__name__})"
    return ""


def _looked(value: Any) -> _Looker:
    """A walk through an object, as far as it goes."""
    looker = _Looker()
    try:
        looker.dump(value)
    except Exception:  # whatever an object raises that does not want to be pickled
        looker.failed = True
    return looker


def reached_parameters(value: Any) -> list[nn.Parameter]:
    """The parameters that a module or a function reaches, registered or not.

    Nothing for what cannot be pickled: that is refused, with the reason, when it is sent.
    """
    found: dict[nn.Parameter, None] = {}
    waiting: list[Any] = [value]
    while waiting:
        looker = _looked(waiting.pop())
        if looker.failed:
            continue
        for parameter in looker.parameters:
            if parameter not in found:
                found[parameter] = None
                waiting += _hooks_of(parameter)
    return list(found)


def _hooks_of(parameter: nn.Parameter) -> list[Callable]:
    return list((parameter._backward_hooks or {}).values())


def _set_hooks(parameter: nn.Parameter, hooks: list[Callable]) -> None:
    for hook in hooks:
        parameter.register_hook(hook)


def _new(base: type[nn.Module]) -> nn.Module:
    return base.__new__(base)


def _parametrize(module: nn.Module, state: dict[str, Any]) -> None:
    """Give a module its contents, and the properties that compute its parametrized tensors."""
    module.__dict__.update(state)
    parametrize._inject_new_class(module)
    for name in module._modules["parametrizations"]._modules:  # type: ignore[union-attr]
        parametrize._inject_property(module, name)
