"""What widgets share whose kernel draws at every change of a switch.

They are ``memory``, ``shapes`` and ``planner``; ``switches.js`` is the other side.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from ..errors import UnknownName
from .goals import GoalsWidget
from .requests import listen


class SwitchesWidget(GoalsWidget):
    """Traits as switches, of which several can be changed at once.

    names: of the switches. picks: traits that choose something in the picture, set after it.
    """

    names: ClassVar[tuple[str, ...]]
    picks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **traits: Any):
        self._lock = threading.RLock()
        self._quiet = True
        super().__init__(**traits)
        self._quiet = False
        self._settle()
        self.observe(lambda _: self._settle(), names=list(self.names))
        listen(self, self._told)

    def apply(self, **changes: Any) -> None:
        """Change several switches at once. Raises UnknownName."""
        for name in changes:
            if name not in (*self.names, *self.picks):
                raise UnknownName("switch", name, self.names)
        with self._lock:
            with self._quietly():
                for name, value in changes.items():
                    if name in self.names:
                        setattr(self, name, value)
            self._settle()
            for name, value in changes.items():
                if name in self.picks:
                    setattr(self, name, value)

    def _settle(self) -> None:
        """Draw what the switches say, unless ``_quiet``."""
        raise NotImplementedError

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """While it lasts, changes draw nothing."""
        self._quiet, before = True, self._quiet
        try:
            yield
        finally:
            self._quiet = before

    def _told(self, action: str, _arguments: dict[str, Any]) -> None:
        if action == "show_goal":
            self.show_goal()
        elif action == "hello":
            self.send({"hello": True})
