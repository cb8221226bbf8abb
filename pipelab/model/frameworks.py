"""Other frameworks are asked whether they take what a plan writes for them.

In: a Transformer and a Layout. Out: whether the framework's own configuration classes took it, in a
sentence. Each is asked only where it is installed, and none is needed.
"""

import json
import tomllib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

from ..errors import UnknownName, UsageError
from ..layout.planner import Layout, Transformer
from ..layout.planner.emit import emit


class Answer(NamedTuple):
    """Of a framework. taken: True, False, or None where nobody could be asked."""

    taken: bool | None
    sentence: str


def ask(framework: str, model: Transformer, layout: Layout) -> Answer:
    """Let a framework read its configuration of a layout.

    Args:
        framework: "megatron", "deepspeed" or "torchtitan".
        model: which is trained.
        layout: how.

    Returns:
        An Answer: where the framework is not installed, it says that nobody has been asked.

    Raises:
        UnknownName: there is nobody of this name to ask.
    """
    if framework not in READERS:
        raise UnknownName("framework", framework, READERS)
    package, reader = READERS[framework]
    try:
        who = f"{package} {version(package)}"
    except PackageNotFoundError:
        return Answer(None, f"{package} is not installed here, so it has not been asked.")
    try:
        text = emit(framework, model, layout).text
    except UsageError as refusal:
        return Answer(taken=False, sentence=str(refusal))
    try:
        with catch_warnings():
            simplefilter("ignore")  # theirs, at import
            reader(text, layout)
    except Exception as error:  # theirs: of any kind
        return Answer(taken=False, sentence=f"{who} refuses it: {error}")
    return Answer(taken=True, sentence=f"{who} has read it, and takes it.")


def flags_of(text: str) -> dict[str, str]:
    """The flags of a command line with their values.

    >>> flags_of("--num-layers 4 --bf16")
    {'--num-layers': '4', '--bf16': ''}
    """
    found, last = {}, ""
    for word in text.replace("\\\n", " ").split():
        if word.startswith("--"):
            last, found[word] = word, ""
        else:
            found[last] = word
    return found


_MEGATRON = {
    "--num-layers": "num_layers",
    "--hidden-size": "hidden_size",
    "--num-attention-heads": "num_attention_heads",
    "--ffn-hidden-size": "ffn_hidden_size",
    "--num-query-groups": "num_query_groups",
    "--tensor-model-parallel-size": "tensor_model_parallel_size",
    "--pipeline-model-parallel-size": "pipeline_model_parallel_size",
    "--num-virtual-stages-per-pipeline-rank": "virtual_pipeline_model_parallel_size",
    "--recompute-num-layers": "recompute_num_layers",
}
"""Its command-line parser is not in the wheel; these flags become fields of the configuration."""


def _megatron(text: str, layout: Layout) -> Any:
    import torch

    config = import_module("megatron.core.transformer.transformer_config")
    given = flags_of(text)
    options: dict[str, Any] = {name: int(given[f]) for f, name in _MEGATRON.items() if f in given}
    for flag in ("--recompute-granularity", "--recompute-method"):
        if flag in given:
            options[flag.strip("-").replace("-", "_")] = given[flag]
    return config.TransformerConfig(
        **options,
        sequence_parallel=layout.sequence_parallel,
        bf16="--bf16" in given,
        fp16="--fp16" in given,
        pipeline_dtype=torch.bfloat16 if "--bf16" in given else torch.float16,
    )


def _torchtitan(text: str, _: Layout) -> Any:
    configs = import_module("torchtitan.config.configs")
    data = tomllib.loads(text)
    configs.TrainingConfig(**data["training"])
    return configs.ParallelismConfig(**data["parallelism"])


def _deepspeed(text: str, layout: Layout) -> Any:
    runtime = import_module("deepspeed.runtime.config")
    copies = SimpleNamespace(get_data_parallel_world_size=lambda: layout.data)
    with patch.object(runtime.dist, "get_rank", lambda: 0):
        return runtime.DeepSpeedConfig(json.loads(text), mpu=copies)


READERS: dict[str, tuple[str, Callable[[str, Layout], Any]]] = {
    "megatron": ("megatron-core", _megatron),
    "deepspeed": ("deepspeed", _deepspeed),
    "torchtitan": ("torchtitan", _torchtitan),
}
"""The package of each, and what reads its configuration."""
