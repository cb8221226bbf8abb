"""Exercise 15: waiting and transfer in a log of events, and the two numbers of a link."""


def waiting_and_transfer(asked: float, sent: float, arrived: float) -> tuple[float, float]:
    """How long the rank stood still because nothing had been sent, and how long because it was under way.

    >>> waiting_and_transfer(10.0, 14.0, 15.0)
    (4.0, 1.0)
    """
    raise NotImplementedError("exercise 15: waiting_and_transfer")


def totals(log: list[dict]) -> dict[int, tuple[float, float, float]]:
    """rank -> seconds of (compute, waiting, transfer)."""
    raise NotImplementedError("exercise 15: totals")


def fit(log: list[dict]) -> tuple[float, float]:
    """(latency in seconds, bandwidth in bytes per second)."""
    raise NotImplementedError("exercise 15: fit")
