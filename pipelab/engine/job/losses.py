"""Loss functions that a run cannot train: found before anything starts."""

import functools
from collections.abc import Callable

from torch import nn

from ...errors import UsageError

REMEDY = (
    "Move it into a layer at the end of the model, which hands it to the loss beside the output "
    "(return output, self.temperature), or freeze it with requires_grad_(False)."
)


def check_loss(loss: Callable) -> None:
    """Raise UsageError for a loss that has trainable parameters of its own.

    What hides in a closure is found when the loss first runs (``stage.loss_checks``).
    """
    for module in _modules_of(loss):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                raise UsageError(
                    f"loss_fn ({type(module).__name__}) has a trainable parameter of its own, "
                    f"{name}. A run trains the layers of the model alone, so it would never be "
                    f"stepped, saved or clipped. {REMEDY}"
                )


def _modules_of(loss: object) -> list[nn.Module]:
    """The modules that a loss is, is a method of, or carries in its attributes or arguments."""
    if isinstance(loss, nn.Module):
        return [loss]
    if isinstance(loss, functools.partial):
        parts = [loss.func, *loss.args, *loss.keywords.values()]
        return [module for part in parts for module in _modules_of(part)]
    owner = getattr(loss, "__self__", loss)
    if isinstance(owner, nn.Module):
        return [owner]
    carried = getattr(owner, "__dict__", {}).values()
    return [value for value in carried if isinstance(value, nn.Module)]
