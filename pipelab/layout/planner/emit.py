"""A layout as other frameworks take it, every option by their name; and what they cannot say.

Names: Megatron-LM (core 0.16), DeepSpeed 0.19, torchtitan 0.3, and this package's own command line.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import UnknownName, UsageError
from .layout import Layout
from .model import Transformer


class Emitted(NamedTuple):
    """The text of a configuration, and a sentence for each thing that it cannot say."""

    text: str
    cannot_say: list[str]


def emit(framework: str, model: Transformer, layout: Layout) -> Emitted:
    """Write a layout for a framework. Raises UnknownName, and UsageError for what it refuses."""
    if framework not in WRITERS:
        raise UnknownName("framework", framework, WRITERS)
    return WRITERS[framework](model, layout)


def _megatron(model: Transformer, layout: Layout) -> Emitted:
    flags: dict[str, Any] = {
        "--num-layers": model.layers,
        "--hidden-size": model.hidden,
        "--num-attention-heads": model.heads,
        "--ffn-hidden-size": model.ffn,
        "--seq-length": model.sequence,
        "--max-position-embeddings": model.sequence,
    }
    if model.kv_heads != model.heads:
        flags |= {"--group-query-attention": None, "--num-query-groups": model.kv_heads}
    if model.gated:
        flags |= {
            "--swiglu": None,
            "--disable-bias-linear": None,
            "--untie-embeddings-and-output-weights": None,
        }
    flags |= {
        "--tensor-model-parallel-size": layout.tensor,
        "--pipeline-model-parallel-size": layout.pipeline,
        "--micro-batch-size": layout.microbatch,
        "--global-batch-size": layout.batch,
        "--optimizer": layout.optimizer,
    }
    flags |= _megatron_options(layout)
    cannot = ["The vocabulary follows from the tokenizer.", *_order(layout, ("1f1b",), "Megatron")]
    if layout.gradients == "same" and layout.precision == "bf16":
        cannot.append("Megatron sums the gradients of bf16 in 32 bits.")
    lines = [flag if value is None else f"{flag} {value}" for flag, value in flags.items()]
    return Emitted(" \\\n".join(lines), cannot)


_MEGATRON_ZERO: dict[int, dict[str, Any]] = {
    0: {},
    1: {"--use-distributed-optimizer": None},
    2: {"--use-megatron-fsdp": None, "--data-parallel-sharding-strategy": "optim_grads"},
    3: {"--use-megatron-fsdp": None, "--data-parallel-sharding-strategy": "optim_grads_params"},
}
_MEGATRON_RECOMPUTE: dict[str, dict[str, Any]] = {
    "none": {},
    "selective": {"--recompute-granularity": "selective"},
    "full": {
        "--recompute-granularity": "full",
        "--recompute-method": "uniform",
        "--recompute-num-layers": 1,
    },
}


def _megatron_options(layout: Layout) -> dict[str, Any]:
    """The flags that a layout may or may not need."""
    wanted = {
        "--sequence-parallel": layout.sequence_parallel,
        "--use-flash-attn": layout.flash,
        "--fp16": layout.precision == "fp16",
        "--bf16": layout.precision == "bf16",
        "--accumulate-allreduce-grads-in-fp32": layout.gradients == "fp32",
        "--overlap-grad-reduce": layout.overlaps("data"),
        "--overlap-param-gather": layout.overlaps("data") and layout.zero > 0,
        "--tp-comm-overlap": layout.overlaps("tensor") and layout.tensor > 1,
    }
    found = {**_MEGATRON_ZERO[layout.zero], **_MEGATRON_RECOMPUTE[layout.recompute]}
    if layout.stages_per_rank > 1:
        found["--num-virtual-stages-per-pipeline-rank"] = layout.stages_per_rank
    return found | {flag: None for flag, is_wanted in wanted.items() if is_wanted}


def _order(layout: Layout, known: tuple[str, ...], who: str) -> list[str]:
    if layout.pipeline == 1 or layout.schedule in (*known, "interleaved-1f1b"):
        return []
    return [f"{who} has no {layout.schedule}: it would run another schedule."]


def _deepspeed(model: Transformer, layout: Layout) -> Emitted:
    if layout.pipeline > 1 and layout.zero >= 2:
        raise UsageError(
            'DeepSpeed refuses this: "ZeRO-2 and ZeRO-3 are incompatible with pipeline '
            'parallelism". With --fix zero=1 the plan has layouts that it takes.'
        )
    data: dict[str, Any] = {
        "train_batch_size": layout.batch,
        "train_micro_batch_size_per_gpu": layout.microbatch,
        "gradient_accumulation_steps": layout.microbatches,
        "zero_optimization": {"stage": layout.zero, "overlap_comm": layout.overlaps("data")},
    }
    if layout.precision != "fp32":
        data[layout.precision] = {"enabled": True}
        sums = "fp32" if layout.gradients == "fp32" else layout.precision
        data["data_types"] = {"grad_accum_dtype": sums}
    cannot = [f"The model ({model.name}) and the optimizer are made in your code."]
    if layout.pipeline > 1:
        interval = 1 if layout.recompute == "full" else 0
        cannot.append(
            f"In your code: PipelineModule(..., num_stages={layout.pipeline}, "
            f"partition_method='uniform', activation_checkpoint_interval={interval})."
        )
        if layout.schedule != "1f1b":
            cannot.append(f"DeepSpeed has no {layout.schedule}: it would run 1F1B.")
    elif layout.recompute == "full":
        cannot.append("Recomputation: deepspeed.checkpointing.checkpoint in your model.")
    if layout.tensor > 1:
        cannot.append(f"tensor = {layout.tensor} comes from Megatron, through mpu.")
    if layout.recompute == "selective":
        cannot.append("Selective recomputation is your model's.")
    return Emitted(json.dumps(data, indent=2), cannot)


_TITAN = {
    "naive": None, "gpipe": "GPipe", "1f1b": "1F1B", "interleaved-1f1b": "Interleaved1F1B",
    "looped-bfs": "LoopedBFS", "interleaved-zb": "InterleavedZeroBubble", "zb-v": "ZBVZeroBubble",
    "dualpipe-v": "DualPipeV",
}  # fmt: skip
"""torch's names."""


