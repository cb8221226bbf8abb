"""The lab's Python side, without a kernel: what a slider's message does, and what happens to a real
run.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import traitlets

import pipelab
from pipelab import Costs, Schedule, build, simulate
from pipelab.errors import PaceTooFast, RunCancelled, UnknownName, UsageError, WorkerDied
from pipelab.layout import LayerProfile, Profile
from pipelab.plots.view import COLUMNS
from pipelab.widgets import Lab, Settings, lab
from pipelab.widgets.presets import PRESETS
from pipelab.widgets.training import IDLE, RealRun, measured_settings


def shown(widget) -> dict:
    return {number["key"]: number["value"] for number in widget.predicted["numbers"]}


@pytest.fixture
def widget():
    made = Lab(schedule="gpipe", ranks=4, microbatches=8, hold="microbatch")
    yield made
    made.close()


def test_it_starts_with_a_picture(widget):
    assert shown(widget)["makespan"] == 33
    assert len(widget.predicted["bars"]) == 4 * 8 * 2 * 7 * 4
    assert widget.run_picture == {}
    assert widget.progress == IDLE


@pytest.mark.parametrize(
    ("trait", "value", "makespan"),
    [
        ("microbatches", 32, 105),
        ("ranks", 2, 27),
        ("schedule", "naive", 96),
        ("forward", 2, 44),
        ("input_grad", 2, 44),
        ("weight_grad", 3, 55),
        ("latency", 1, 39),
        ("stage_costs", [1, 2, 1, 1], 57),
        ("recompute", "early", 41),
        ("recompute", "in-backward", 44),
    ],
)
def test_every_setting_moves_the_picture(widget, trait, value, makespan):
    widget.set_state({trait: value})  # the message of a slider
    assert shown(widget)["makespan"] == makespan
    assert widget.timeline.makespan == makespan


def test_stages_per_rank_count_where_a_schedule_has_a_choice(widget):
    widget.set_state({"schedule": "interleaved-1f1b"})
    assert (widget.timeline.schedule.stages, widget.predicted["stages_per_rank"]) == (8, 2)
    widget.set_state({"stages_per_rank": 3})
    assert widget.timeline.schedule.stages == 12
    widget.set_state({"schedule": "zb-v"})  # always two, whatever the slider says
    assert (widget.problem, widget.timeline.schedule.stages) == ("", 8)


def test_memory_in_bytes_has_parts_and_a_limit(widget):
    assert (widget.predicted["parts"], widget.predicted["limits"]) == (["activations"], [])
    widget.set_state({"memory_limit": 3})
    assert widget.predicted["limits"] == [3, 3, 3, 3]
    widget.set_state({"memory": "bytes", "model": "mlp", "width": 32})
    assert len(widget.predicted["parts"]) == 5
    said = {number["key"]: number["definition"] for number in widget.predicted["numbers"]}
    assert (
        said["peak_memory"] == "most that one rank holds at once; measured: saved activations only"
    )
    weights = 4 * (32 * 32 + 32)
    assert (
        shown(widget)["peak_memory"] == 8 * 2 * 16 * 32 * 4 + 4 * weights
    )  # activations; weights, gradients, Adam's two
    assert widget.predicted["limits"] == pytest.approx([3 * 2 * 16 * 32 * 4 + 4 * weights] * 4)
    widget.set_state({"width": 64})
    assert shown(widget)["peak_memory"] > 2 * 8 * 2 * 16 * 32 * 4


def test_the_limit_is_that_of_the_search():
    searched = Lab(schedule="auto", microbatches=12, hold="microbatch")
    free = searched.timeline.makespan
    searched.memory_limit = 2
    assert searched.timeline.makespan > free
    assert shown(searched)["peak_in_flight"] == 2


def test_backward_is_both_halves_of_the_backward(widget):
    assert widget.backward == 2
    widget.backward = 3
    assert (widget.input_grad, widget.weight_grad, shown(widget)["makespan"]) == (1.5, 1.5, 44)
    half = Lab(backward=1)
    assert (half.input_grad, half.weight_grad) == (0.5, 0.5)
    with pytest.raises(UsageError, match="backward is 0"):
        widget.backward = 0


def test_a_preset_changes_the_picture_once(widget):
    widget.comm = wire = Wire()
    press(widget, "preset", name="LLM on slow links")
    assert (widget.schedule, widget.ranks, widget.latency) == ("1f1b", 8, 1.0)
    assert len([state for state, _ in wire.sent if "predicted" in state]) == 1
    with pytest.raises(UnknownName, match="one micro-batch"):
        widget.preset("nonsense")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_possible(widget, name):
    widget.preset(name)
    assert widget.problem == ""
    assert widget.settings == PRESETS[name].with_changes(hold="microbatch")


def test_python_and_front_end_see_the_same_values(widget):
    widget.set_state({"ranks": 6, "schedule": "1f1b"})
    assert (widget.ranks, widget.schedule) == (6, "1f1b")
    assert shown(widget)["peak_in_flight"] == 6


class Wire:
    """A front end that only listens."""

    kernel, comm_id = "some kernel", "1"

    def __init__(self):
        self.sent = []

    def on_msg(self, callback):
        pass

    def send(self, data, buffers):
        self.sent.append((data["state"], buffers))

    def close(self, *_, **__):
        pass


def test_a_change_reaches_the_front_end_once_and_in_binary(widget):
    widget.comm = wire = Wire()
    widget.microbatches = 9
    pictures = [(state, buffers) for state, buffers in wire.sent if "predicted" in state]
    assert len(pictures) == 1
    state, buffers = pictures[0]
    assert "bars" not in state["predicted"]  # not as text: the arrays are the message's buffers
    actions = 4 * 9 * 2
    sizes = [actions * numbers * 4 for numbers in (1, 2, 7)]  # needs, memory, bars
    assert sorted(len(buffer) for buffer in buffers) == sizes


def test_unknown_names_and_impossible_numbers_are_refused(widget):
    with pytest.raises(UnknownName, match="Did you mean 'gpipe'"):
        widget.schedule = "gpip"
    with pytest.raises(UnknownName):
        lab("nonsense")
    with pytest.raises(traitlets.TraitError):
        widget.ranks = 0
    with pytest.raises(UsageError, match="input_grad is 0"):
        widget.input_grad = 0
    with pytest.raises(UsageError, match="stage_costs is -1"):
        widget.stage_costs = [1, -1]
    with pytest.raises(UnknownName, match="Did you mean 'microbatches'"):
        lab("gpipe", microbatch=3)
    assert shown(widget)["makespan"] == 33


def test_an_impossible_schedule_says_why_shows_nothing_and_offers_the_nearest(widget):
    widget.ranks = 5
    assert "gpipe" not in widget.problems
    widget.schedule = "dualpipe"
    assert widget.problem == widget.problems["dualpipe"]
    assert widget.problem.startswith("dualpipe needs an even number of ranks, not 5")
    assert (widget.predicted, widget.timeline) == ({}, None)
    widget.run()
    assert widget.progress == IDLE
    offer = widget.offers[0]
    assert offer == {"label": "4 ranks", "changes": {"ranks": 4}}
    press(widget, "apply", **offer["changes"])
    assert (widget.problem, widget.offers, widget.timeline.schedule.ranks) == ("", [], 4)


def test_a_slider_reaches_a_larger_value_from_python(widget):
    assert widget.limits["microbatches"] == [1, 64, 1]
    widget.microbatches = 128
    assert widget.limits["microbatches"] == [1, 128, 1]
    widget.set_state({"microbatches": 127})
    assert widget.limits["microbatches"] == [1, 128, 1]  # and back again


def test_the_output_carries_a_picture_for_viewers_without_a_kernel(widget):
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/svg+xml"].startswith("<svg")


def test_making_a_lab_imports_no_torch_in_the_foreground():
    """The pool warms in the background; the cell itself waits for neither torch nor plotly."""
    code = (
        "import sys, threading; threading.Thread.start = lambda self: None\n"
        "import pipelab; pipelab.lab(); assert not {'torch', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_causes_and_path_are_computed_only_while_they_are_looked_at(widget):
    assert (widget.causes, widget.path) == ({}, {})
    widget.set_state({"panels": ["causes", "path"]})
    assert sum(map(sum, widget.causes["totals"].values())) == pytest.approx(4 * 9)
    assert widget.path["source"] == "predicted"
    widget.set_state({"microbatches": 4})
    assert widget.causes["makespan"] == 21
    widget.set_state({"panels": []})
    assert (widget.causes, widget.path) == ({}, {})


def test_a_gap_is_explained_until_the_picture_changes(widget):
    press(widget, "explain", rank=3, moment=1.0, source="predicted")
    assert widget.explanation["cause"] == "warm-up"
    widget.ranks = 3
    assert widget.explanation == {}
    assert widget.explain(0, 0.5) == {}  # it works then
    assert widget.explain(0, 0.5, source="measured") == {}  # nothing is measured


def test_up_to_three_configurations_are_pinned(widget):
    press(widget, "pin")
    widget.schedule = "1f1b"
    press(widget, "pin")
    widget.set_state({"microbatches": 16})
    press(widget, "pin")
    assert [pin["text"] for pin in widget.pins] == [
        "gpipe ranks=4 microbatches=8 hold=microbatch",
        "1f1b ranks=4 microbatches=8 hold=microbatch",
        "1f1b ranks=4 microbatches=16 hold=microbatch",
    ]
    assert widget.pins[0]["picture"]["end"] == 33
    with pytest.raises(UsageError, match="3 configurations are pinned already"):
        widget.pin()
    press(widget, "unpin", index=1)
    press(widget, "use_pin", index=0)
    assert (widget.schedule, widget.microbatches, len(widget.pins)) == ("gpipe", 8, 2)
    widget.set_state({"schedule": "dualpipe", "ranks": 5})
    with pytest.raises(UsageError, match="nothing to pin: dualpipe needs"):
        widget.pin()


def test_what_is_shown_can_be_taken_away(widget, tmp_path):
    assert widget.save(tmp_path / "a.svg").read_text().startswith("<svg")
    assert "<canvas" not in widget.save(tmp_path / "a.html").read_text()[:200]
    assert (
        Schedule.from_csv(widget.save(tmp_path / "a.csv").read_text()) == widget.timeline.schedule
    )
    assert json.loads(widget.save(tmp_path / "a.json").read_text())["traceEvents"]
    with pytest.raises(UnknownName, match="Valid names: svg, html, csv, json"):
        widget.save(tmp_path / "a.pdf")
    assert widget.figure().data[0].name == "F forward"


def test_files_go_to_the_browser_by_name(widget):
    sent = []
    widget.send = lambda content: sent.append(content)
    press(widget, "export", format="csv")
    assert sent == [
        {"file": "gpipe.csv", "type": "text/csv", "text": widget.timeline.schedule.to_csv()}
    ]


def test_a_line_of_text_restores_a_lab(widget, monkeypatch):
    monkeypatch.setattr(sys.modules["pipelab.widgets.lab"], "_warm", lambda: None)
    widget.set_state({"latency": 0.5, "stage_costs": [1, 2, 1, 1]})
    assert (
        widget.predicted["text"]
        == widget.text
        == "gpipe ranks=4 microbatches=8 latency=0.5 stage_costs=1,2,1,1 hold=microbatch"
    )
    assert lab(widget.text).settings == widget.settings
    assert lab(widget.text, ranks=3).ranks == 3


class FakeRun:
    """A run as the engine's, but under the test's control: it ends when the test says so."""

    device, workers, transport = "cpu", "processes", "shared memory"
    gradient_error, gradient_note, device_note, advice = 3e-7, None, None, None

    def __init__(self, *_, schedule, pace=None, latency=0, **options):
        self.options = options | {"pace": pace, "latency": latency}
        self.costs = Costs(forward=0.011, backward=0.022)
        self.timeline = replace(
            simulate(schedule, self.costs), unit="s", source="measured", memory_unit="bytes"
        )
        self.timelines = [self.timeline]
        self.predicted = replace(simulate(schedule, Costs(forward=0.01, backward=0.02)), unit="s")
        self.losses = [2.0, 1.0]
        self.error = None
        self.ended = threading.Event()

    @property
    def done(self):
        return self.ended.is_set()

    def snapshot(self):
        columns = {name: getattr(self.timeline, name)[:3] for name in COLUMNS}
        return {"step": 1, "steps": 2, "losses": self.losses[:1], "columns": columns}

    def cancel(self):
        self.error = RunCancelled("cancelled")
        self.ended.set()

    def wait(self):
        if self.error:
            raise self.error


def test_the_fake_run_is_like_a_real_one():
    """Both have what the lab needs of a run: a fake that lacks it would test nothing."""
    from torch import nn, ones

    layers, schedule = [nn.Linear(4, 4), nn.Linear(4, 4)], build("gpipe", ranks=2, microbatches=2)
    x = ones(4, 4)
    real = pipelab.run(layers, x, x, nn.functional.mse_loss, schedule=schedule, device="cpu")
    assert isinstance(real, RealRun)
    assert isinstance(FakeRun(schedule=schedule), RealRun)
    assert set(real.snapshot()) == set(FakeRun(schedule=schedule).snapshot())


@pytest.fixture
def runs(monkeypatch):
    """The runs that the lab has started, as FakeRun."""
    import pipelab.engine

    started = []
    monkeypatch.setattr(
        pipelab.engine, "start", lambda *a, **k: started.append(FakeRun(*a, **k)) or started[-1]
    )
    yield started
    for run in started:
        run.cancel()
    until(lambda: not any(thread.name == "pipelab-lab-run" for thread in threading.enumerate()))


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def press(widget, action, **arguments):
    widget._handle_custom_msg({"action": action, **arguments}, [])


def test_a_run_streams_and_ends_beside_its_prediction(widget, runs):
    press(widget, "run")
    until(lambda: widget.progress["state"] == "running")
    assert np.frombuffer(widget.run_picture["bars"], np.float32).shape == (3 * 7,)
    assert widget.predicted["unit"] == "ms"  # on the paced run's axis from the start
    assert widget.predicted["end"] == 330
    assert widget.progress["losses"] == [2.0]
    runs[0].ended.set()
    assert widget.wait(20)
    assert widget.progress["state"] == "done"
    assert widget.progress["gradient_error"] == 3e-7
    assert widget.progress["losses"] == [2.0, 1.0]
    assert widget.run_picture["end"] == pytest.approx(363)
    keys = [n["key"] for n in widget.run_picture["numbers"]]
    assert [n["key"] for n in widget.predicted["numbers"]] == [*keys, "lower_bound"]
    gap = widget.progress["gap"]
    assert gap["total"] == pytest.approx(
        [33] * 4
    )  # ms on each rank, all of it compute and waiting for it
    assert gap["compute"] == pytest.approx([8 * 3] * 4)


def test_a_request_brings_the_changes_that_it_overtook(widget, runs):
    """A slider was moved, then Run pressed: what the lab had sent as two messages came the other
    way round, and the run was stopped by the move before it.
    """
    press(widget, "run", changed={"microbatches": 5, "paced": False})
    until(lambda: widget.progress["state"] == "running")
    widget.set_state({"microbatches": 5})  # late
    assert widget.progress["state"] == "running"
    assert runs[0].timeline.schedule.microbatches == 5 and not widget.paced
    press(widget, "pin", changed={"latency": 0.5})
    assert "latency=0.5" in widget.pins[0]["text"]
    assert widget.progress["state"] == "stopped"  # of other settings


def test_the_median_step_is_shown_and_any_other_can_be(widget, runs):
    """The last step was shown, however busy the machine was just then."""
    press(widget, "run")
    until(lambda: runs)
    run = runs[0]
    slower = [Costs(forward=0.011 * k, backward=0.022 * k) for k in (9, 1, 3, 2, 5)]
    run.timelines = [
        replace(simulate(run.timeline.schedule, costs), unit="s", source="measured")
        for costs in slower
    ]
    run.ended.set()
    assert widget.wait(20)
    assert widget.progress["step"] == 3
    assert widget.run_picture["end"] == pytest.approx(726)  # of 363, 1089, 726 and 1815
    assert (
        "The processors were shared: steps 1 to 4 took 363 to 1815 ms."
        in (widget.progress["message"])
    )
    press(widget, "show_step", step=4)
    assert widget.run_picture["end"] == pytest.approx(1815)
    assert widget.progress["gap"]["total"] == pytest.approx([1815 - 330] * 4)
    assert len(widget._runs) == 1, "it is one run, whichever step is shown"
    with pytest.raises(UsageError, match="There is no step 5 to show; there is 0 to 4"):
        widget.show_step(5)
    widget.ranks = 2
    with pytest.raises(UsageError, match="run first"):
        widget.show_step(0)


def test_predicting_again_with_measured_costs_makes_them_the_settings(widget, runs):
    with pytest.raises(UsageError, match="run first"):
        widget.use_measured_costs()
    widget.set_state(
        {"stage_costs": [1, 2, 1, 1], "latency": 0.25}
    )  # the pace adds 2.5 ms to every transfer
    widget.run()
    until(lambda: runs)
    runs[0].costs = Costs(
        forward=[0.001, 0.003, 0.001, 0.001], backward=[0.003, 0.009, 0.003, 0.003], latency=0.00265
    )
    runs[0].ended.set()
    widget.wait(20)
    press(widget, "use_measured_costs")
    assert (widget.forward, widget.input_grad, widget.weight_grad, widget.latency) == (
        1,
        1.5,
        1.5,
        0.1,
    )
    assert widget.stage_costs == [0.667, 2, 0.667, 0.667]
    assert (widget.run_picture, widget.progress) == ({}, IDLE)


def test_what_backwards_recompute_is_not_counted_twice():
    """With recomputation, a prediction from measured costs was longer than what was measured."""
    costs = Costs(forward=0.001, backward=0.003)
    assert measured_settings(Settings(), costs).input_grad == 1.5
    again = measured_settings(Settings(recompute="in-backward"), costs)
    assert (again.input_grad, again.weight_grad) == (1, 1)


def test_paced_runs_get_the_costs_in_seconds_and_raw_runs_none(widget, runs):
    widget.set_state({"forward": 1.5, "latency": 0.5})
    widget.run()
    until(lambda: runs)
    pace = runs[0].options["pace"].durations
    assert (pace["forward"], pace["backward"]) == (0.015, 0.02)
    assert runs[0].options["latency"] == 0.005
    widget.paced = False
    widget.run()
    until(lambda: len(runs) == 2)
    assert (runs[1].options["pace"], runs[1].options["latency"]) == (None, 0)


def test_a_machine_that_cannot_keep_the_pace_gets_a_slower_one(widget, runs):
    widget.run()
    until(lambda: runs)
    runs[0].error = PaceTooFast("It can keep forward 30 ms.", slower=3)
    runs[0].ended.set()
    until(lambda: len(runs) == 2)
    assert runs[1].options["pace"].durations["forward"] == pytest.approx(widget.pace_ms / 1000)
    assert widget.pace_ms > 30
    runs[1].ended.set()
    assert widget.wait(20)
    assert widget.progress["state"] == "done"
    assert "too slow or too busy for the usual pace" in widget.progress["message"]
    assert shown(widget)["makespan"] == pytest.approx(33 * widget.pace_ms)
    (point,) = [line for line in widget.sweep("microbatches").data if line.name == "measured"][1:2]
    assert point.y[0] == pytest.approx(8 * widget.pace_ms / 1000 / widget.measured.makespan)
    widget.run()  # the machine is what it was
    until(lambda: len(runs) == 3)
    assert runs[2].options["pace"] == runs[1].options["pace"]
    widget.microbatches = 4  # another batch, with fewer actions to keep
    assert widget.pace_ms == 10


def test_a_machine_that_is_far_too_slow_is_told(widget, runs):
    widget.run()
    until(lambda: runs)
    runs[0].error = PaceTooFast("It can keep forward 300 ms.", slower=30)
    runs[0].ended.set()
    assert widget.wait(20)
    assert widget.progress == {"state": "failed", "message": "It can keep forward 300 ms."}
    assert len(runs) == 1


def test_it_is_said_why_a_run_did_not_use_the_gpu(widget, runs):
    press(widget, "run")
    until(lambda: runs)
    runs[0].device_note = "on the processor: the driver is too old; install a newer one"
    runs[0].advice = "GPUs waited for Python in 3% of the time in which a rank computed"
    runs[0].ended.set()
    assert widget.wait(20)
    assert widget.progress["message"].endswith(
        " Bars last as long as the pace says. On the processor: the driver is too old; "
        "install a newer one. "
        "GPUs waited for Python in 3% of the time in which a rank computed."
    )


def test_stop_stops(widget, runs):
    press(widget, "run")
    until(lambda: widget.progress["state"] == "running")
    press(widget, "stop")
    assert widget.wait(20)
    assert widget.progress == {"state": "stopped", "message": "Stopped."}
    assert widget.run_picture == {}


def test_one_run_at_a_time(widget, runs):
    press(widget, "run")
    press(widget, "run")
    until(lambda: widget.progress["state"] == "running")
    assert len(runs) == 1


def test_a_failure_is_told_in_full(widget, runs):
    widget.run()
    until(lambda: runs)
    runs[0].error = WorkerDied("Rank 2 was killed by signal 9.\nThe pool has been replaced.")
    runs[0].ended.set()
    assert widget.wait(20)
    assert widget.progress == {
        "state": "failed",
        "message": "Rank 2 was killed by signal 9.\nThe pool has been replaced.",
    }


def test_a_change_of_settings_stops_the_run_and_clears_its_picture(widget, runs):
    widget.run()
    until(lambda: widget.progress["state"] == "running")
    widget.set_state({"microbatches": 4})
    assert runs[0].done
    until(lambda: not any(thread.name == "pipelab-lab-run" for thread in threading.enumerate()))
    assert widget.progress["message"] == "Stopped: the settings changed."
    assert widget.run_picture == {}
    assert shown(widget)["makespan"] == 21  # in units again


def test_a_change_after_a_run_drops_what_belonged_to_other_settings(widget, runs):
    widget.run()
    until(lambda: runs)
    runs[0].ended.set()
    widget.wait(20)
    widget.latency = 1
    assert (widget.progress, widget.run_picture) == (IDLE, {})


def test_what_was_measured_is_there_in_python(widget, runs):
    assert widget.measured is None
    widget.run()
    until(lambda: runs)
    runs[0].ended.set()
    widget.wait(20)
    assert widget.measured.source == "measured" and widget.measured.unit == "s"
    assert 1000 * widget.measured.makespan == pytest.approx(widget.run_picture["end"])
    widget.ranks = 2
    assert widget.measured is None


def test_two_runs_at_once_know_of_each_other(widget, runs):
    other = Lab(schedule="gpipe", ranks=2, microbatches=2)
    for each in (widget, other):
        each.run()
    until(lambda: len(runs) == 2)
    for run in runs:
        run.ended.set()
    for each in (widget, other):
        assert each.wait(20)
        assert "they share the processors" in each.progress["message"]
    widget.run()  # alone
    until(lambda: len(runs) == 3)
    runs[2].ended.set()
    assert widget.wait(20)
    assert "they share" not in widget.progress["message"]
    other.close()


def test_closing_the_lab_leaves_no_run_behind(runs):
    widget = Lab()
    widget.run()
    until(lambda: runs)
    widget.close()
    assert runs[0].done
    until(lambda: not any(thread.name == "pipelab-lab-run" for thread in threading.enumerate()))


def test_recomputing_in_the_backward_holds_less_of_the_batch():
    """The page said 312 %: the forwards keep nothing, so nothing was what it divided by."""
    lab = Lab(schedule="gpipe", recompute="in-backward")
    assert lab.facts["peak_memory"] == pytest.approx(0.03125)
    lab.close()


def test_a_lab_with_a_profile_counts_its_bytes():
    layer = LayerProfile("0", 0.001, 0.001, 0.001, 4000, 100, 64, 800, 1000, 50)
    loss = LayerProfile("loss", 0, 0, 0, 16, 0, 4, 0, 0, 0)
    profile = Profile("cpu", "float32", 4, (layer,) * 8, loss, input_bytes=64)
    widget = lab("1f1b", ranks=4, microbatches=8, profile=profile)
    expected = pipelab.partition(profile, ranks=4, microbatches=8).even.memory
    timeline = pipelab.simulate(widget.timeline.schedule, memory=expected)
    assert widget.timeline.peak_bytes == timeline.peak_bytes
    widget.microbatches = 16
    half = [value / 2 for value in expected.activations]
    held = widget.settings._stage_memory(4)
    assert list(held.activations) == half, "the same batch: a micro-batch is half as large"
    assert held.weights == expected.weights
    widget.hold = "microbatch"
    assert widget.settings._stage_memory(4).activations == expected.activations
    swept = widget.sweep("microbatches", [16], schedules=["1f1b"])
    assert swept.data[2].y == (float(widget.timeline.bytes_held.max()),)
    assert lab(widget.text).memory == "bytes"
    widget.apply(ranks=16)
    assert widget.problem.startswith("16 stages are more than the 8 layers of the profile")
    widget.close()
