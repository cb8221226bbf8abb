"""How many bytes a stage of the models takes that the lab trains: one middle layer, in float32,
with Adam.

    MLP    Linear(w, w) and ReLU          w² + w parameters    keeps 2 numbers of width w per sample
    GPT    attention and MLP, one block   12 w² + 13 w         keeps 16 of width w per character

The counts of parameters are exact. Those of activations are what the engine measures on a CPU,
without small change such as the statistics of a norm; a stage that recomputes keeps one of width w.
"""

from ..simulator import Memory

FLOAT = 4
SAMPLES = {"mlp": 16, "gpt": 4}
"""Samples in a micro-batch of a real run."""
SEQUENCE = 64
"""Characters in a sample of the GPT: ``pipelab.model.workload.SEQUENCE``, which would import torch.
"""


def stage_memory(model: str, width: int) -> Memory:
    """Bytes of one stage. model: "mlp" or "gpt"; "auto" counts as an MLP.

    >>> stage_memory("mlp", 64).activations
    8192
    """
    if model == "gpt":
        vector, kept, parameters = (
            FLOAT * SAMPLES["gpt"] * SEQUENCE * width,
            16,
            12 * width**2 + 13 * width,
        )
    else:
        vector, kept, parameters = FLOAT * SAMPLES["mlp"] * width, 2, width**2 + width
    weights = FLOAT * parameters
    return Memory(
        activations=kept * vector,
        inputs=vector,
        weights=weights,
        gradients=weights,
        optimizer_state=2 * weights,
    )
