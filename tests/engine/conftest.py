"""Models and data for runs with real workers. One server serves the whole test session."""

import pytest
import torch
from torch import nn

from pipelab import engine
from pipelab.catalogue import build, names
from pipelab.engine.interpreter import SUPPORTED


def _trainable(name: str) -> bool:
    schedule = build(name, ranks=2, microbatches=4)
    return schedule.kinds <= SUPPORTED and schedule.replicas == 1 and not schedule.overlaps and schedule.weights == "one"


TRAINABLE = list(filter(_trainable, names()))
"""The schedules of F and full B, on one copy of the weights; the engine refuses the others by name."""


@pytest.fixture(scope="session", autouse=True)
def pool():
    engine.warm()
    yield
    engine.shutdown()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def mlp(layers: int = 8, width: int = 16, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(layers - 1)]
    return nn.Sequential(*blocks, nn.Linear(width, 4))


def batch(size: int = 24, width: int = 16, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, width, generator=generator), torch.randint(4, (size,), generator=generator)


@pytest.fixture
def model():
    return mlp()


@pytest.fixture
def data():
    return batch()
