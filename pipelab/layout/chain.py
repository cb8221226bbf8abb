"""A profile as arrays over its layers, and what consecutive layers add up to."""

from functools import cached_property

import numpy as np

from .profile import Profile


class Chain:
    """The layers of a profile in a row; the loss is part of the last.

    Every method takes where stages start and stop (layers [start, stop), arrays of any shape) and
    returns an array of that shape.
    """

    def __init__(self, profile: Profile):
        self._rows, self._loss = profile.layers, profile.loss
        self.layers = len(profile.layers)
        self._saved_input = self._column("saved_input_bytes", with_loss=False)
        self._received = np.array(
            [profile.input_bytes, *(layer.output_bytes for layer in profile.layers[:-1])], float
        )
        self.output_bytes = self._column("output_bytes", with_loss=False)
        """What each layer hands on."""
        self.measured_split = all(
            row.deferred_activation_bytes is not None and row.deferred_gradient_bytes is not None
            for row in (*self._rows, self._loss)
        )
        """Whether it is known what W needs."""

    def _column(self, name: str, *, with_loss: bool = True) -> np.ndarray:
        values = np.array([getattr(row, name) or 0 for row in self._rows], float)
        if with_loss:
            values[-1] += getattr(self._loss, name) or 0
        column: np.ndarray = values
        return column

    @cached_property
    def seconds_of_layer(self) -> np.ndarray:
        """F + I + W of each layer."""
        names = ("forward", "input_grad", "weight_grad")
        seconds: np.ndarray = np.sum([self._column(name) for name in names], axis=0)
        return seconds

    @cached_property
    def parameters_of_layer(self) -> np.ndarray:
        """Bytes of the weights of each layer."""
        return self._column("parameter_bytes")

    @cached_property
    def activations_of_layer(self) -> np.ndarray:
        """Bytes that each layer is the first to save."""
        return self._column("activation_bytes")

    def total(self, name: str, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """The sum of a field of ``LayerProfile`` over the layers of each stage."""
        prefix = self._prefix(name)
        sums: np.ndarray = prefix[stop] - prefix[start]
        return sums

    def seconds(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """F + I + W of each stage."""
        return self.total("seconds", start, stop)

    def activations(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Bytes that each stage saves of a micro-batch."""
        saved: np.ndarray = self.total("activation_bytes", start, stop) + self._saved_input[start]
        return saved

    def deferred_activations(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """The part of ``activations`` that W needs; where it was not measured, all of it."""
        kept = self.activations(start, stop)
        if not self.measured_split:
            return kept
        deferred: np.ndarray = np.minimum(
            kept, self.total("deferred_activation_bytes", start, stop)
        )
        return deferred

    def received(self, start: np.ndarray) -> np.ndarray:
        """Bytes of the input of each stage."""
        sizes: np.ndarray = self._received[start]
        return sizes

    def _prefix(self, name: str) -> np.ndarray:
        known: dict[str, np.ndarray] = self._prefixes
        if name not in known:
            column = self.seconds_of_layer if name == "seconds" else self._column(name)
            known[name] = np.concatenate([[0.0], np.cumsum(column)])
        return known[name]

    @cached_property
    def _prefixes(self) -> dict[str, np.ndarray]:
        return {}


def bounds(sizes: list[int] | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where the stages of so many layers each start and stop.

    >>> [cuts.tolist() for cuts in bounds([3, 2])]
    [[0, 3], [3, 5]]
    """
    stop = np.cumsum(sizes)
    return stop - np.array(sizes), stop
