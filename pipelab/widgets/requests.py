"""Requests of a widget's front end, heard in the order in which a person made them."""

from collections.abc import Callable
from typing import Any

from ipywidgets import Widget


def listen(widget: Widget, told: Callable[[str, dict[str, Any]], object]) -> None:
    """Call ``told(action, arguments)`` for every request of the front end.

    A request brings the traits that the person changed before it: ipywidgets holds those back while
    the kernel works, and would deliver them after it (see requests.js).
    """

    def hear(_widget: Widget, content: dict[str, Any], _buffers: list[Any]) -> None:
        arguments = dict(content)
        action = arguments.pop("action")
        widget.set_state(arguments.pop("changed", {}))
        told(action, arguments)

    widget.on_msg(hear)
