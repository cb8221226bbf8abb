"""This machine measured, planned for, and the plan's rows trained."""

import json

import pytest
import torch

import pipelab
from pipelab.cli import main
from pipelab.errors import UsageError
from pipelab.layout.planner import Layout, Transformer

TINY = Transformer("tiny", 2, 16, 2, vocabulary=12, sequence=8)


@pytest.fixture(scope="module")
def here():
    return pipelab.measure_machine(TINY, workers=2, device="cpu")


def test_a_machine_is_measured_and_its_plan_trains(here):
    assert here.memory > 0 and here.hop > 0 and min(here.collectives) > 0
    for parts in here.passes.values():
        assert all(each.forward > 0 and each.weight_grad > 0 for each in parts)
    before = torch.get_rng_state()
    found = pipelab.plan(TINY, device=here, gpus=2, batch=8)
    ranked = [row.estimate.seconds for row in found.rows]
    assert ranked == sorted(ranked)
    meshes = {(row.layout.pipeline, row.layout.data): row for row in reversed(found.rows)}
    assert meshes.keys() == {(2, 1), (1, 2)}
    for (pipeline, data), row in meshes.items():
        trained = pipelab.train_layout(TINY, row.layout, steps=3, device="cpu")
        assert trained.seconds > 0 and trained.run.mesh.data == data
        assert trained.run.schedule.ranks == pipeline
        assert trained.run.schedule.microbatches == row.layout.microbatches
        assert trained.run.gradient_error <= 1e-5
    assert torch.equal(torch.get_rng_state(), before)  # the caller's numbers are its own


def test_any_layout_trains_on_the_layers_that_it_says():
    layout = Layout(2, 2, 1, batch=4, sequence_parallel=True, recompute="full", precision="fp32")
    run = pipelab.train_layout(TINY, layout, steps=2, device="cpu").run
    assert run.mesh.tensor == 2 and run.mesh.sequence_parallel
    assert run.partition == [2, 2] and run.gradient_error <= 1e-5


def test_what_cannot_be_measured_is_said():
    with pytest.raises(UsageError, match="llama-7b cannot be run here: this package builds GPTs"):
        pipelab.measure_machine("llama-7b")
    with pytest.raises(UsageError, match="between 2 or more"):
        pipelab.measure_machine(TINY, workers=1)


def test_plan_here_from_the_command_line(capsys):
    sizes = "--layers 2 --hidden 16 --heads 2 --vocabulary 12 --sequence 8 --gpus 2 --batch 4"
    assert main(["plan", *sizes.split(), "--device", "here", "--run", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (one,) = data["runs"]
    assert one["layout"] == data["rows"][0]["layout"]
    assert one["predicted"] == data["rows"][0]["seconds"] and one["measured"] > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--device a100-80 --run 1", "it needs --device here"),
        ("--device here --memory 8", "leave --memory out"),
    ],
)
def test_flags_that_do_not_go_together(flags, said, capsys):
    assert main(["plan", "--model", "gpt", "--gpus", "2", "--batch", "4", *flags.split()]) == 2
    assert said in capsys.readouterr().err
