"""What a model has learned, made visible: where it draws its borders, and what it writes.

In: a model of the course and trained weights. Out: plain numbers and text.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from .gpt import Embedding
from .text import VOCABULARY, decode, encode

EDGE = 1.15
"""The spirals lie within about ±1."""


def regions(
    model: nn.Sequential, weights: Mapping[str, torch.Tensor], side: int = 40
) -> np.ndarray:
    """The arm that the model sees at each point of a square round the spirals.

    Returns:
        (side, side) of int64; row 0 is the lowest y, column 0 the lowest x.
    """
    places = torch.linspace(-EDGE, EDGE, side)
    y, x = torch.meshgrid(places, places, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1)
    with torch.no_grad():
        scores = functional_call(model, dict(weights), (points,))
    found: np.ndarray = scores.argmax(dim=1).unflatten(0, (side, side)).numpy()
    return found


def writes(
    model: nn.Sequential, weights: Mapping[str, torch.Tensor], prompt: str, characters: int = 8
) -> str:
    """The characters that the model writes after a prompt, the likeliest one each time."""
    embedding = model[0]
    assert isinstance(embedding, Embedding)
    sequence = embedding.position.num_embeddings
    text = encode(prompt)
    with torch.no_grad():
        for _ in range(characters):
            scores = functional_call(model, dict(weights), (text[None, -sequence:],))
            text = torch.cat([text, scores[0, -1, : len(VOCABULARY)].argmax()[None]])
    return decode(text[-characters:])
