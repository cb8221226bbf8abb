"""Curves over one setting."""

from dataclasses import replace

import pytest

from pipelab import Costs, build, simulate
from pipelab.errors import UnknownName, UsageError
from pipelab.widgets import Lab, sweep


def curve(figure, name, panel=1):
    axis = "y" if panel == 1 else f"y{panel}"
    return next(trace for trace in figure.data if trace.name == name and trace.yaxis == axis)


def test_the_bubble_over_micro_batches_is_the_formula():
    figure = sweep("microbatches", [1, 4, 8], ranks=4, hold="microbatch")
    assert list(curve(figure, "GPipe").y) == pytest.approx([3 / (m + 3) for m in (1, 4, 8)])
    assert list(curve(figure, "GPipe", 2).y) == pytest.approx(
        [m / (3 * (m + 3)) for m in (1, 4, 8)]
    )
    assert list(curve(figure, "GPipe", 3).y) == [1, 4, 8]
    assert list(curve(figure, "1F1B", 3).y) == [1, 4, 4]


def test_over_stages_per_rank_there_are_curves_of_those_that_have_a_choice():
    figure = sweep("stages_per_rank", ranks=2, microbatches=4)
    assert {trace.name for trace in figure.data} == {
        "Interleaved 1F1B",
        "Looped BFS",
        "Interleaved zero bubble",
        "Hanayo",
    }
    assert (
        list(curve(figure, "Hanayo").y)[0] is None
    )  # two per wave: one is impossible, and leaves a gap


def test_over_schedules_every_possible_one_is_a_point():
    figure = sweep("schedule", ["gpipe", "dualpipe", "zb-h2"], ranks=3, microbatches=6)
    assert list(figure.data[0].x) == ["gpipe", "dualpipe", "zb-h2"]
    assert figure.data[0].y[1] is None
    assert figure.data[0].y[0] > figure.data[0].y[2]


def test_measured_points_lie_on_the_predicted_curve_when_the_run_keeps_its_pace():
    run = replace(
        simulate(build("gpipe", ranks=4, microbatches=8), Costs(0.01, backward=0.02)),
        unit="s",
        source="measured",
    )
    figure = sweep("microbatches", [8], schedules=["gpipe"], measured=[run], hold="microbatch")
    for panel in (1, 2):
        assert curve(figure, "measured", panel).y[0] == pytest.approx(
            curve(figure, "GPipe", panel).y[0]
        )
        assert curve(figure, "measured", panel).x[0] == 8


def test_a_sweep_of_nothing_says_so():
    with pytest.raises(UnknownName, match="Valid names: microbatches, ranks"):
        sweep("latency")
    with pytest.raises(UsageError, match=r"None of these schedules can have ranks of \[3\]"):
        sweep("ranks", [3], schedules=["dualpipe"])


def test_a_lab_sweeps_around_its_settings_with_its_own_runs():
    widget = Lab(schedule="gpipe", ranks=2, microbatches=4)
    run = replace(widget.timeline, unit="s", source="measured")
    widget._runs = [
        (widget.settings, run, 0.01),
        (widget.settings.with_changes(ranks=3), run, 0.01),
    ]
    figure = widget.sweep("microbatches", [4], schedules=["gpipe"])
    assert len(curve(figure, "measured").x) == 1  # the other ran on three ranks
    assert curve(figure, "GPipe").y[0] == pytest.approx(1 / 5)
    assert list(widget.sweep("schedule", ["gpipe"]).data[0].x) == ["gpipe"]
    with pytest.raises(UsageError, match="unit_s is of 2 runs, but measured has 1"):
        widget.sweep("microbatches", [4], measured=[run], unit_s=[1, 1])
