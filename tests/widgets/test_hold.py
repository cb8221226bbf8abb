"""One model and one batch under every slider: one device alone takes 100 for a batch and keeps 100
of activations, whatever the schedule and its counts are.
"""

import numpy as np
import pytest

from pipelab.catalogue import names
from pipelab.errors import UsageError
from pipelab.schedule import Kind
from pipelab.widgets import Lab, Settings, lab, sweep
from pipelab.widgets.presets import PRESETS


@pytest.fixture
def widget():
    made = lab("gpipe", ranks=4, microbatches=8, hold="batch")
    yield made
    made.close()


def shown(widget) -> dict:
    return {number["key"]: number for number in widget.predicted["numbers"]}


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    ("ranks", "microbatches", "stage_costs"), [(4, 8, ()), (2, 6, (1, 3)), (4, 16, (2, 1, 0.5))]
)
def test_the_work_is_the_same_whatever_cuts_it(name, ranks, microbatches, stage_costs):
    settings = Settings(
        name, ranks=ranks, microbatches=microbatches, stage_costs=stage_costs, hold="batch",
        forward=1, input_grad=1.5, weight_grad=0.5,
    )  # fmt: skip
    try:
        timeline = settings.predict()
    except UsageError as refusal:
        pytest.skip(str(refusal))
    assert timeline.compute.sum() == pytest.approx(100)
    forwards = timeline.kind == Kind.F
    if not timeline.schedule.overlaps:
        assert timeline.compute[forwards].sum() == pytest.approx(100 / 3)
    halves = timeline.bytes_held * 2 * timeline.schedule.stages * microbatches / 100
    assert 0 < halves.max() and np.allclose(halves, halves.round())


def test_the_lesson(widget):
    """100 → 34.4 → 27.3; memory stays for GPipe and falls for 1F1B. It read as "pipelining makes it
    slower" where each move made the batch or the model larger.
    """
    found = {}
    for name, ranks, microbatches in [
        ("naive", 4, 1), ("gpipe", 4, 8), ("gpipe", 4, 32), ("1f1b", 4, 8), ("1f1b", 4, 32),
    ]:  # fmt: skip
        widget.apply(schedule=name, ranks=ranks, microbatches=microbatches)
        metrics = widget.metrics
        found[name, microbatches] = metrics["time_per_batch"], metrics["peak_memory"]
        assert metrics["speed_up"] == pytest.approx(100 / metrics["time_per_batch"])
    assert found == {
        ("naive", 1): (pytest.approx(100), pytest.approx(25)),
        ("gpipe", 8): (pytest.approx(34.375), pytest.approx(25)),
        ("gpipe", 32): (pytest.approx(27.34375), pytest.approx(25)),
        ("1f1b", 8): (pytest.approx(34.375), pytest.approx(12.5)),
        ("1f1b", 32): (pytest.approx(27.34375), pytest.approx(3.125)),
    }


def test_too_many_micro_batches_stop_paying(widget):
    times = []
    for microbatches in (1, 2, 4, 8, 16, 32, 64):
        widget.apply(microbatches=microbatches, overhead=0.25)
        times.append(widget.metrics["time_per_batch"])
    best = times.index(min(times))
    assert 0 < best < 6, times
    widget.apply(microbatches=8)
    # F + B of 100 / 32, each with its overhead, (m + p − 1) times.
    assert widget.metrics["time_per_batch"] == pytest.approx(11 * (100 / 32 + 0.5))


def test_the_numbers_have_the_words_of_the_lesson(widget):
    numbers = shown(widget)
    assert [number["label"] for number in numbers.values()][:2] == ["time per batch", "speed-up"]
    assert "one device alone takes 100" in numbers["time_per_batch"]["definition"]
    peak = numbers["peak_memory"]
    assert (peak["form"], peak["value"]) == ("percent", pytest.approx(0.25))
    widget.hold = "microbatch"
    assert shown(widget)["makespan"]["label"] == "makespan" and "speed_up" not in shown(widget)
    assert widget.metrics["makespan"] == 33 and "speed_up" not in widget.metrics


