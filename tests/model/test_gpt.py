"""The GPT: shapes, causality, and layers that can be cut anywhere."""

import pytest
import torch

from pipelab.errors import UsageError
from pipelab.model.gpt import Block, Embedding, Head, gpt, next_character_loss


def small():
    torch.manual_seed(0)
    return gpt(layers=4, width=12, vocabulary=7, sequence=5)


def test_layers_count_the_embedding_and_the_head():
    assert [type(layer) for layer in small()] == [Embedding, Block, Block, Head]


def test_shapes_from_layer_to_layer():
    x = torch.randint(7, (3, 5))
    shapes = []
    for layer in small():
        x = layer(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(3, 5, 12)] * 3 + [(3, 5, 7)]


def test_a_character_does_not_see_what_follows():
    model = small()
    text = torch.tensor([[0, 1, 2, 3, 4]])
    changed = torch.tensor([[0, 1, 2, 6, 6]])
    before, after = model(text), model(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_a_character_sees_what_stands_before_it():
    model = small()
    assert not torch.allclose(
        model(torch.tensor([[0, 1, 2, 3, 4]]))[:, -1], model(torch.tensor([[5, 1, 2, 3, 4]]))[:, -1]
    )


@pytest.mark.parametrize("width, heads", [(8, 4), (6, 2), (5, 1)])
def test_every_width_has_heads_that_divide_it(width, heads):
    model = gpt(layers=3, width=width, vocabulary=7, sequence=5)
    assert model[1].heads == heads
    assert model(torch.zeros(1, 5, dtype=torch.int64)).shape == (1, 5, 7)


def test_loss_is_the_mean_over_all_characters():
    scores, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    each = [-scores[b, s].log_softmax(0)[targets[b, s]] for b in range(2) for s in range(5)]
    torch.testing.assert_close(next_character_loss(scores, targets), torch.stack(each).mean())


def test_one_layer_is_refused():
    with pytest.raises(
        UsageError, match="a gpt of 1 layers cannot be built.*at least 2.*--model mlp"
    ):
        gpt(layers=1, width=8, vocabulary=7, sequence=5)
