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
        if not issubclass(type(thing), torch.Tensor) or torch.nn.parameter.is_lazy(thing):
            continue  # a lazy parameter has no shape yet
        if thing.layout is not torch.strided or thing.is_meta or tuple(thing.shape) not in shapes:
            continue
        numbers = thing.detach().cpu()
        held = (numbers.float() if numbers.dtype is torch.bfloat16 else numbers).numpy()
        found |= {i for i, value in enumerate(values) if np.array_equal(held, value)}
    return sorted(found)
