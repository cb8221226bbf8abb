"""`pipelab profile`: what each layer of one of the course's models takes, as data and as text."""

import argparse
import math
from typing import TYPE_CHECKING

from .train import BATCH

if TYPE_CHECKING:
    from ..layout import Profile


def add_flags(added: argparse.ArgumentParser) -> None:
    """Add the flags of the command but those of the model."""
    added.add_argument(
        "--microbatches",
        type=int,
        default=4,
        metavar="M",
        help=f"into how many a batch of {BATCH} samples is split; one is measured (4)",
    )
    added.add_argument(
        "--dtype",
        default="float32",
        metavar="float32|bfloat16",
        help="bfloat16: under autocast (float32)",
    )
    added.add_argument("--save", metavar="FILE.json", help="write it for pipelab partition")


def measure(args: argparse.Namespace) -> "Profile":
    """Profile the model of the flags. Raises UsageError for impossible sizes."""
    from ..engine.profiling import profile
    from ..errors import UsageError
    from ..model import workload

    m = args.microbatches
    if m < 1:
        raise UsageError(f"--microbatches is {m}; it is a whole number, 1 or more")
    batch = m * math.ceil(BATCH / m)
    job = workload(args.model, layers=args.layers, width=args.width, batch=batch)
    return profile(
        job.model,
        job.batches,
        None,
        job.loss_fn,
        microbatches=m,
        device=args.device,
        dtype=args.dtype,
    )


def as_text(profile: "Profile") -> str:
    """A line for each layer, and the whole."""
    from .predict import table

    rows = [["layer", "F ms", "I ms", "W ms", "±", "activations", "output", "parameters"]]
    for layer in (*profile.layers, profile.loss):
        times = (layer.forward, layer.input_grad, layer.weight_grad, (layer.spread or 0) / 2)
        sizes = (layer.activation_bytes, layer.output_bytes, layer.parameter_bytes)
        cells = [f"{1000 * time:.3f}" for time in times] + [f"{size:,}" for size in sizes]
        rows.append([layer.name, *cells])
    return "\n".join(
        [
            f"a micro-batch of {profile.microbatch} on {profile.device}, {profile.dtype}: "
            f"{1000 * profile.seconds:.2f} ms through all layers, forth and back",
            *table(rows),
            "times are medians, ± half the distance of the quartiles; sizes in bytes",
        ]
    )
