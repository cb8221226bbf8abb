"""The frameworks themselves are asked to take what is written for them, where they are installed.

megatron-core and torchtitan are wheels without compiled parts; DeepSpeed is built from source.
"""

import importlib
import json
import tomllib
from types import SimpleNamespace

import pytest

from pipelab.layout.planner import MODELS, plan
from pipelab.layout.planner.emit import emit

from .test_planner_emit import flags

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, at import

JOBS = [
    ("llama-7b", "h100", 16, 64, {}),
    ("llama-70b", "h100", 64, 256, {"pipeline": 4}),
    ("gpt-3", "a100-80", 512, 1024, {"pipeline": 8, "zero": 1}),
]


def layouts():
    for name, device, gpus, batch, fix in JOBS:
        found = plan(name, device=device, gpus=gpus, batch=batch, fix=fix)
        for row in found.rows[:3]:
            yield MODELS[name], row.layout


def wanted(module):
    pytest.importorskip(module.partition(".")[0])
    return importlib.import_module(module)


def test_megatron_takes_its_flags():
    config = wanted("megatron.core.transformer.transformer_config")
    import torch

    for model, layout in layouts():
        given = flags(emit("megatron", model, layout).text)
        names = {
            "--num-layers": "num_layers",
            "--hidden-size": "hidden_size",
            "--num-attention-heads": "num_attention_heads",
            "--ffn-hidden-size": "ffn_hidden_size",
            "--num-query-groups": "num_query_groups",
            "--tensor-model-parallel-size": "tensor_model_parallel_size",
            "--pipeline-model-parallel-size": "pipeline_model_parallel_size",
            "--recompute-num-layers": "recompute_num_layers",
        }
        options = {names[flag]: int(given[flag]) for flag in names if flag in given}
        for flag in ("--recompute-granularity", "--recompute-method"):
            if flag in given:
                options[flag.strip("-").replace("-", "_")] = given[flag]
        if "--num-virtual-stages-per-pipeline-rank" in given:
            stages = int(given["--num-virtual-stages-per-pipeline-rank"])
            options["virtual_pipeline_model_parallel_size"] = stages
        made = config.TransformerConfig(
            **options,
            sequence_parallel="--sequence-parallel" in given,
            bf16="--bf16" in given,
            pipeline_dtype=torch.bfloat16,
        )
        assert made.num_layers == model.layers


def test_torchtitan_takes_its_file():
    pytest.importorskip("tyro")
    configs = wanted("torchtitan.config.configs")
    for model, layout in layouts():
        data = tomllib.loads(emit("torchtitan", model, layout).text)
        made = configs.ParallelismConfig(**data["parallelism"])
        assert made.tensor_parallel_degree == layout.tensor
        assert configs.TrainingConfig(**data["training"]).global_batch_size == layout.batch


def test_deepspeed_takes_its_file(monkeypatch):
    runtime = wanted("deepspeed.runtime.config")
    for model, layout in layouts():
        if layout.pipeline > 1 and layout.zero > 1:
            continue
        data = json.loads(emit("deepspeed", model, layout).text)
        copies = SimpleNamespace(get_data_parallel_world_size=lambda count=layout.data: count)
        monkeypatch.setattr(runtime.dist, "get_rank", lambda: 0)
        made = runtime.DeepSpeedConfig(data, mpu=copies)
        assert made.train_batch_size == layout.batch
