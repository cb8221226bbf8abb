"""Building by hand: every legal move is taken, every other refused with its reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab import Schedule, build, check, simulate
from pipelab.errors import Refusal, ScheduleError, UnknownName, UsageError
from pipelab.widgets import builder, lab
from pipelab.widgets.construction import Construction


@pytest.fixture
def made():
    widget = builder(ranks=2, microbatches=2, hold="microbatch")
    yield widget
    widget.close()


def press(widget, action, **arguments):
    widget._handle_custom_msg({"action": action, **arguments}, [])


def finish(widget):
    while action := widget.hint():
        widget.place(str(action))


def test_it_starts_with_what_can_come_first(made):
    assert made.grid["rows"] == [[], []]
    assert made.grid["legal"] == [["0F0"], []]
    assert made.grid["left"] == 8
    assert made.predicted["bars"] == b""


def test_placing_opens_what_comes_next(made):
    press(made, "place", text="0F0")
    assert made.grid["rows"] == [["0F0"], []]
    assert made.grid["legal"] == [["0F1"], ["1F0"]]
    press(made, "place", text="1F0")
    assert (made.grid["score"]["makespan"], made.grid["score"]["peak"]) == (2, 1)
    assert made.predicted["end"] == 2
    assert made.grid["csv"] == "0F0\n1F0\n"


@pytest.mark.parametrize(
    ("move", "arguments", "says"),
    [
        ("place", {"text": "1F0"}, "1F0 needs the result of 0F0, which does not stand yet"),
        (
            "place",
            {"text": "0B0"},
            "0B0 comes before 0F0: a backward uses the activations that its forward kept.",
        ),
        ("place", {"text": "0F0", "rank": 1}, "0F0 belongs on rank 0"),
        ("place", {"text": "7F0"}, "7F0 is not an action of this schedule"),
        ("place", {"text": "hello"}, "'hello' is not an action"),
    ],
)
def test_what_is_illegal_is_refused_with_the_reason(made, move, arguments, says):
    press(made, move, **arguments)
    assert made.grid["refused"]
    assert says in made.grid["message"]
    assert made.grid["rows"] == [[], []]
    made.place("0F0")
    assert (made.grid["refused"], made.grid["message"]) == (False, "")


def test_twice_is_once_too_often_and_what_is_needed_stays(made):
    made.place("0F0")
    made.place("0F0")
    assert made.grid["message"] == "0F0 stands already: every action runs once."
    made.place("1F0")
    press(made, "remove", rank=0, step=0)
    assert (
        made.grid["message"] == "0F0 cannot be taken away: 1F0 stands already and needs its result."
    )
    press(made, "remove", rank=1, step=0)
    assert made.grid["rows"] == [["0F0"], []]


def test_a_move_that_would_deadlock_shows_the_cycle():
    widget = builder("gpipe", ranks=2, microbatches=2, hold="microbatch")
    widget.move(1, 0, 1)  # 1F1 before 1F0: fine
    assert (widget.grid["refused"], widget.grid["rows"][1][:2]) == (False, ["1F1", "1F0"])
    widget.move(0, 1, 2)  # 0F1 behind 0B0, which needs what rank 1 does after 1F1
    assert "ranks wait for one another" in widget.grid["message"]
    assert widget.grid["rows"][0] == ["0F0", "0F1", "0B0", "0B1"]


def test_undo_redo_and_clear(made):
    made.place("0F0")
    made.place("0F1")
    press(made, "undo")
    assert (made.grid["rows"][0], made.grid["undo"], made.grid["redo"]) == (["0F0"], 1, 1)
    press(made, "redo")
    assert made.grid["rows"][0] == ["0F0", "0F1"]
    press(made, "clear")
    assert made.grid["rows"] == [[], []]
    press(made, "undo")
    press(made, "undo")
    made.place("1B0")  # refused: the history stays
    assert made.grid["redo"] == 2
    made.place("0F1")
    assert (made.grid["redo"], made.grid["rows"][0]) == (0, ["0F0", "0F1"])


@pytest.mark.parametrize(
    ("ranks", "microbatches", "split"), [(2, 4, False), (4, 8, False), (3, 6, True), (1, 2, False)]
)
def test_hints_lead_to_a_schedule_at_least_as_good_as_par(ranks, microbatches, split):
    widget = builder(ranks=ranks, microbatches=microbatches, split=split)
    finish(widget)
    assert widget.grid["complete"]
    score = widget.grid["score"]
    assert score["bound"] <= score["makespan"] <= score["par"]
    assert check(widget.schedule) is None


def test_a_known_order_is_named_and_runs_in_the_simulator():
    widget = builder(ranks=4, microbatches=8, hold="microbatch")
    finish(widget)
    assert widget.grid["name"] == "this is 1f1b"
    assert widget.schedule == build("1f1b", ranks=4, microbatches=8)
    assert widget.predicted["end"] == simulate(widget.schedule).makespan
    assert widget.predicted["numbers"]


def test_an_unfinished_schedule_says_what_is_missing(made):
    made.place("0F0")
    with pytest.raises(ScheduleError, match="7 actions are not placed yet, 0B0 among them"):
        _ = made.schedule
    made.run()
    assert made.progress["state"] == "idle"


def test_csv_in_and_out(made):
    text = build("1f1b", ranks=3, microbatches=3).to_csv()
    press(made, "load", csv=text)
    assert (made.csv, made.grid["complete"], made.grid["score"]["par"]) == (text, True, 15)
    for bad, says in (
        ("0F0,0X0\n", "not an action"),
        ("0F0\n", "missing"),
        ("0B0,0F0\n", "comes before 0F0"),
    ):
        press(made, "load", csv=bad)
        assert says in made.grid["message"]
        assert made.csv == text


def test_costs_count():
    widget = builder("1f1b", ranks=2, microbatches=2, forward=2.0, latency=1.0)
    assert widget.grid["score"]["makespan"] == widget.settings.predict().makespan


def test_what_cannot_be_edited_by_hand_says_so():
    with pytest.raises(UsageError, match="dualpipe cannot be edited by hand: only F, B, I and W"):
        builder("dualpipe", ranks=4, microbatches=8)
    with pytest.raises(UsageError, match="pipedream cannot be edited"):
        builder("pipedream")
    with pytest.raises(
        UsageError, match="8192 actions are too many to place by hand; at most 1500"
    ):
        builder(ranks=32, microbatches=128)
    with pytest.raises(UnknownName):
        builder("nonsense")


def test_the_lab_opens_its_schedule_for_editing(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["pipelab.widgets.lab"], "_warm", lambda: None)
    widget = lab("zb-v ranks=2 microbatches=4")
    press(widget, "edit")
    assert widget.editor.schedule == widget.timeline.schedule
    assert widget.editor.grid["name"] == "this is zb-v"
    said = []
    widget.send = said.append
    widget.schedule = "dualpipe"
    press(widget, "edit")
    assert "cannot be edited by hand" in said[0]["notice"]
    widget.close()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_is_offered_is_legal_and_leads_to_the_end(data):
    """Any way through the offered actions ends in a schedule that can run; no way gets stuck."""
    now = Construction.empty(
        data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), split=data.draw(st.booleans())
    )
    while not now.complete:
        offered = [str(action) for rank in range(len(now.rows)) for action in now.legal(rank)]
        now = now.place(data.draw(st.sampled_from(offered)))
        assert not isinstance(now, Refusal)
    assert check(Schedule.from_rows(now.rows)) is None


def test_cells_stand_where_the_simulator_puts_them():
    widget = builder("zb-h1", ranks=3, microbatches=4, latency=0.5, overhead=0.1)
    timeline = widget.settings.simulate(build("zb-h1", ranks=3, microbatches=4))
    flat = [time for row in widget.grid["times"] for time in row]
    assert flat == [
        pytest.approx(pair) for pair in zip(timeline.started, timeline.ended, strict=True)
    ]
    steps = [level for row in widget.grid["memory"] for _, level in row]
    assert max(steps) == pytest.approx(timeline.bytes_held.max())
    assert widget.grid["memory_unit"] == "% of the batch"
    assert widget.grid["time_name"] == "time per batch"
    assert timeline.makespan == pytest.approx(widget.grid["score"]["makespan"])


def test_what_comes_next_stands_where_it_would_start(made):
    made.place("0F0")
    assert made.grid["legal_times"] == [[(1, 2)], [(1, 2)]]  # 0F1, and 1F0
    made.place("1F0")
    assert made.grid["legal_times"] == [[(1, 2)], [(2, 4)]]  # 1B0 takes two


def test_one_batch_is_that_of_the_order_that_is_edited():
    """A schedule of other counts was judged with costs for 4 × 4."""
    widget = builder(build("gpipe", ranks=2, microbatches=16))
    assert (widget.settings.ranks, widget.settings.microbatches) == (2, 16)
    assert widget.grid["score"]["makespan"] == pytest.approx(100 / 2 * 17 / 16)
    widget.load("0F0,0B0\n1F0,1B0\n")
    assert widget.grid["score"]["makespan"] == pytest.approx(100)


@pytest.fixture
def eighth(tmp_path, monkeypatch):
    folder = tmp_path / "exercises" / "08_hand_built"
    folder.mkdir(parents=True)
    (folder / "hand_built.csv").write_text("# yours\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return folder / "hand_built.csv"


SHORTEST = """0F0,0F1,0F2,0B0,0F3,0B1,0F4,0B2,0F5,0B3,0B4,0B5
1F0,1F1,1F2,1B0,1F3,1B1,1F4,1B2,1F5,1B3,1B4,1B5
2F0,2F1,2B0,2F2,2B1,2F3,2B2,2F4,2B3,2F5,2B4,2B5
3F0,3B0,3F1,3B1,3F2,3B2,3F3,3B3,3F4,3B4,3F5,3B5
"""


def test_the_exercise_opens_empty_and_is_handed_in(eighth):
    widget = builder(exercise="08")
    assert (widget.grid["left"], widget.grid["limit"]) == (48, 3)
    for _ in range(4):
        widget.place(f"0F{len(widget.grid['rows'][0])}")
    assert widget.grid["task"]["over"] == [0]  # it is shown, not refused
    widget.load(build("1f1b", ranks=4, microbatches=6).to_csv())
    assert not widget.grid["task"]["reached"]  # 27, but four in flight
    widget.load(SHORTEST)
    assert widget.grid["score"]["peak"] == 3
    assert widget.grid["task"]["reached"] == (widget.grid["score"]["makespan"] <= 30)
    press(widget, "hand_in")
    assert eighth.read_text() == widget.csv
    assert eighth.with_name("hand_built.csv.before").read_text() == "# yours\n"
    assert 'pipelab.grade("08")' in widget.grid["message"]


def test_what_no_exercise_asks_for_is_not_handed_in(made, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="Only the schedule of an exercise"):
        made.hand_in()
    with pytest.raises(UnknownName, match="07"):
        builder(exercise="07")
    monkeypatch.chdir(tmp_path)
    widget = builder(exercise="8")
    press(widget, "hand_in")
    assert "There is no file of exercise 08" in widget.grid["message"]
    assert widget.hand_in(tmp_path / "mine.csv").read_text() == widget.csv


def test_without_a_kernel_there_are_words(made):
    data, _ = made._repr_mimebundle_()
    assert "Place all 8 actions: 1F1B takes 9." in data["text/html"]
    assert "image/svg+xml" not in data
    finish(made)
    data, _ = made._repr_mimebundle_()
    assert "0F0" in data["text/html"] and data["image/svg+xml"].startswith("<svg")


def test_hints_keep_within_the_limit():
    widget = builder(exercise="08")
    while action := widget.hint():
        widget.place(str(action))
    assert (widget.grid["task"]["over"], widget.grid["left"]) == ([], 0)


def test_batches_follow_one_another_with_a_flush_between():
    grid = builder("1f1b", ranks=2, microbatches=2, batches=2, hold="microbatch")
    assert grid.csv.splitlines()[0] == "0F0,0F1,0B0,0B1,0F2,0F3,0B2,0B3"
    flushed = grid.facts["makespan"]
    grid.move(0, 4, 3)
    assert grid.csv.splitlines()[0] == "0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3"
    assert grid.facts["makespan"] < flushed
    with pytest.raises(UsageError, match="batches is 0; it is how many follow one another"):
        builder("1f1b", ranks=2, microbatches=2, batches=0)