def _torchtitan(model: Transformer, layout: Layout) -> Emitted:
    sharded = layout.zero >= 2
    parallelism: dict[str, Any] = {
        "tensor_parallel_degree": layout.tensor,
        "pipeline_parallel_degree": layout.pipeline,
        "data_parallel_replicate_degree": 1 if sharded else layout.data,
        "data_parallel_shard_degree": layout.data if sharded else 1,
    }
    if layout.tensor > 1:
        parallelism["enable_sequence_parallel"] = layout.sequence_parallel
    if sharded:
        parallelism["fsdp_reshard_after_forward"] = "always" if layout.zero == 3 else "never"
    cannot = [f"The model is torchtitan's own: choose its flavor of {model.name}."]
    local = layout.microbatch
    if layout.pipeline > 1:
        local *= layout.microbatches
        parallelism["pipeline_parallel_layers_per_stage"] = model.layers // layout.stages
        parallelism["pipeline_parallel_microbatch_size"] = layout.microbatch
        if _TITAN.get(layout.schedule):
            parallelism["pipeline_parallel_schedule"] = _TITAN[layout.schedule]
        else:
            cannot.append(f"torchtitan has no {layout.schedule}: it would run 1F1B.")
    if layout.zero == 1:
        cannot.append("torchtitan has no ZeRO-1: this replicates the optimizer's state.")
    if layout.recompute != "none":
        cannot.append(f"recompute = {layout.recompute}: activation checkpointing of the model.")
    if layout.gradients == "same":
        cannot.append("Gradients are reduced in 32 bits unless its mixed precision says otherwise.")
    training = {
        "local_batch_size": local,
        "global_batch_size": layout.batch,
        "seq_len": model.sequence,
    }
    return Emitted(_toml("training", training) + "\n\n" + _toml("parallelism", parallelism), cannot)


def _toml(section: str, values: dict[str, Any]) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join([f"[{section}]", *lines])


def _pipelab(model: Transformer, layout: Layout) -> Emitted:
    line = (
        f"pipelab train --schedule {layout.schedule} --ranks {layout.pipeline} --microbatches "
        f"{layout.microbatches} --stages-per-rank {layout.stages_per_rank} "
        f"--layers {model.layers + 2} --width {model.hidden} --optimizer {layout.optimizer}"
    )
    if layout.recompute == "full":
        line += " --recompute in-backward"
    if layout.precision == "bf16":
        line += " --dtype bfloat16"
    if layout.data > 1:
        line += f" --data-parallel {layout.data} --zero {layout.zero}"
    if layout.tensor > 1:
        line += f" --tensor-parallel {layout.tensor}"
        line += " --sequence-parallel" if layout.sequence_parallel else ""
    cannot = ["The command trains the course's own GPT, not this model's heads and vocabulary."]
    if layout.recompute == "selective":
        cannot.append("Selective recomputation is left out: it has full recomputation only.")
    if layout.precision == "fp16":
        cannot.append("fp16 is left out: it has float32 and bfloat16.")
    return Emitted(line, cannot)


WRITERS: dict[str, Callable[[Transformer, Layout], Emitted]] = {
    "megatron": _megatron,
    "deepspeed": _deepspeed,
    "torchtitan": _torchtitan,
    "pipelab": _pipelab,
}
