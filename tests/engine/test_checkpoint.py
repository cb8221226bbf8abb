"""Checkpoints: training goes on exactly where it stopped, cut otherwise too, and the unsplit model
loads them.
"""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.errors import UsageError

from .conftest import batch, mlp
from .test_training import decay, language_model, sentences

ADAM = functools.partial(torch.optim.Adam, lr=0.01)
SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def batches(step):
    return batch(seed=step)


def dropping():
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.2)) for _ in range(3)
    ]
    return nn.Sequential(*layers, nn.Linear(16, 4))


def train(model, **options):
    options = {
        "schedule": "1f1b",
        "ranks": 4,
        "microbatches": 3,
        "steps": 2,
        "optimizer": ADAM,
    } | options
    data = options.pop("data", batches)
    return pipelab.run(model, data, None, functional.cross_entropy, **options)


@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "chimera", "pipedream"])
def test_two_and_two_steps_are_four_to_the_bit(tmp_path, schedule, optimizer):
    """With dropout, BatchNorm and a learning rate that decays; the model passed on is the one it
    began with.
    """
    model, path = dropping(), tmp_path / "half.pt"
    options = {"schedule": schedule, "microbatches": 4, "optimizer": optimizer, "scheduler": decay}
    through = train(model, steps=4, seed=7, **options)
    first = train(model, seed=7, **options)
    first.save(path)
    second = train(model, resume=path, **options)
    assert first.losses + second.losses == through.losses
    assert second.seed == 7
    state = second.state_dict
    parameters = dict(model.named_parameters())
    for name, value in through.state_dict.items():
        if (
            name in parameters or schedule != "chimera"
        ):  # statistics of its second copy are not kept
            assert torch.equal(state[name], value), name
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_does_not_depend_on_the_cut(tmp_path):
    model, path = mlp().double(), tmp_path / "half.pt"

    def data(step):
        x, y = batch(seed=step)
        return x.double(), y

    train(model, data=data).save(path)
    resumed = train(model, data=data, resume=path, ranks=2, schedule="zb-v", microbatches=4)
    through = train(model, data=data, steps=4)
    for name, value in through.state_dict.items():
        torch.testing.assert_close(resumed.state_dict[name], value, rtol=1e-9, atol=1e-12)
    assert resumed.gradient_error <= 1e-12


def test_the_unsplit_model_and_its_optimizer_load_it(tmp_path):
    model, path = mlp(), tmp_path / "half.pt"
    train(model).save(path)
    saved = torch.load(path, weights_only=True)
    whole = copy.deepcopy(model)
    whole.load_state_dict(saved["model"])
    optimizer = ADAM(whole.parameters())
    optimizer.load_state_dict(saved["optimizer"])
    assert saved["step"] == 2
    for step in (2, 3):
        x, y = batches(step)
        optimizer.zero_grad()
        functional.cross_entropy(whole(x), y).backward()
        optimizer.step()
    for name, value in train(model, resume=path).state_dict.items():
        torch.testing.assert_close(value, whole.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_tied_weights_stay_tied(tmp_path):
    model, path = language_model(), tmp_path / "half.pt"
    train(model, data=sentences).save(path)
    resumed, through = (
        train(model, data=sentences, resume=path),
        train(model, data=sentences, steps=4),
    )
    assert resumed.losses == through.losses[2:]
    assert all(
        torch.equal(resumed.state_dict[name], value) for name, value in through.state_dict.items()
    )
    assert torch.equal(resumed.state_dict["0.weight"], resumed.state_dict["4.weight"])


def test_groups_of_parameters_keep_their_options(tmp_path):
    def groups(parameters):
        parameters = list(parameters)
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
            ],
            lr=0.01,
        )

    model, path = mlp(), tmp_path / "half.pt"
    train(model, optimizer=groups).save(path)
    saved = torch.load(path, weights_only=True)
    assert [group["weight_decay"] for group in saved["optimizer"]["param_groups"]] == [0.1, 0.0]
    groups(copy.deepcopy(model).parameters()).load_state_dict(saved["optimizer"])
    resumed, through = (
        train(model, optimizer=groups, resume=path),
        train(model, optimizer=groups, steps=4),
    )
    assert resumed.losses == through.losses[2:]


def test_a_run_without_an_optimizer_saves_the_model_alone(tmp_path):
    path = tmp_path / "model.pt"
    train(mlp(), optimizer=None, steps=1).save(path)
    saved = torch.load(path, weights_only=True)
    assert all(
        torch.equal(saved["model"][name], value) for name, value in mlp().state_dict().items()
    )
    assert saved["optimizer"] == {"state": {}, "param_groups": []}


def test_what_cannot_be_resumed(tmp_path):
    path, other = tmp_path / "half.pt", tmp_path / "other.pt"
    train(mlp()).save(path)
    with pytest.raises(
        pipelab.PipelabError, match="half.pt is of another model: .*size mismatch for 0.0.weight"
    ):
        train(mlp(width=8), resume=path)
    with pytest.raises(pipelab.PipelabError, match="resume without an optimizer changes nothing"):
        train(mlp(), resume=path, optimizer=None)
    with pytest.raises(FileNotFoundError):
        train(mlp(), resume=tmp_path / "nowhere.pt")
    other.write_text("no checkpoint")
    with pytest.raises(pipelab.PipelabError, match="other.pt is no checkpoint"):
        train(mlp(), resume=other)
    torch.save(mlp().state_dict(), other)
    with pytest.raises(
        pipelab.PipelabError,
        match="lacks model, optimizer, step or seed. A state_dict alone goes into the",
    ):
        train(mlp(), resume=other)
    with pytest.raises(pipelab.PipelabError, match="was saved with 1 group of parameters.*makes 2"):
        train(
            mlp(),
            resume=path,
            optimizer=lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:]}], lr=0.1),
        )
    with pytest.raises(pipelab.PipelabError, match="was saved without a scheduler"):
        train(mlp(), resume=path, scheduler=decay)


def test_other_optimizers_on_different_ranks_are_not_saved_as_one(tmp_path):
    """The options of the first rank's were written for all, and a resumed run trained with them."""

    def by_width(parameters):
        return torch.optim.SGD(parameters, lr=0.1 if len(parameters) > 2 else 0.5)

    torch.manual_seed(0)
    layers = [nn.Linear(8, 8) for _ in range(3)]
    x = torch.randn(12, 8)
    run = pipelab.run(layers, x, x, functional.mse_loss, schedule="1f1b", ranks=2, microbatches=2,
                      optimizer=by_width)  # fmt: skip
    with pytest.raises(UsageError, match="other optimizers or options on different ranks"):
        run.save(tmp_path / "never.pt")
