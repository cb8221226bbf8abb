"""The real run behind a widget, for the lab and the builder alike.

In: a predicted timeline. Out: what a Training publishes, as the widget's traits, as long as the run
is still the one that the widget shows.
"""

import threading
from typing import Any

import anywidget
import traitlets

from ..errors import UsageError
from ..simulator import Costs
from ..timeline import Timeline
from .settings import Settings
from .training import IDLE, PACE_MS, Training


class RealRunWidget(anywidget.AnyWidget):
    """A widget with two pictures, predicted and measured, and at most one real run.

    ``progress`` tells how the run goes. A run publishes from a thread of its own: ``_lock``, which
    a subclass makes, guards all.
    """

    paced = traitlets.Bool(default_value=True).tag(sync=True)
    predicted = traitlets.Dict().tag(sync=True)
    run_picture = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(IDLE).tag(sync=True)
    pace_ms = traitlets.Float(PACE_MS).tag(sync=True)

    _lock: threading.RLock
    _training: Training | None = None

    def stop(self) -> None:
        """Stop the real run, if one is on; its end shows in ``progress``."""
        if self._training:
            self._training.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run is on; returns whether that came within ``timeout`` seconds."""
        return self._training.wait(timeout) if self._training else True

    def show_step(self, step: int) -> None:
        """Show another step of the run that has ended, from 0; the median is shown first.

        Raises UsageError where there is no such step.
        """
        with self._lock, self.hold_sync():
            if self._training is None:
                raise UsageError("There is no run to show a step of: run first.")
            shown = self._training.step(step)
            self.progress = self.progress | shown["about"]
            self._show_run(shown["timelines"], shown["costs"])

    def close(self) -> None:
        """Close the widget and stop its run: nothing outlives it."""
        with self._lock:
            training = self._let_go()
        if training:
            training.stop()
        super().close()

    @property
    def _busy(self) -> bool:
        return self._training is not None and self._training.busy

    def _begin(self, settings: Settings, timeline: Timeline) -> None:
        """Start a run that is predicted by this timeline."""
        unit_ms = self.pace_ms
        if self.paced:
            self._pace(unit_ms)
        self._training = Training(
            settings, timeline, paced=self.paced, unit_ms=unit_ms, publish=self._publish
        )
        self._training.start()

    def _let_go(self) -> Training | None:
        """Forget the run, whose news then count no more, and return it."""
        training, self._training = self._training, None
        return training

    def _publish(
        self,
        training: Training,
        *,
        timelines: dict[str, Timeline] | None = None,
        costs: Costs | None = None,
        unit_ms: float | None = None,
        **traits: Any,
    ) -> None:
        with self._lock, self.hold_sync():
            if training is not self._training:
                return  # what is shown has changed since: these news belong to another picture
            for name, value in traits.items():
                setattr(self, name, value)
            if unit_ms is not None:
                self._pace(unit_ms)
            if timelines:
                self._show_run(timelines, costs)

    def _pace(self, unit_ms: float) -> None:
        """Show the prediction at this pace, in milliseconds of one unit of cost."""
        raise NotImplementedError

    def _show_run(self, timelines: dict[str, Timeline], costs: Costs | None) -> None:
        """Show what the finished run has measured, beside its prediction.

        ``costs`` are those of the prediction, if they are not the settings'.
        """
        raise NotImplementedError
