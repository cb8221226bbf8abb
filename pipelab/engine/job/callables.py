"""What a user passes as a function: looked at before a worker calls it."""

import inspect
from typing import Any

from torch import nn

from ...errors import UsageError


def require_takes(
    what: str, function: object, arguments: tuple[str, ...], how: str, extra: str | None = None
) -> None:
    """Raise UsageError for what is not callable, or not with so many arguments.

    Args:
        what: the option, for people.
        function: its value.
        arguments: what it is called with, for people.
        how: what it should be.
        extra: the name of an argument that it gets where it has one.
    """
    if not callable(function):
        raise UsageError(f"{what} is not callable; {how}.")
    if isinstance(function, type) and issubclass(function, nn.Module):
        name = function.__name__
        raise UsageError(f"{what} is the class {name}; make one of it: {what}={name}().")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C have none
        return
    more: dict[str, Any] = {}
    if extra in list(signature.parameters)[1:]:
        more[str(extra)] = None
    try:
        signature.bind(*arguments, **more)
    except TypeError as error:
        raise UsageError(
            f"{what} cannot be called with {', '.join(arguments)}: {error}; {how}."
        ) from None
