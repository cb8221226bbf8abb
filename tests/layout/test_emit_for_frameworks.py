"""The frameworks themselves are asked to take what is written for them, where they are installed.

megatron-core and torchtitan are wheels without compiled parts; DeepSpeed is built from source.
"""

import pytest

from pipelab.layout.planner import MODELS, plan
from pipelab.model.frameworks import ask

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


@pytest.mark.parametrize("framework", ["megatron", "torchtitan", "deepspeed"])
def test_a_framework_takes_what_is_written_for_it(framework):
    for model, layout in layouts():
        refused = framework == "deepspeed" and layout.pipeline > 1 and layout.zero > 1
        answer = ask(framework, model, layout)
        if answer.taken is None:
            pytest.skip(answer.sentence)
        assert answer.taken is not refused, answer.sentence
