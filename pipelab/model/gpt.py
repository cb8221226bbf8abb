"""A small GPT as a plain list of layers, so that a pipeline can cut it anywhere.

    layer 0        Embedding   (batch, sequence)          -> (batch, sequence, hidden)
    layer 1..L-2   Block       (batch, sequence, hidden)  -> (batch, sequence, hidden)
    layer L-1      Head        (batch, sequence, hidden)  -> (batch, sequence, vocabulary)

One tensor goes from each layer to the next: what a stage sends is what its last
layer returns.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners", section 2.3 (normalisation before attention and before the MLP, and
once more before the output). Left out: tied embeddings, which would tie the
first stage to the last, and dropout.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from ..errors import UsageError

TENSOR_PLAN = {
    "0.token": "vocabulary",
    "*.query_key_value": "column:3",
    "*.projection": "row",
    "*.widen": "column",
    "*.narrow": "row",
    "*.scores": "vocabulary",
    "0": "scatter",
    "*norm": "sequence",
}
"""How tensor-parallel workers divide it: attention by heads, the MLP by its wide middle, embedding
and head by words. Source: Shoeybi et al. 2019, section 3."""


class Embedding(nn.Module):
    """Characters to vectors, and to each the vector of its position.

    Shapes: (batch, sequence) of int64 -> (batch, sequence, hidden).
    """

    def __init__(self, vocabulary: int, sequence: int, hidden: int):
        super().__init__()
        self.token = nn.Embedding(vocabulary, hidden)
        self.position = nn.Embedding(sequence, hidden)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Add the vectors of the characters and of their positions."""
        positions = torch.arange(characters.shape[1], device=characters.device)
        vectors: torch.Tensor = self.token(characters) + self.position(positions)
        return vectors


class Block(nn.Module):
    """Attention, then an MLP; each adds to what came in.

    Shapes: (batch, sequence, hidden) -> (batch, sequence, hidden).
    """

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads, self.head_size = heads, hidden // heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.projection = nn.Linear(hidden, hidden)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.widen = nn.Linear(hidden, 4 * hidden)
        self.narrow = nn.Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the attention, then the MLP."""
        x = x + self.projection(self.attend(self.attention_norm(x)))
        wide: torch.Tensor = functional.gelu(self.widen(self.mlp_norm(x)))
        narrow: torch.Tensor = self.narrow(wide)
        return x + narrow

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Causal attention: a character sees itself and what stands before it."""
        parts = self.query_key_value(x).chunk(3, dim=-1)  # (batch, sequence, hidden) each
        # (batch, heads, sequence, hidden / heads) each
        heads = [part.unflatten(-1, (-1, self.head_size)).transpose(1, 2) for part in parts]
        query, key, value = heads
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return seen.transpose(1, 2).flatten(2)  # (batch, sequence, hidden)


class Head(nn.Module):
    """Vectors to scores for the next character.

    Shapes: (batch, sequence, hidden) -> (batch, sequence, vocabulary).
    """

    def __init__(self, hidden: int, vocabulary: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.scores = nn.Linear(hidden, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise once more, and score."""
        scores: torch.Tensor = self.scores(self.norm(x))
        return scores


def gpt(*, layers: int, width: int, vocabulary: int, sequence: int) -> nn.Sequential:
    """A GPT of `layers` layers: the embedding, `layers - 2` blocks, the head.

    Args:
        layers: how many pieces a pipeline can cut it into, at least 2.
        width: size of the hidden vectors; split over four heads where it divides by four.
        vocabulary: number of different characters.
        sequence: the longest text it reads at once, in characters.

    Raises:
        UsageError: fewer than two layers.
    """
    if layers < 2:
        raise UsageError(
            f"a gpt of {layers} layers cannot be built: the embedding and the head are layers too, "
            "so it has at least 2. Use --layers 2 or more, or --model mlp"
        )
    heads = math.gcd(width, 4)
    model = nn.Sequential(
        Embedding(vocabulary, sequence, width),
        *(Block(width, heads) for _ in range(layers - 2)),
        Head(width, vocabulary),
    )
    model.tensor_plan = TENSOR_PLAN  # type: ignore[assignment]
    return model


def next_character_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy, in nats per character.

    Shapes: scores (batch, sequence, vocabulary), targets (batch, sequence) -> a scalar.
    """
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
