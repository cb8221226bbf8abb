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
        if not issubclass(type(thing), torch.Tensor) or tuple(thing.shape) not in shapes:
            continue
        held = thing.detach().cpu().numpy()
        found |= {i for i, value in enumerate(values) if np.array_equal(held, value)}
    return sorted(found)
