"""The shape of a transformer: what its parameters, FLOPs and bytes follow from."""

from dataclasses import dataclass

from ...errors import UnknownName, UsageError


@dataclass(frozen=True)
class Transformer:
    """A decoder of equal layers, each attention and an MLP, between an embedding and logits.

    kv_heads: heads of keys and values (grouped queries); 0 for as many as heads. ffn: width of the
    MLP; 0 for 4 × hidden. gated: whether the MLP has a third matrix (SwiGLU); such models have no
    biases and no learned positions, and their logits have a matrix of their own; the others share
    the embedding's. sequence: tokens of a sample.

    Raises UsageError for sizes that cannot be.

    >>> round(Transformer("GPT 1T", 128, 25600, 160).parameters / 1e9)
    1008
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int = 0
    ffn: int = 0
    gated: bool = False
    vocabulary: int = 51200
    sequence: int = 2048

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        object.__setattr__(self, "ffn", self.ffn or 4 * self.hidden)
        for field in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocabulary", "sequence"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{field} is {value!r}; it is a whole number, 1 or more.")
        if self.hidden % self.heads:
            raise UsageError(
                f"hidden {self.hidden} does not divide by {self.heads} heads; "
                f"{self.heads * max(1, round(self.hidden / self.heads))} would."
            )
        if self.heads % self.kv_heads:
            raise UsageError(
                f"{self.heads} heads do not divide into {self.kv_heads} groups of queries "
                "(kv_heads); a divisor of the heads is possible."
            )

    @property
    def matrices(self) -> int:
        """Parameters of a layer's matrices: Q, K, V, the projection, and the MLP."""
        attention = self.hidden * (2 * self.hidden + 2 * self.hidden * self.kv_heads // self.heads)
        return attention + (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def layer_parameters(self) -> int:
        """All parameters of a layer: matrices, norms and, if not gated, biases."""
        if self.gated:
            return self.matrices + 2 * self.hidden
        keys = 2 * self.hidden * self.kv_heads // self.heads
        return self.matrices + 7 * self.hidden + keys + self.ffn

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, with the learned positions if there are any."""
        return self.hidden * (self.vocabulary + (0 if self.gated else self.sequence))

    @property
    def head_parameters(self) -> int:
        """Of the matrix of the logits, whether it is the embedding's copy or its own."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """Of the model; a shared embedding counts once."""
        head = self.head_parameters if self.gated else 0
        return self.layers * self.layer_parameters + self.embedding_parameters + head

    def model_flops(self, samples: int) -> float:
        """FLOPs of forward and backward, none recomputed, every token attending to every other.

        For h→4h→h: 72 B s l h² (1 + s/6h + V/12lh), arXiv 2104.04473 without its recomputation.

        >>> t = Transformer("", 96, 12288, 96)
        >>> formula = 72 * 2048 * 96 * 12288**2 * (1 + 2048 / 6 / 12288 + 51200 / 12 / 96 / 12288)
        >>> abs(t.model_flops(1) / formula - 1) < 1e-12
        True
        """
        attention = 4.0 * self.sequence * self.hidden
        forward = self.layers * (2.0 * self.matrices + attention) + 2.0 * self.head_parameters
        return 3 * samples * self.sequence * forward


def _llama(name: str, *sizes: int) -> Transformer:
    layers, hidden, heads, kv_heads, ffn, vocabulary, sequence = sizes
    return Transformer(
        name, layers, hidden, heads, kv_heads, ffn, gated=True, vocabulary=vocabulary,
        sequence=sequence,
    )  # fmt: skip


MODELS = {
    model.name: model
    for model in (
        Transformer("gpt", 6, 64, 4, vocabulary=96, sequence=64),
        Transformer("gpt-125m", 12, 768, 12, vocabulary=50304, sequence=2048),
        Transformer("gpt-1.3b", 24, 2048, 16),
        _llama("llama-7b", 32, 4096, 32, 0, 11008, 32000, 4096),
        _llama("llama-8b", 32, 4096, 32, 8, 14336, 128256, 8192),
        _llama("llama-70b", 80, 8192, 64, 8, 28672, 128256, 8192),
        _llama("llama-405b", 126, 16384, 128, 8, 53248, 128256, 8192),
        Transformer("gpt-22b", 48, 6144, 64),
        Transformer("gpt-3", 96, 12288, 96),
        Transformer("gpt-530b", 105, 20480, 128),
        Transformer("gpt-1t", 128, 25600, 160),
    )
}
"""By name. Sizes: GPT, arXiv 2104.04473 and 2205.05198; Llama, arXiv 2302.13971 and 2407.21783;
gpt: the one that ``pipelab train`` makes by default, between its embedding and its head."""


def model_named(name: str) -> Transformer:
    """A preset. Raises UnknownName."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]
