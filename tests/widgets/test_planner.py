"""The widget of the planner: its rows are those of ``plan``, its words those of ``why``."""

import re
from html import unescape

import pytest

import pipelab
from pipelab.errors import UnknownName, UsageError
from pipelab.layout.planner import Layout
from pipelab.widgets import Goal
from pipelab.widgets.planner_picture import crossings, drawn, frontier, timeline_of, timeline_words
from pipelab.widgets.planner_words import seconds

CASES = [
    ("llama-70b", "h100", 64, 512, {}, True),
    ("llama-7b", "a100-80", 8, 64, {"pipeline": 4}, False),
    ("gpt", "rtx4090", 4, 16, {"schedule": "zb-h1", "zero": 1}, False),
]


def opened(model, device, gpus, batch, fix, flash, **more):
    return pipelab.planner(
        model, device=device, gpus=gpus, batch=batch, fix=fix, flash=flash, **more
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize("objective", ["time", "memory"])
def test_the_rows_are_those_of_plan(case, objective):
    model, device, gpus, batch, fix, flash = case
    view = opened(*case, objective=objective)
    expected = pipelab.plan(
        model, device=device, gpus=gpus, batch=batch, fix=fix, flash=flash, objective=objective
    )
    assert view.plan.rows == expected.rows and view.rows == len(expected.rows)
    assert view.rejected == [f"{n} × {reason}" for reason, n in expected.rejected.items()]
    if "pipeline" in fix:
        assert view.said.startswith("pipeline is fixed at 4.")
    else:
        assert " ".join(expected.pipeline_needed["because"]) in view.said
    labels = re.findall(r'aria-label="(row [^"]*)"', view.table)
    assert len(labels) == min(10, len(expected.rows))
    for number, (said, row) in enumerate(zip(labels, expected.rows, strict=False)):
        layout = row.layout
        assert said.startswith(f"row {number + 1} of {view.rows}, band {row.band}: ")
        assert f"tensor {layout.tensor}, pipeline {layout.pipeline}, data {layout.data}" in said
        assert f"{row.estimate.bytes['total'] / 1e9:.1f} GB" in said
        assert f"ZeRO {layout.zero};" in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_words_are_those_of_why(case):
    view = opened(*case)
    lines = view.why["lines"]
    assert lines[0].startswith("Row 2")
    assert " ".join(view.plan.why(1).sentences[:2]) in lines[0]
    view.row = 2
    assert view.why["lines"][:-1] == view.plan.why(2).sentences
    held = view.plan.rows[2].estimate.bytes["total"] / 1e9
    assert view.why["lines"][-1].startswith(f"memory: {held:.1f} GB on the fullest GPU")
    assert view.table.count('aria-pressed="true"') == 1
    parts = view.plan.rows[2].estimate.seconds_by_part
    assert f"compute {seconds(parts['compute'])}, " in view.why["parts"]


def test_bars_are_the_parts_of_a_step():
    """The lengths of a row's bars sum as its seconds do, and the longest row fills its room."""
    view = opened(*CASES[0])
    shown = view.plan.rows[:10]
    longest = max(row.estimate.seconds for row in shown)
    groups = re.findall(r"<g data-row=.*?</g>", view.table)
    for group, row in zip(groups, shown, strict=True):
        bars = re.findall(
            r'width="([\d.]+)" height="14" fill="[^"]*"><title>(\w+) [\d.]+ m?s', group
        )
        total = sum(float(wide) for wide, _ in bars)
        assert total == pytest.approx(188 * row.estimate.seconds / longest, abs=0.1)
        assert {name for _, name in bars} <= set(row.estimate.seconds_by_part)


def test_a_row_that_is_far_down_is_shown_below_the_best():
    view = opened(*CASES[0])
    view.row = view.rows - 1
    assert f"row {view.rows} of {view.rows}, " in view.table
    assert view.table.count("<g data-row=") == 11
    view.row = 10_000
    assert view.row == view.rows - 1


def test_switches_plan_again_and_begin_with_the_best():
    view = opened(*CASES[0], row=3)
    before = view.plan.rows
    view.pipeline = 1
    assert view.row == 0 and all(row.layout.pipeline == 1 for row in view.plan.rows)
    assert view.plan.rows != before
    view.apply(pipeline="free", gpus=128, row=1)
    assert view.row == 1 and view.plan.gpus == 128
    with pytest.raises(UnknownName, match="zb-h1"):
        view.schedule = "gpipe"
    with pytest.raises(UnknownName, match="zero"):
        view.zero = 4
    with pytest.raises(UsageError, match="tensor is 1.5; it is a whole number"):
        view.tensor = 1.5
    with pytest.raises(UnknownName, match="'gpus'"):
        view.apply(gpu=4)


def test_a_slow_network_changes_the_answer():
    view = opened(*CASES[0])
    assert view.machine.network_bandwidth == 50 and view.facts["needed"] == "optional"
    view.network = 3
    assert view.machine.network_bandwidth == 3 and view.facts["needed"] == "yes"
    text = view._repr_mimebundle_()[0]["text/html"]
    assert "llama-70b on 64 h100, network 3 GB/s, 512 samples" in text
    view.network = 0.5
    network = next(one for one in view.switches if one["name"] == "network")
    assert network["values"][:3] == ["usual", 0.5, 1]
    for wrong in (0, -1, "fast", True, float("inf")):
        with pytest.raises(UsageError, match="network is .* above 0, or 'usual'"):
            view.network = wrong


def test_a_model_that_fits_nowhere_says_how_many_gpus_it_would_need():
    view = opened(*CASES[0])
    before = view.table
    view.gpus = 8
    assert view.problem == view.said
    assert "llama-70b fits into no layout of 8 GPUs: the least takes" in view.said
    assert view.said.endswith("32 GPUs would do.")
    assert view.table == before and "fits" not in view.facts
    with pytest.raises(UsageError, match="32 GPUs would do"):
        _ = view.plan
    text = view._repr_mimebundle_()[0]["text/html"]
    assert "32 GPUs would do" in text and "<svg" not in text
    view.gpus = 32
    assert not view.problem and "fits" in view.facts


def test_other_problems_say_which_switch_would_do():
    view = pipelab.planner("llama-7b", device="v100-32", gpus=64, batch=64)
    assert view.said == "The V100 has no bf16: choose fp16 as the precision."
    view.precision = "fp16"
    assert not view.problem
    view.apply(gpus=8, device="a100-80", tensor=8, pipeline=4)
    assert view.said == (
        "tensor 8 × pipeline 4 does not divide 8 GPUs; products that do: 1, 2, 4, 8."
    )
    view.apply(model="llama-405b", gpus=2048, batch=2048, tensor="free", pipeline=16)
    assert view.said == "126 layers do not divide by 16 ranks; possible: 1, 2."


def test_nothing_is_both_faster_and_smaller_than_the_frontier():
    rows = opened(*CASES[0]).plan.rows
    best = frontier(rows)
    assert best[0] == 0
    sizes = [(row.estimate.seconds, row.estimate.bytes["total"]) for row in rows]
    for number, (time, held) in enumerate(sizes):
        better = any(a <= time and b <= held and (a, b) != (time, held) for a, b in sizes)
        if number in best:
            assert not better
        else:
            assert better or sizes.count((time, held)) > 1


def test_a_small_timeline_is_the_whole_one():
    """Nothing is left out: it takes what the simulated step does, without what comes after."""
    view = opened("llama-7b", "a100-80", 8, 16, {"pipeline": 4}, True)
    for number, row in enumerate(view.plan.rows[:3]):
        if drawn(row.layout) != row.layout:
            continue
        parts = row.estimate.seconds_by_part
        expected = row.simulated - parts["data"] - parts["optimizer"]
        assert timeline_of(view.plan, number).makespan == pytest.approx(expected, rel=1e-9)
        break
    else:
        pytest.fail("none of the first rows is drawn whole")


def test_a_large_timeline_says_what_is_drawn():
    view = opened("gpt-1t", "a100-80", 1024, 1024, {"pipeline": 64, "schedule": "1f1b"}, True)
    few = timeline_of(view.plan, 0).schedule
    assert (few.ranks, few.microbatches) == (8, 16)
    said = timeline_words(view.plan, 0)
    assert "8 of 64 ranks, 16 of " in said
    bubble = view.plan.rows[0].estimate.bubble_fraction
    assert f"all ranks together idle {bubble:.1%} of" in said
    assert "drawn: " in view.picture and said in view.about


def test_interleaved_is_drawn_with_whole_rounds():
    for ranks, chunks, m in ((8, 2, 64), (5, 3, 20), (12, 8, 36), (16, 4, 128)):
        layout = Layout(
            pipeline=ranks, stages_per_rank=chunks, batch=m, schedule="interleaved-1f1b"
        )
        few = drawn(layout)
        assert few.microbatches % few.pipeline == 0 and few.stages <= 32
        assert few.stages_per_rank == chunks


def test_groups_know_their_nodes():
    found = opened(*CASES[0]).plan
    assert crossings(found, Layout(4, 8, 2)) == (
        "tensor and data groups stay inside a node; pipeline groups leave it."
    )
    assert crossings(found, Layout(16, 1, 4)) == "tensor and data groups leave it."
    assert crossings(found, Layout()) == "one GPU is the whole mesh."


def test_goals_tick():
    goal = Goal("One without a pipeline.", {"chosen_pipeline": "= 1"}, {"pipeline": 1}, "why")
    view = opened(*CASES[0], goals=[goal])
    assert not view.goals[0]["reached"]
    view.show_goal()
    assert view.goals[0]["reached"]


def test_a_viewer_without_a_kernel_sees_the_table_and_reads_the_words():
    view = opened(*CASES[0])
    data, _ = view._repr_mimebundle_()
    text = unescape(data["text/html"])
    assert data["image/svg+xml"] == view.table and "<style" not in text
    assert text.count("<svg") == 3
    assert "llama-70b on 64 h100, 512 samples of a step." in text
    for said in (view.said, view.about, view.why["parts"], *view.why["lines"], *view.rejected):
        assert said in text


@pytest.mark.parametrize("model", ["gpt", "llama-8b", "gpt-1t"])
@pytest.mark.parametrize("gpus", [1, 3, 96])
def test_whatever_is_asked_is_drawn_or_explained(model, gpus):
    view = pipelab.planner(model, device="h200", gpus=gpus, batch=96)
    if view.problem:
        assert "would do" in view.said
        return
    for row in {0, view.rows // 2, view.rows - 1}:
        view.row = row
        for picture in (view.table, view.picture, view.timeline):
            assert "nan" not in picture and 'width="-' not in picture


def test_what_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'llama-70b'"):
        pipelab.planner("llama-70")
    with pytest.raises(UnknownName, match="h100"):
        pipelab.planner(device="h1000")
    with pytest.raises(UsageError, match="gpus is 0; it is a whole number"):
        pipelab.planner(gpus=0)
    with pytest.raises(UnknownName, match="pipeline"):
        pipelab.planner(fix={"pipelines": 4})
    with pytest.raises(UnknownName, match="zero"):
        pipelab.planner(show=["zeros"])
    with pytest.raises(UnknownName, match="bf16"):
        pipelab.planner(precision="fp8")
    with pytest.raises(UnknownName, match="sequence"):
        pipelab.planner(sequences=4)
    with pytest.raises(UsageError, match="objective is 'speed'; it is time or memory"):
        pipelab.planner(objective="speed")
