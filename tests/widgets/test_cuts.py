"""The cuts: the front end's numbers are Python's, moves, goals, real runs and what is refused."""

import json
import random
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

import pipelab
from pipelab.engine.setup import pacing
from pipelab.errors import UnknownName, UsageError
from pipelab.layout import LayerProfile, Profile
from pipelab.model import workload
from pipelab.plots.page import as_text
from pipelab.widgets import Goal, cut_run
from pipelab.widgets.cuts import traffic

NODE = compute_driver_executable()[0]
HERE = Path(__file__).parent


def profile_of(seconds, seed=0):
    """Layers of these seconds, a third in each part; random bytes."""
    draw = random.Random(seed)
    layers = []
    for i, time in enumerate(seconds):
        kept = draw.randint(100, 900)
        layers.append(
            LayerProfile(
                f"{i} Layer", time / 3, time / 3, time / 3, kept, draw.randint(0, 90),
                draw.randint(10, 99), draw.randint(0, 999), draw.randint(0, kept), 7,
            )
        )  # fmt: skip
    loss = LayerProfile("loss", 0.001, 0.002, 0, 50, 0, 4, 0, 10, 1)
    return Profile("cpu", "float32", 4, tuple(layers), loss, input_bytes=64)


PROFILE = profile_of([0.003, 0.001, 0.002, 0.005, 0.001, 0.004, 0.002, 0.009])


def cases():
    """Random sizes for schedules of every kind, with and without a latency."""
    draw = random.Random(1)
    for name in ("gpipe", "1f1b", "zb-h1", "interleaved-1f1b", "zb-v", "dualpipe"):
        for latency in (0.0, 0.0007):
            profile = profile_of([draw.random() / 100 for _ in range(11)], draw.random())
            link = pipelab.Link(latency) if latency else None
            widget = pipelab.cuts(profile, ranks=4, microbatches=8, schedule=name, link=link)
            base = as_text(widget.predicted)
            stages = len(widget.sizes)
            inner = sorted(draw.sample(range(1, 11), stages - 1))
            sizes = [b - a for a, b in zip([0, *inner], [*inner, 11], strict=True)]
            widget.sizes = sizes
            facts = {k: v for k, v in widget.facts.items() if not k.startswith("run")}
            yield {
                "name": f"{name} {sizes} {latency}",
                "about": widget.about,
                "base": base,
                "sizes": sizes,
                "expected": {
                    "stage_seconds": widget.found.stage_seconds,
                    "rank_seconds": widget.found.rank_seconds,
                    "slowest": widget.found.slowest,
                    "traffic": traffic(widget.found),
                    "facts": facts,
                    "message": as_text(widget.predicted),
                },
            }


def test_the_front_end_cuts_as_python_does(tmp_path):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(list(cases())))
    command = [NODE, HERE / "cuts_equal_to_python.mjs", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["differences"] == []


def test_a_cut_that_moves_changes_what_follows():
    widget = pipelab.cuts(PROFILE, ranks=2, microbatches=4)
    assert widget.sizes == [4, 4] and widget.found.slowest == pytest.approx(0.019)
    widget.sizes = [6, 2]
    assert widget.found.rank_seconds == pytest.approx([0.016, 0.014])
    assert widget.facts["gain"] == pytest.approx(3 / 19)
    assert widget.predicted["sizes"] == [6, 2]
    widget.apply(way="even")
    assert widget.sizes == [4, 4]
    widget.apply(way="best")
    assert widget.facts["above_best"] == 0


def test_a_goal_is_reached_by_the_best_cuts_only():
    goal = Goal("Find the best cuts.", {"above_best": "<= 0.001"}, {"way": "best"})
    widget = pipelab.cuts(PROFILE, ranks=3, microbatches=4, goals=[goal])
    assert not widget.goals[0]["reached"]
    widget.show_goal()
    assert widget.goals[0]["reached"]
    assert widget.sizes == widget.best.sizes


def test_goals_of_the_course_are_there_at_once(tmp_path, monkeypatch):
    """Their first look at the cuts came before there were any."""
    monkeypatch.chdir(tmp_path)
    widget = pipelab.cuts(PROFILE, ranks=2, goals="06-balance")
    assert [goal["reached"] for goal in widget.goals] == [False, False]
    widget.apply(way="best")
    assert widget.goals[0]["reached"]


def test_a_real_run_trains_the_stages_of_the_cuts():
    job = workload("mlp", layers=6, width=16, batch=16)
    inputs, targets = job.batches(0)
    profile = pipelab.profile(job.model, inputs, targets, job.loss_fn, microbatches=4, repeats=2)
    widget = pipelab.cuts(profile, ranks=2, microbatches=4, sizes=[4, 2], train=job)
    widget.slower = 2.0  # no machine keeps that: computing may take 0.4 of the time
    widget.ran = [{"sizes": [3, 3], "paced": True}]
    widget.run()
    assert widget.predicted["slower"] == 2.0
    assert widget.wait(100)
    assert widget.progress["state"] == "done", widget.progress["message"]
    assert widget.slower > 2.5, "it found one that this machine keeps"
    (row,) = widget.ran  # what ran at another pace is not beside it
    assert row["sizes"] == [4, 2] and row["paced"]
    assert row["measured"] > 0.5 * row["predicted"] > 0
    assert widget.facts["runs"] == 1 and widget.facts["run"] == "done"
    widget.sizes = [3, 3]
    assert widget.facts["run"] == "idle" and len(widget.ran) == 1, "its row stays"
    widget.paced = False
    widget.run()
    assert widget.wait(100)
    assert [one["paced"] for one in widget.ran] == [True, False]
    widget.close()


def test_a_paced_run_is_as_slow_as_the_engine_asks():
    assert cut_run.BUSY_SHARE == pacing.BUSY_SHARE
    assert cut_run.slowdown(0.001, 2) >= 800
    assert cut_run.slowdown(100.0, 64) >= cut_run.SPARE / cut_run.BUSY_SHARE


def test_a_viewer_without_a_kernel_sees_the_cuts():
    data, _ = pipelab.cuts(PROFILE, ranks=2)._repr_mimebundle_()
    assert "cuts after layers 4" in data["image/svg+xml"]
    assert "<style" not in data["image/svg+xml"]
    assert "Layers of each stage: 4, 4." in data["text/html"]


def test_what_is_refused():
    with pytest.raises(UsageError, match="takes a Profile, not a Sequential: measure one with"):
        pipelab.cuts(workload("mlp", layers=4).model)
    with pytest.raises(UsageError, match="9 stages are more than the 8 layers"):
        pipelab.cuts(PROFILE, ranks=9)
    with pytest.raises(UsageError, match="The sizes .1, 2. do not fit"):
        pipelab.cuts(PROFILE, ranks=2, sizes=[1, 2])
    with pytest.raises(UsageError, match="has 8 layers, and the model to train has 4"):
        pipelab.cuts(PROFILE, ranks=2, train=workload("mlp", layers=4))
    with pytest.raises(UsageError, match="leave out link, or train"):
        pipelab.cuts(PROFILE, train=workload("mlp", layers=8), link=pipelab.Link(0.1))
    with pytest.raises(UsageError, match="train has no model and no batches"):
        pipelab.cuts(PROFILE, train="mlp")
    widget = pipelab.cuts(PROFILE, ranks=2)
    with pytest.raises(UsageError, match="only a profile here, and nothing to train"):
        widget.run()
    with pytest.raises(UsageError, match="do not fit"):
        widget.sizes = [8, 0]
    assert widget.sizes == [4, 4]
    with pytest.raises(UnknownName, match="best"):
        widget.apply(way="bets")
