"""Real text that every machine has: the sources of Python's own standard library.

In: nothing but the Python that runs. Out: characters as small numbers. Nothing is
downloaded, and the same Python version gives the same text on every machine.
"""

import re
import sys
import textwrap
from collections import Counter
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import torch

from ..errors import UsageError

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
"""The characters a model knows: the end of a line and printable ASCII. Others are dropped."""

CHARACTERS = 400_000
"""How much is read, in characters: about thirty modules, more than a lesson ever shows a model."""

# `textwrap` is an ordinary file in every Python; `os` may be frozen into the interpreter.
STANDARD_LIBRARY = str(Path(textwrap.__file__).parent)


@lru_cache(maxsize=1)
def standard_library_text(home: str = STANDARD_LIBRARY) -> torch.Tensor:
    """The first `CHARACTERS` characters of the standard library, module by module from a to z.

    Args:
        home: the folder of the standard library, or the zip file that holds it.

    Returns:
        Indices into `VOCABULARY`, shape (characters,), int64.

    Raises:
        UsageError: this Python came without the sources of its library.
    """
    pieces, total = [], 0
    for name in sorted(name for name in sys.stdlib_module_names if not name.startswith("_")):
        piece = encode(_source(name, home))
        pieces.append(piece)
        total += len(piece)
        if total >= CHARACTERS:
            return torch.cat(pieces)[:CHARACTERS]
    if total == 0:
        raise UsageError(
            f"found no Python sources in {home}, and the gpt is trained on those of the standard "
            "library: this Python was installed without them (only compiled files). Use a Python "
            "that has them, or --model mlp, whose data is generated"
        )
    return torch.cat(pieces)


def _source(name: str, home: str) -> str:
    """The source of a top-level module, "" where it has none (an extension, frozen, absent)."""
    # Looked up in `home` alone: a student's own random.py must not become training data.
    spec = PathFinder.find_spec(name, [home])
    read = getattr(spec and spec.loader, "get_source", None)
    return (read and read(name)) or ""


def encode(text: str) -> torch.Tensor:
    """Text to indices into `VOCABULARY`, shape (characters known,), int64."""
    known = np.full(128, -1)
    known[[ord(character) for character in VOCABULARY]] = range(len(VOCABULARY))
    indices = known[np.frombuffer(text.encode("ascii", "ignore"), np.uint8)]
    return torch.from_numpy(indices[indices >= 0])


def decode(indices: torch.Tensor) -> str:
    """Indices into `VOCABULARY` back to text."""
    return "".join(VOCABULARY[index] for index in indices.tolist())


@lru_cache(maxsize=2)
def standard_library_words(count: int) -> torch.Tensor:
    """The same text in words: names, numbers, signs and stretches of blanks.

    The ``count`` - 1 most frequent words have a number each; all others share the number 0.

    Returns:
        Numbers below ``count``, shape (words,), int64.
    """
    found = re.findall(r"\w+|\s+|[^\w\s]", decode(standard_library_text()))
    known = [word for word, _ in Counter(found).most_common(count - 1)]
    numbers = {word: number for number, word in enumerate(known, 1)}
    return torch.tensor([numbers.get(word, 0) for word in found])