def test_bytes_are_those_of_one_model_and_one_batch(widget):
    """Weights and activations of the whole model are divided, not multiplied, by the ranks."""
    weights, kept = [], []
    for ranks in (1, 2, 4):
        widget.apply(ranks=ranks, memory="bytes")
        parts = widget.timeline.memory
        first = widget.timeline.schedule.offsets[:-1]
        weights.append(np.maximum.reduceat(parts["weights"][0], first).sum())
        kept.append(np.maximum.reduceat(parts["activations"][0], first).sum())
    assert weights == [weights[0]] * 3 and kept == [kept[0]] * 3


def test_a_limit_is_a_part_of_the_batch(widget):
    """As much as 1F1B's first rank holds: with it, the search finds no less, without it no more."""
    widget.apply(schedule="auto", memory_limit=12.5)
    assert widget.predicted["limits"] == [pytest.approx(12.5)] * 4
    assert widget.metrics["peak_memory"] <= 12.5001
    widget.preset("search within a memory limit")
    assert (widget.hold, widget.problem) == ("batch", "")
    assert widget.settings.limit_in_microbatches == pytest.approx(3)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_possible_with_one_batch(widget, name):
    widget.preset(name)
    assert (widget.problem, widget.hold) == ("", "batch")


@pytest.mark.parametrize(
    ("keyword", "value", "state"),
    [
        ("ranks", 3, {"ranks": 3}),
        ("microbatches", 5, {"microbatches": 5}),
        ("stages_per_rank", 2, {"stages_per_rank": 2}),
        ("forward", 3, {"forward": 3}),
        ("backward", 1, {"input_grad": 0.5, "weight_grad": 0.5}),
        ("input_grad", 3, {"input_grad": 3}),
        ("weight_grad", 3, {"weight_grad": 3}),
        ("latency", 0.5, {"latency": 0.5}),
        ("overhead", 0.5, {"overhead": 0.5}),
        ("stage_costs", [1, 2], {"stage_costs": [1, 2]}),
        ("recompute", "early", {"recompute": "early"}),
        ("memory_limit", 2, {"memory_limit": 2}),
        ("memory", "bytes", {"memory": "bytes"}),
        ("model", "gpt", {"model": "gpt"}),
        ("width", 32, {"width": 32}),
        ("hold", "microbatch", {"hold": "microbatch"}),
        ("paced", False, {"paced": False}),
    ],
)
def test_each_keyword_alone_changes_the_state_that_it_names(keyword, value, state):
    """backward=1 was lost: the defaults of its parts came after it."""
    traits = [name for name in Lab.class_trait_names(sync=True) if not name.startswith("_")]
    plain, changed = lab("1f1b"), lab("1f1b", **{keyword: value})
    differing = {}
    for name in ("hold", "paced", *Settings.__dataclass_fields__):
        assert name in traits
        if getattr(plain, name) != getattr(changed, name):
            differing[name] = getattr(changed, name)
    assert differing == state
    assert Settings.parse(changed.text) == changed.settings
    plain.close()
    changed.close()


def test_a_paced_run_is_laid_over_one_batch(widget):
    """The shortest action is kept, and it is said what 100 is."""
    widget.apply(ranks=2, microbatches=4, schedule="1f1b")
    widget.run()
    assert widget.wait(60) and widget.progress["state"] == "done", widget.progress
    measured = {number["key"]: number for number in widget.run_picture["numbers"]}
    # F takes 10 ms, a twenty-fourth of the batch's work.
    assert "One device alone: 100 = 0.24 s." in widget.progress["message"]
    predicted = shown(widget)
    for numbers in (predicted, measured):  # 2 of 4 micro-batches, through half of the model
        assert numbers["peak_memory"]["value"] == pytest.approx(0.25, rel=0.3)
    assert predicted["time_per_batch"]["value"] == pytest.approx(150)
    took = measured["time_per_batch"]["value"]
    assert took >= 149 and measured["speed_up"]["value"] == pytest.approx(240 / took)
    assert "240 ms" in measured["time_per_batch"]["definition"]


def test_curves_of_one_batch():
    figure = sweep("microbatches", [1, 4, 16], schedules=["1f1b"], hold="batch")
    bubble, speed_up, memory = figure.data
    assert list(speed_up.y) == pytest.approx([1, 4 * 4 / 7, 4 * 16 / 19])
    assert list(memory.y) == pytest.approx([25, 25, 6.25])
    assert [note.text for note in figure.layout.annotations][1] == (
        "speed-up: one device / time per batch"
    )
