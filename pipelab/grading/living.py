"""Which tensors a student's process still holds: asked in its room, by value."""

import gc
from collections.abc import Sequence
from typing import Any


def living(values: Sequence[Any]) -> list[int]:
    """The places of those arrays to which some tensor of this process is equal.

    values: of numpy, so that the question itself holds no tensor.
    """
    import numpy as np
    import torch

    gc.collect()
    shapes = {value.shape for value in values}
    found: set[int] = set()
    for thing in gc.get_objects():
        if not issubclass(type(thing), torch.Tensor):
            continue
        try:
            if tuple(thing.shape) not in shapes:
                continue
            held = thing.detach().cpu()
            numbers = (held.float() if held.dtype is torch.bfloat16 else held).numpy()
        except Exception:  # lazy, sparse, meta, symbolic: there are no values to look at
            continue
        found |= {i for i, value in enumerate(values) if np.array_equal(numbers, value)}
    return sorted(found)
