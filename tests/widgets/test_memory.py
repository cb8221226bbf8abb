"""The memory widget: its bytes are the planner's and the profile's, and its sentences are true."""

import re
from dataclasses import replace

import pytest

import pipelab
from pipelab.errors import UnknownName, UsageError
from pipelab.layout import LayerProfile, Profile
from pipelab.layout.planner import DEVICES, MODELS, Layout
from pipelab.widgets import Goal
from pipelab.widgets.memory_picture import memory_svg
from pipelab.widgets.rank_memory import Choice, amount, sentence

LAYER = LayerProfile("0 Linear", 0.001, 0.001, 0.001, 4096, 64, 64, 8000, 100, 50)
LOSS = LayerProfile("loss", 0.001, 0.001, 0, 128, 0, 4, 0, 0, 0)
PROFILE = Profile("cpu", "float32", 4, (LAYER,) * 8, LOSS, input_bytes=64)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved-1f1b", "zb-h1"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("attention", ["flash", "plain"])
def test_large_models_count_as_the_planner_does(schedule, recompute, attention):
    choice = Choice(
        "llama-8b",
        "h200",
        8,
        16,
        1,
        schedule,
        recompute,
        attention,
        precision="bf16",
        optimizer="adam",
    )
    layout = Layout(
        pipeline=8, stages_per_rank=choice.stages_per_rank, batch=16, schedule=schedule,
        recompute=recompute, flash=attention == "flash",
    )  # fmt: skip
    told = pipelab.estimate("llama-8b", layout, device="h200")
    assert choice.total == pytest.approx(told.bytes["total"], rel=1e-9)
    assert choice.fits == told.fits
    assert len(choice.bytes) == 8


@pytest.mark.parametrize("microbatches", [1, 4])
def test_fewer_micro_batches_than_ranks_are_counted_one_by_one(microbatches):
    """ZB-H1 on 16 ranks was told to hold 16 micro-batches where there were 4."""
    for schedule in ("gpipe", "1f1b", "zb-h1"):
        choice = Choice(ranks=16, microbatches=microbatches, schedule=schedule)
        layout = Layout(pipeline=16, batch=microbatches, schedule=schedule, flash=True)
        told = pipelab.estimate("llama-7b", layout, device="h100")
        assert choice.total == pytest.approx(told.bytes["total"], rel=1e-9)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_profile_counts_as_a_partition_does(recompute):
    choice = Choice("profile", ranks=4, profile=PROFILE, recompute=recompute, limit=1e6)
    if recompute == "none":
        found = pipelab.partition(PROFILE, ranks=4, microbatches=8)
        assert [one["total"] for one in choice.bytes] == [one["total"] for one in found.even.bytes]
    assert choice.fits == "yes"
    assert replace(choice, limit=1000.0).fits == "no"
    assert choice.bytes[0]["weights"] == 16000


def test_the_activations_of_rank_0_do_not_shrink_with_more_ranks():
    held = [Choice(ranks=p, microbatches=32).bytes[0]["activations"] for p in (1, 2, 4, 8, 16)]
    assert held == pytest.approx([held[0]] * 5)


def test_what_would_help_is_simulated_before_it_is_said():
    for choice in (Choice(ranks=4, attention="plain"), Choice("gpt-3", ranks=96, microbatches=64)):
        assert choice.fits == "no"
        assert choice.advice()
        options = dict(choice.changes())
        for name, held in choice.advice():
            assert options[name].fits == "yes" and options[name].total == held
            assert f"{name} ({amount(held)})" in sentence(choice)
    hopeless = Choice("llama-405b", ranks=2)
    assert sentence(hopeless).endswith("No single change makes it fit.")


def test_sentences():
    assert sentence(Choice(ranks=1, device="mi300x", optimizer="sgd")).startswith("One GPU holds ")
    tight = Choice(ranks=4, recompute="selective", device="rtx4090")
    assert "it does not fit" in sentence(tight)
    near = next(
        Choice(model, device, p, recompute=again)
        for model in MODELS
        for device in DEVICES
        for p in (1, 2, 4)
        for again in ("none", "selective", "full")
        if Choice(model, device, p, recompute=again).problem() == ""
        and Choice(model, device, p, recompute=again).fits == "tight"
    )
    assert "tight. Above 75% little is left" in sentence(near)
    assert sentence(Choice("profile", ranks=3, profile=PROFILE)) == ("Rank 0 holds most: 133 kB.")
    two = Choice(ranks=32, schedule="interleaved-1f1b")
    assert sentence(two) == "32 layers cannot fill 64 stages."


def test_switches_move_the_picture():
    view = pipelab.memory("llama-7b", ranks=4, attention="plain")
    before = view.picture
    view.recompute = "selective"
    assert view.picture != before and 'stroke-dasharray="4 3"' in view.picture, "as it was"
    assert view.fits == "yes" and view.facts["fits"] == "yes"
    assert view.facts["fullest"] == pytest.approx(48.7, abs=0.1)
    view.model = "gpt-22b"
    assert view.ranks == 4 and 48 % view.ranks == 0
    view.apply(model="llama-405b", ranks=9)
    assert view.choice.total > 1e12
    view.model = "llama-7b"
    assert view.ranks == 8, "the nearest that divides 32 layers"
    assert [one["name"] for one in view.switches][:2] == ["model", "device"]


def test_an_impossible_switch_keeps_the_picture_and_says_why():
    view = pipelab.memory("llama-7b", ranks=32)
    before = view.picture
    view.schedule = "interleaved-1f1b"
    assert view.problem and view.said == view.problem and view.picture == before
    assert "fits" not in view.facts
    view.ranks = 8
    assert not view.problem


def test_goals_tick():
    goal = Goal("Fit.", {"fits": "= yes", "ranks": "= 4"}, {"recompute": "selective"}, "why")
    view = pipelab.memory("llama-7b", ranks=4, attention="plain", goals=[goal])
    assert not view.goals[0]["reached"]
    view.show_goal()
    assert view.goals[0]["reached"]


def test_a_viewer_without_a_kernel_sees_the_columns():
    data, _ = pipelab.memory(PROFILE, ranks=2, limit=2e5)._repr_mimebundle_()
    assert "Bytes that each rank holds: rank 0 " in data["image/svg+xml"]
    assert "<style" not in data["image/svg+xml"]
    assert "recomputation none. Rank 0 holds most" in data["text/html"]


def test_a_picture_of_many_ranks_names_some():
    picture = memory_svg(Choice("gpt-3", ranks=96, recompute="full"))
    assert len(re.findall("<title>rank 95: ", picture)) >= 4
    assert ">90<" in picture and ">89<" not in picture


def test_what_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'llama-7b'"):
        pipelab.memory("llama-7")
    with pytest.raises(UnknownName, match="h100"):
        pipelab.memory("llama-7b", device="h10")
    with pytest.raises(UnknownName, match="recompute"):
        pipelab.memory("llama-7b", recomputation="full")
    with pytest.raises(UnknownName, match="selective"):
        pipelab.memory("llama-7b", recompute="some")
    with pytest.raises(UsageError, match="do not divide by 5 stages"):
        pipelab.memory("llama-7b", ranks=5)
    with pytest.raises(UsageError, match="give device="):
        pipelab.memory("llama-7b", limit=1e9)
    with pytest.raises(UnknownName, match="ranks"):
        pipelab.memory("llama-7b", show=["rank"])
    with pytest.raises(UsageError, match="9 stages are more than the 8 layers"):
        pipelab.memory(PROFILE, ranks=9)
