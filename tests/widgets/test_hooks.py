"""What a lesson asks of a lab: goals, and which controls, numbers and schedules it shows."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright._impl._driver import compute_driver_executable

from pipelab.errors import UnknownName, UsageError
from pipelab.widgets import Goal, Lab

FEW = Goal("Few idle.", {"bubble_fraction": "< 0.2"}, {"microbatches": 16}, why="A smaller part.")
LITTLE = Goal("Little held.", {"schedule": "1f1b", "peak_in_flight": "<= 2", "ranks": "= 4"})


@pytest.fixture
def widget():
    lab = Lab(schedule="1f1b", ranks=4, microbatches=8, goals=[FEW, LITTLE])
    yield lab
    lab.close()


def test_a_goal_ticks_when_the_lab_meets_it(widget):
    widget.microbatches = 9
    assert [goal["reached"] for goal in widget.goals] == [False, False]
    widget.microbatches = 16
    assert [goal["reached"] for goal in widget.goals] == [True, False]
    widget.microbatches = 8
    assert widget.goals[0]["reached"]  # what was reached stays


def test_only_the_current_goal_ticks(widget):
    widget.apply(ranks=4, microbatches=2)  # meets the second
    assert not widget.goals[1]["reached"]
    widget.goal = 1
    widget.apply(microbatches=1)
    assert widget.goals[1]["reached"] and not widget.goals[0]["reached"]


def test_a_goal_that_can_be_shown_is_then_met(widget):
    widget.show_goal()
    assert widget.microbatches == 16 and widget.goals[0]["reached"]
    widget.goal = 1
    with pytest.raises(UsageError, match="yours to reach"):
        widget.show_goal()


def test_goals_can_be_about_pins(widget):
    widget.goals = [Goal("Pin two.", {"pins": ">= 2"})]
    widget.pin()
    assert not widget.goals[0]["reached"]
    widget.pin()
    assert widget.goals[0]["reached"]


def test_a_goal_needs_conditions():
    with pytest.raises(UsageError, match="no conditions"):
        Goal("Anything.", {})
    with pytest.raises(UsageError, match="is not a goal"):
        Lab(goals=["bubble < 0.2"])


@pytest.mark.parametrize("hook", ["show", "numbers", "schedules"])
def test_unknown_names_are_refused(hook):
    with pytest.raises(UnknownName, match="nonsense"):
        Lab(**{hook: ["nonsense"]})


facts = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(st.floats(-2, 2), st.integers(-3, 3), st.sampled_from(["gpipe", "1f1b"])),
)
bounds = st.one_of(
    st.builds(
        "{} {}".format, st.sampled_from(["<", "<=", ">", ">=", "="]), st.floats(-2, 2).map(repr)
    ),
    st.integers(-3, 3),
    st.sampled_from(["gpipe", "1f1b"]),
)


def comparable(case):
    """Words are compared with words, and only for being equal."""
    known, when = case
    kinds = {name: isinstance(value, str) and not re.match("[<>=]", value) for name, value in when}
    return all(isinstance(known.get(name, ""), str) == kinds[name] for name in kinds)


def test_the_front_end_judges_goals_as_python_does(tmp_path):
    cases = []

    @given(st.tuples(facts, st.dictionaries(st.sampled_from(["a", "b"]), bounds, min_size=1)))
    def collect(case):
        known, when = case
        if comparable((known, when.items())):
            goal = Goal("x", when)
            cases.append([known, goal.conditions, goal.met(known)])

    collect()
    assert {met for *_, met in cases} == {True, False}
    goals = Path(__file__).parents[2] / "pipelab/widgets/goals.js"
    script = tmp_path / "judge.mjs"
    script.write_text(
        f'import {{ meets }} from "{goals.as_uri()}";\n'
        "const cases = JSON.parse(await new Response(process.stdin).text());\n"
        "console.log(JSON.stringify(cases.map(([facts, when]) => meets(facts, when))));\n"
    )
    node = compute_driver_executable()[0]
    done = subprocess.run(
        [node, script], input=json.dumps(cases), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [met for *_, met in cases]


def test_counts_are_of_a_page(widget, tmp_path):
    with pytest.raises(UsageError, match=r"save a \.html"):
        widget.save(tmp_path / "lab.svg", counts={"ranks": [2]})
    with pytest.raises(UnknownName, match="latency"):
        widget.save(tmp_path / "lab.html", counts={"latency": [0, 1]})
    assert list(tmp_path.iterdir()) == []
