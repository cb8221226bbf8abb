"""Whether a loss is a mean over the samples, from its value on a batch and on its micro-batches."""

import math

TOLERANCE = 1e-3
"""How far, relatively, the two may differ by rounding alone."""


def not_a_mean(whole: float, weighted: float, microbatches: int | None = None) -> str | None:
    """The note for a loss that is not a mean; None where it is one, or where nothing can be said.

    Args:
        whole: the loss of the full batch.
        weighted: the losses of the micro-batches, each times its share, added up.
        microbatches: how many there are, to recognise a sum.

    >>> print(not_a_mean(8.0, 2.0, 4).split(":")[0])
    loss_fn is not a mean
    >>> not_a_mean(2.0, 2.0) is None
    True
    """
    if not (math.isfinite(whole) and math.isfinite(weighted)):
        return None
    if abs(whole - weighted) <= TOLERANCE * max(abs(whole), abs(weighted)):
        return None
    if not weighted:
        return "loss_fn is not a mean: the micro-batches' losses are 0, the full batch's is not"
    factor = whole / weighted
    note = (
        f"loss_fn is not a mean: the full batch's loss is {factor:.4g} times the weighted mean of "
        "the micro-batches' losses"
    )
    if microbatches and abs(factor / microbatches - 1) < 0.01:
        return (
            f"{note}, as that of a sum is, so the gradients are 1/{microbatches} of the full "
            "batch's; return a mean (reduction='mean')"
        )
    return f"{note}; return a mean over the samples, or say with weight=… what each counts"
