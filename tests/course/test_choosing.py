"""Notebook 11: its answers are the planner's, its pictures show what was planned and measured."""

import re
import shutil
from pathlib import Path

import pytest

from pipelab.course import all_points, configured, needs, planned, played
from pipelab.course.questions import QUESTIONS
from pipelab.errors import UnknownName
from pipelab.layout.planner import MODELS
from pipelab.model.frameworks import READERS, ask, flags_of

ROOT = Path(__file__).parents[2]


def best(model, device, network=None, **options):
    return planned(model, device, network, **options).rows[0].estimate.seconds


def test_seven_billion_are_fastest_as_copies_that_divide_all():
    """As the question says; the others lose more than an estimate can be wrong."""
    found = planned("llama-7b", "a100-80", gpus=8, batch=64)
    layout = found.rows[0].layout
    assert (layout.pipeline, layout.tensor, layout.data, layout.zero) == (1, 1, 8, 3)
    right = QUESTIONS["11-seven"]
    assert "ZeRO 3" in right.options[right.truth()].text
    assert (
        best("llama-7b", "a100-80", gpus=8, batch=64, pipeline=8)
        > 1.1 * found.rows[0].estimate.seconds
    )
    assert (
        found.why({"tensor": 8, "data": 1, "zero": 0}).seconds
        > 1.1 * found.rows[0].estimate.seconds
    )
    assert round(18 * MODELS["llama-7b"].parameters / 1e9) == 121


def test_a_slow_network_asks_for_eight_ranks():
    truth = QUESTIONS["11-slow-network"].truth()
    assert min(truth) == truth[3] and truth[0] > 1.5 * truth[3] and truth[4] > 1.1 * truth[3]
    assert planned("llama-70b", "h100", 3, gpus=64, batch=64).pipeline_needed["answer"] == "yes"
    assert (
        planned("llama-70b", "h100", 50, gpus=64, batch=64).pipeline_needed["answer"] == "optional"
    )
    one = planned("llama-70b", "h100", 3, gpus=64, batch=64).rows[0].estimate
    assert 3.5 < one.mfu * one.seconds < 4.5, "what all 64 would take at their peak"


def test_a_trillion_fits_without_a_pipeline_and_takes_longer():
    whole = planned("gpt-1t", "a100-80", gpus=3072, batch=3072)
    without = planned("gpt-1t", "a100-80", gpus=3072, batch=3072, pipeline=1).rows[0]
    layout = without.layout
    assert (layout.tensor, layout.data, layout.zero, layout.recompute) == (8, 384, 3, "full")
    assert without.estimate.seconds > 1.1 * whole.rows[0].estimate.seconds
    asked = QUESTIONS["11-trillion"]
    assert "slower" in asked.options[asked.truth()].text


def test_whether_a_pipeline_is_needed_is_drawn_as_planned():
    svg = needs(["llama-7b", "llama-70b"], [8, 64], batch=64).svg
    assert "llama-70b on 8, network 50: does not fit" in svg
    answers = {"yes": "needed", "no": "not needed", "optional": "optional"}
    for network in (50, 3):
        found = planned("llama-7b", "h100", network, gpus=64, batch=64)
        said = answers[found.pipeline_needed["answer"]]
        assert f"llama-7b on 64, network {network}: {said} " in svg


@pytest.mark.timeout(120)
def test_a_planned_pipeline_is_run_for_real():
    found = planned("llama-7b", "h100", 3, gpus=8, batch=32, pipeline=2)
    estimate = found.rows[0].estimate
    took = played(found, seconds=1.0)
    assert 0.95 * estimate.seconds < took < 1.6 * estimate.seconds


@pytest.mark.parametrize("framework", READERS)
def test_a_configuration_says_what_it_leaves_out_and_who_has_read_it(framework):
    found = planned("llama-70b", "h100", 3, gpus=64, batch=64)
    row = next(i for i, row in enumerate(found.rows) if row.layout.zero <= 1)
    text, cannot = found.to(framework, row)
    html = configured(found, framework, row).svg
    first = text.splitlines()[1].strip().strip("{}\\ ")
    assert first.split('"')[0] in html
    assert html.count("<li>") == len(cannot) > 0
    answer = ask(framework, found.model, found.rows[row].layout)
    assert answer.sentence in html
    assert answer.taken is not False


def test_what_a_framework_refuses_is_said_in_its_words():
    found = planned("llama-70b", "h100", 3, gpus=64, batch=64)
    assert found.rows[0].layout.zero == 3 and found.rows[0].layout.pipeline > 1
    assert "ZeRO-2 and ZeRO-3 are incompatible" in configured(found, "deepspeed").svg
    with pytest.raises(UnknownName, match="torchtitan"):
        ask("colossal", found.model, found.rows[0].layout)


def test_flags_are_read_over_several_lines():
    assert flags_of("--a 1 \\\n--b \\\n--c x") == {"--a": "1", "--b": "", "--c": "x"}


def test_all_points_of_the_course_are_in_view(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "course"
    (home / "notebooks").mkdir(parents=True)
    (home / "exercises").mkdir()
    shutil.copy(ROOT / "notebooks" / "course.toml", home / "notebooks")
    (home / "exercises" / "points.json").write_text('{"01_makespan": 3.5, "18_best_layout": 99}')
    (tmp_path / "guesses.json").write_text(
        '{"03-time": {"first": 34.4}, "00-cut": {"reached": [0]}}'
    )
    html = all_points(home=home).svg
    assert re.search(r"<b>18\.5 of \d+ points in \d+ exercises\.</b>", html), (
        "never more than there are"
    )
    assert "3.5 of 5" in html and "15 of 15" in html
    assert re.search(r"1 of \d+ guesses locked, 1 right the first time; 1 of \d+ goals", html)
