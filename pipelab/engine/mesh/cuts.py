"""Which parts of a model tensor-parallel workers divide, and how the parts become one again.

    column       Linear: rows of the weight, so that each worker makes some outputs. column:3: of
                 three matrices in one (query, key, value) each. Dropout: of what columns have made
    row          Linear: columns of the weight, each worker adds its summand
    vocabulary   Embedding or the last Linear: some words each; outputs whole
    sequence     works on a part of the sequence, under sequence_parallel (norms, Dropout)
    scatter      a layer behind whose output the sequence is cut, under sequence_parallel

A plan says so by names of modules (with * and ?). Source: Shoeybi et al. 2019, §3; Korthikanti et
al. 2022, §4.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import nn

from ...errors import UsageError

PLAIN = {
    "column": (nn.Linear, nn.Dropout),
    "row": (nn.Linear,),
    "vocabulary": (nn.Embedding, nn.Linear),
}
OF_SEQUENCE = ("sequence", "scatter")
HEADS = ("heads", "num_heads", "n_head", "n_heads", "num_attention_heads")
"""What modules call their number of attention heads."""
Layers = list[tuple[int, str, nn.Module]]
"""(index in the whole model, name, module)"""


class Cut(NamedTuple):
    """How a parameter is divided: its dimension, and how many matrices stand in it one by one."""

    dim: int
    packed: int = 1

    def of(self, whole: torch.Tensor, size: int, index: int) -> torch.Tensor:
        """The part of one of ``size`` workers."""
        matrices = whole.chunk(self.packed, self.dim)
        return torch.cat([m.tensor_split(size, self.dim)[index] for m in matrices], self.dim)

    def join(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """The whole again."""
        matrices = zip(*(part.chunk(self.packed, self.dim) for part in parts), strict=True)
        return torch.cat([torch.cat(pieces, self.dim) for pieces in matrices], self.dim)


@dataclass(frozen=True)
class TensorPlan:
    """Which module is divided how. modules: kind by name; cuts: by the name of the parameter."""

    modules: Mapping[str, str]
    cuts: Mapping[str, Cut]


NO_PLAN = TensorPlan({}, {})


def plan_of(
    layers: Layers, patterns: Mapping[str, str] | None, size: int, *, sequence: bool
) -> TensorPlan:
    """Find the modules that a plan names, and check that each divides by ``size``.

    Raises UsageError, with what would work.
    """
    if size == 1:
        return NO_PLAN
    if not patterns:
        raise UsageError(
            "tensor=2 or more divides layers among workers, and nothing says which: pass "
            'tensor_plan={"0.up": "column", "0.down": "row"}, names of Linear layers in pairs. The '
            "models of pipelab.model bring their own plan while they are one nn.Sequential."
        )
    modules = {}
    for _, layer, module in layers:
        for name, each in module.named_modules(prefix=layer):
            modules[name] = each
    kinds: dict[str, str] = {}
    for pattern, kind in patterns.items():
        found = [name for name in modules if fnmatchcase(name, pattern)]
        if not found:
            some = ", ".join([name for name in modules if not modules[name]._modules][:4])
            raise UsageError(
                f"tensor_plan names {pattern!r}, and no module of the model is called so. Names "
                f"are such as {some}."
            )
        _require_kind(pattern, kind)
        kinds |= dict.fromkeys(found, kind)
    if not sequence:
        kinds = {name: kind for name, kind in kinds.items() if kind not in OF_SEQUENCE}
    elif "scatter" not in kinds.values():
        raise UsageError(
            "sequence_parallel needs to know where the sequence is cut first: name a layer as "
            '"scatter" in tensor_plan, and the norms that then work on a part as "sequence".'
        )
    if not any(kind.split(":")[0] in PLAIN for kind in kinds.values()):
        raise UsageError("tensor_plan divides no layer: name some as column, row or vocabulary.")
    cuts: dict[str, Cut] = {}
    for name, kind in kinds.items():
        parent = modules.get(name.rpartition(".")[0])
        if parent is not None and kind.startswith("column"):
            _require_heads(name, parent, size)
        cuts |= _cuts_of(name, modules[name], kind, size)
    _require_alike(modules, cuts)
    return TensorPlan(kinds, cuts)


def _require_alike(modules: Mapping[str, nn.Module], cuts: Mapping[str, Cut]) -> None:
    """A parameter that several modules share is divided in all of them, and alike."""
    first: dict[nn.Parameter, str] = {}
    for name, module in modules.items():
        for own, parameter in module.named_parameters(recurse=False):
            one = first.setdefault(parameter, f"{name}.{own}")
            if cuts.get(one) != cuts.get(f"{name}.{own}"):
                raise UsageError(
                    f"{one} and {name}.{own} are one parameter, and tensor_plan divides it in two "
                    "ways: name both modules, with the same kind."
                )


def _require_kind(name: str, kind: str) -> None:
    what, _, packed = str(kind).partition(":")
    known = what in PLAIN or what in OF_SEQUENCE
    if not known or (":" in str(kind) and (what != "column" or not packed.isdecimal())):
        valid = ", ".join([*PLAIN, "column:3", *OF_SEQUENCE])
        raise UsageError(f"tensor_plan gives {name!r} the kind {kind!r}; it is one of {valid}.")


def _cuts_of(name: str, module: nn.Module, kind: str, size: int) -> dict[str, Cut]:
    """How the parameters of one module are divided. Raises UsageError where they are not."""
    what, _, packed = kind.partition(":")
    if kind in OF_SEQUENCE:
        return {}
    if type(module) not in PLAIN[what]:
        able = " or ".join(each.__name__ for each in PLAIN[what])
        raise UsageError(
            f"tensor_plan divides {name!r} by {what}, which is a {type(module).__name__}: only "
            f"torch's own {able} can be, without changes."
        )
    if isinstance(module, nn.Dropout):
        return {}
    for parameter in module.parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UsageError(
                f"The weights of {name!r} have hooks, which would see a part of the gradient: "
                "leave the module out of tensor_plan."
            )
    if isinstance(module, nn.Embedding):
        if module.max_norm is not None or module.sparse or module.scale_grad_by_freq:
            raise UsageError(
                f"{name!r} is an Embedding with max_norm, sparse or scale_grad_by_freq, which need "
                "all words in one place: leave it out of tensor_plan."
            )
        _require_divides(name, "words", module.num_embeddings, size)
        return {f"{name}.weight": Cut(0)}
    assert isinstance(module, nn.Linear)
    if what == "row":
        _require_divides(name, "inputs", module.in_features, size)
        return {f"{name}.weight": Cut(1)}
    parts = int(packed or 1)
    if parts < 1 or module.out_features % parts:
        raise UsageError(
            f"tensor_plan says that {name!r} is {packed} matrices in one, but {packed} does not "
            f"divide its {module.out_features} outputs."
        )
    _require_divides(name, "outputs", module.out_features // parts, size)
    cuts = {f"{name}.weight": Cut(0, parts)}
    if module.bias is not None:
        cuts[f"{name}.bias"] = Cut(0, parts)
    return cuts


def _require_divides(name: str, what: str, count: int, size: int) -> None:
    if count % size:
        works = ", ".join(str(n) for n in range(2, min(count, 16) + 1) if count % n == 0)
        raise UsageError(
            f"tensor={size} does not divide the {count} {what} of {name!r}: "
            f"{works or 'nothing up to 16'} would."
        )


def _require_heads(name: str, parent: nn.Module, size: int) -> None:
    """Attention is divided by heads: each worker has some of them whole."""
    for attribute in HEADS:
        heads = getattr(parent, attribute, None)
        if isinstance(heads, int) and heads % size:
            works = ", ".join(str(n) for n in range(2, heads + 1) if heads % n == 0)
            raise UsageError(
                f"tensor={size} does not divide the {heads} attention heads round {name!r}: "
                f"tensor={works or '1'} would."
            )


def rows_of(length: int, size: int, index: int) -> tuple[int, int]:
    """The rows that one of ``size`` copies holds, as ``torch.tensor_split`` divides them."""
    each, more = divmod(length, size)
    low = index * each + min(index, more)
    return low, low + each + (index < more)


def share_size(tensor: torch.Tensor, size: int, index: int) -> int:
    """How many numbers of it ``share_of`` gives, whether it is there or not."""
    if tensor.dim() == 0:
        return int(index == 0)
    low, high = rows_of(len(tensor), size, index)
    return (high - low) * (tensor.numel() // max(len(tensor), 1))


def share_of(tensor: torch.Tensor, size: int, index: int) -> torch.Tensor:
    """What one of ``size`` copies holds under ZeRO: some rows; a lone number the first alone."""
    if tensor.dim() == 0:
        return tensor if index == 0 else tensor.new_empty(0)
    low, high = rows_of(len(tensor), size, index)
    return tensor[low:high]
