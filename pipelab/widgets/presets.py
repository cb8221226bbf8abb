"""Configurations worth looking at first: each shows one thing."""

from .settings import Settings

PRESETS = {
    "one micro-batch": Settings("gpipe", microbatches=1),
    "as many as stages": Settings("gpipe", microbatches=4),
    "many micro-batches": Settings("1f1b", microbatches=24),
    "memory: GPipe keeps all": Settings("gpipe", microbatches=16),
    "several stages per rank": Settings("interleaved-1f1b", microbatches=8, stages_per_rank=2),
    "no bubble: split backward": Settings("zb-h2", microbatches=12),
    "from both ends": Settings("dualpipe", microbatches=12),
    "weights of several versions": Settings("pipedream", microbatches=12, memory="bytes"),
    "LLM on slow links": Settings("1f1b", ranks=8, microbatches=16, latency=1.0),
    "one slow stage": Settings("1f1b", microbatches=8, stage_costs=(1, 1, 1.75, 1)),
    "recompute to save memory": Settings(
        "1f1b", microbatches=8, recompute="early", memory="bytes", model="gpt"
    ),
    "search within a memory limit": Settings(
        "auto", microbatches=12, memory_limit=3.0, hold="microbatch"
    ),
}
"""By name; every setting that is not mentioned returns to its default."""
