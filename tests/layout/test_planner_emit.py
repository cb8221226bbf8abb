"""Layouts as other frameworks name them: every option known to them, every gap said."""

import json
import tomllib
from dataclasses import replace

import pytest

from pipelab.cli import main
from pipelab.errors import UnknownName, UsageError
from pipelab.launcher.arguments import parser
from pipelab.layout.planner import MODELS, Layout, plan
from pipelab.layout.planner.emit import WRITERS, emit

MODEL = MODELS["llama-70b"]
LAYOUT = Layout(
    8, 4, 2, 2, 1, 64, "interleaved-1f1b", "full", 1, sequence_parallel=True, overlap="all"
)  # fmt: skip
MEGATRON = {
    "--num-layers", "--hidden-size", "--num-attention-heads", "--ffn-hidden-size", "--seq-length",
    "--max-position-embeddings", "--group-query-attention", "--num-query-groups", "--swiglu",
    "--disable-bias-linear", "--untie-embeddings-and-output-weights", "--optimizer",
    "--tensor-model-parallel-size", "--pipeline-model-parallel-size", "--micro-batch-size",
    "--global-batch-size", "--num-virtual-stages-per-pipeline-rank", "--use-distributed-optimizer",
    "--sequence-parallel", "--recompute-granularity", "--recompute-method",
    "--recompute-num-layers", "--bf16", "--accumulate-allreduce-grads-in-fp32",
    "--overlap-grad-reduce", "--overlap-param-gather", "--tp-comm-overlap",
}  # fmt: skip


def flags(text):
    """Flags with their values, of a command in shell's notation."""
    lines = [line.removesuffix(" \\").split() for line in text.splitlines()]
    return {line[0]: line[1] if len(line) > 1 else None for line in lines}


def test_megatron_has_every_part_by_its_name():
    found = flags(emit("megatron", MODEL, LAYOUT).text)
    assert set(found) == MEGATRON
    sizes = ("--tensor-model-parallel-size", "--pipeline-model-parallel-size",
             "--num-virtual-stages-per-pipeline-rank", "--micro-batch-size",
             "--global-batch-size", "--num-query-groups")  # fmt: skip
    assert [found[name] for name in sizes] == ["8", "4", "2", "1", "64", "8"]
    assert found["--recompute-granularity"] == "full"


@pytest.mark.parametrize(
    ("change", "flag", "value"),
    [
        ({"zero": 2}, "--data-parallel-sharding-strategy", "optim_grads"),
        ({"zero": 3}, "--data-parallel-sharding-strategy", "optim_grads_params"),
        ({"recompute": "selective"}, "--recompute-granularity", "selective"),
        ({"precision": "fp16"}, "--fp16", None),
        ({"flash": True}, "--use-flash-attn", None),
    ],
)
def test_megatron_says_each_option(change, flag, value):
    assert flag not in flags(emit("megatron", MODEL, replace(LAYOUT, recompute="none")).text)
    assert flags(emit("megatron", MODEL, replace(LAYOUT, **change)).text)[flag] == value


def test_deepspeed_batches_multiply_and_the_pipeline_is_said_in_code():
    emitted = emit("deepspeed", MODEL, LAYOUT)
    found = json.loads(emitted.text)
    parts = found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]
    assert parts[0] * parts[1] * LAYOUT.data == found["train_batch_size"] == 64
    assert found["zero_optimization"] == {"stage": 1, "overlap_comm": True}
    assert found["bf16"] == {"enabled": True}
    said = " ".join(emitted.cannot_say)
    assert "num_stages=4" in said
    assert "activation_checkpoint_interval=1" in said
    assert "tensor = 8 comes from Megatron" in said
    assert "has no interleaved-1f1b" in said


@pytest.mark.parametrize("zero", [2, 3])
def test_deepspeed_refuses_zero_2_and_3_with_a_pipeline_in_its_own_words(zero):
    says = "ZeRO-2 and ZeRO-3 are incompatible with pipeline parallelism"
    with pytest.raises(UsageError, match=says):
        emit("deepspeed", MODEL, replace(LAYOUT, zero=zero))
    alone = Layout(data=64, batch=64, zero=zero)
    assert json.loads(emit("deepspeed", MODEL, alone).text)["zero_optimization"]["stage"] == zero


def test_torchtitan_is_toml_with_its_names():
    emitted = emit("torchtitan", MODEL, LAYOUT)
    found = tomllib.loads(emitted.text)
    assert found["training"] == {
        "local_batch_size": 32, "global_batch_size": 64, "seq_len": 8192,
    }  # fmt: skip
    assert found["parallelism"] == {
        "tensor_parallel_degree": 8, "pipeline_parallel_degree": 4,
        "data_parallel_replicate_degree": 2, "data_parallel_shard_degree": 1,
        "enable_sequence_parallel": True, "pipeline_parallel_layers_per_stage": 10,
        "pipeline_parallel_microbatch_size": 1, "pipeline_parallel_schedule": "Interleaved1F1B",
    }  # fmt: skip
    assert any("no ZeRO-1" in each for each in emitted.cannot_say)
    sharded = tomllib.loads(emit("torchtitan", MODEL, replace(LAYOUT, zero=3)).text)["parallelism"]
    assert sharded["data_parallel_shard_degree"] == 2
    assert sharded["fsdp_reshard_after_forward"] == "always"


def test_our_own_command_is_one_that_we_take():
    emitted = emit("pipelab", MODEL, LAYOUT)
    words = emitted.text.split()
    commands = dict.fromkeys(
        ["lab", "doctor", "schedule", "simulate", "check", "train", "profile", "partition",
         "estimate", "plan", "grade", "handout", "autograder"], print,
    )  # fmt: skip
    args = parser(commands).parse_args(words[1:])
    assert (args.ranks, args.microbatches, args.stages_per_rank) == (4, 32, 2)
    assert args.recompute == "in-backward"
    assert (args.data_parallel, args.tensor_parallel, args.zero) == (2, 8, 1)
    assert args.sequence_parallel


@pytest.mark.parametrize("framework", WRITERS)
def test_a_schedule_that_others_lack_is_said(framework):
    emitted = emit(framework, MODEL, replace(LAYOUT, schedule="zb-h1", stages_per_rank=1))
    assert framework == "pipelab" or any("no zb-h1" in each for each in emitted.cannot_say)


def test_plans_and_the_command_line_emit_their_best(capsys):
    found = plan("llama-7b", device="a100-80", gpus=8, batch=64, flash=True)
    assert found.to("megatron") == emit("megatron", MODELS["llama-7b"], found.rows[0].layout)
    assert found.to("megatron", 3) == found.to("megatron", found.rows[3])
    with pytest.raises(UnknownName, match="megatron"):
        found.to("megatorn")
    line = "plan --model llama-7b --device a100-80 --gpus 8 --batch 64 --flash --emit megatron"
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    assert out == found.to("megatron").text + "\n"
    assert "not said: The vocabulary follows from the tokenizer." in err
    assert main([*line.split(), "--json", "--why", "p=2 t=1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["emit"]["text"] + "\n" == out
    assert data["emit"]["cannot_say"] == found.to("megatron").cannot_say
    assert main([*line.split(), "--why", "p=2 t=1"]) == 2
    assert "ask for one" in capsys.readouterr().err
