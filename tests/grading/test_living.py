"""Which tensors a process holds, by value."""

import numpy as np
import torch

from pipelab.grading.living import living


def test_what_is_held_is_found_by_value():
    held = [torch.full((3, 2), 41.5), torch.nn.Parameter(torch.full((3, 2), 42.5))]
    asked = [np.full((3, 2), value, np.float32) for value in (40.5, 41.5, 42.5)]
    assert living(asked) == [1, 2]
    others = [  # none of which has values to look at as they are
        torch.nn.LazyLinear(2).weight,
        torch.ones(3, 2).to_sparse(),
        torch.empty(3, 2, device="meta"),
        torch.ones(3, 2, dtype=torch.bfloat16),
    ]
    assert living(asked) == [1, 2]
    del held, others
    assert living(asked) == []
