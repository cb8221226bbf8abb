"""The bytes of a stage of the models that the lab trains: one middle layer, float32, Adam.

    MLP    Linear(w, w) and ReLU          w² + w parameters    keeps 2 numbers of width w per sample
    GPT    attention and MLP, one block   12 w² + 13 w         keeps 16 of width w per character

The counts of parameters are exact. Those of activations are what the engine measures on a CPU,
without small change such as the statistics of a norm; a stage that recomputes keeps one of width w.
A lab that has the profile of a model counts that model's bytes instead: ``profiled.py``.
"""

from ..simulator import Memory

FLOAT = 4
SAMPLES = {"mlp": 16, "gpt": 4}
"""Samples in a micro-batch of a real run."""
LAYERS, BATCH = 16, 8
"""With hold="batch": layers of the model, and how many times the samples above make a batch."""
SEQUENCE = 64
"""Characters in a sample of the GPT: ``pipelab.model.workload.SEQUENCE``, which would import torch.
"""


def stage_memory(
    model: str, width: int, layers: float = 1.0, samples: float | None = None
) -> Memory:
    """The bytes of one stage of "mlp" or "gpt"; "auto" counts as an MLP.

    layers: of the stage. samples: of a micro-batch; without them, ``SAMPLES``.

    >>> stage_memory("mlp", 64).activations
    8192
    """
    vector, kept, parameters = _sizes(model, width)
    if samples is not None:
        vector = round(vector * samples / SAMPLES["gpt" if model == "gpt" else "mlp"])
    weights = round(FLOAT * parameters * layers)
    return Memory(
        activations=round(kept * vector * layers),
        inputs=vector,
        weights=weights,
        gradients=weights,
        optimizer_state=2 * weights,
    )


def _sizes(model: str, width: int) -> tuple[int, int, int]:
    """Bytes of the vectors between stages, how many of them a stage keeps, and its parameters."""
    if model == "gpt":
        vector = FLOAT * SAMPLES["gpt"] * SEQUENCE * width
        return vector, 16, 12 * width**2 + 13 * width
    return FLOAT * SAMPLES["mlp"] * width, 2, width**2 + width
