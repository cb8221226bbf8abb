"""Models and data for runs with real workers. One server serves the whole test session."""

import pytest
import torch
from torch import nn

from pipelab import engine


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
    return torch.randn(size, width, generator=generator), torch.randint(
        4, (size,), generator=generator
    )


@pytest.fixture
def model():
    return mlp()


@pytest.fixture
def data():
    return batch()
