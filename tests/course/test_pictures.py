"""The pictures of the course: what they draw is what was given, and what was computed."""

import re
from xml.etree import ElementTree

import pytest

import pipelab
from pipelab.course import (
    Line,
    bars,
    ending,
    figures,
    folded,
    lines,
    pipe,
    scatter,
    time_to_loss,
    trained,
    verdicts,
    versioned,
    waiting,
)
from pipelab.course.figures import choices, histogram, short, ticks
from pipelab.course.questions import QUESTIONS
from pipelab.errors import UnknownName


def parsed(svg):
    return ElementTree.fromstring(svg)


def rectangles(svg):
    return [float(one.get("width")) for one in parsed(svg).iter("{http://www.w3.org/2000/svg}rect")]


def test_bars_are_as_long_as_their_numbers():
    one, two, back = rectangles(bars([("a", 10, "red"), ("b", 20, "red"), ("c", -5, "red")], low=0,
                                     high=20))  # fmt: skip
    assert two == pytest.approx(2 * one, abs=0.2) and back == pytest.approx(one / 2, abs=0.2)


def test_lines_are_evenly_spaced_and_the_highest_is_on_top():
    svg = lines([Line("a", {1: 0, 2: 5, 100: 10}, "red")], x_label="x", y_label="y")
    points = re.search(r'polyline points="([^"]*)"', svg)[1].split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y2 < y1 < y0
    assert "a: 1 → 0, 2 → 5, 100 → 10" in svg


@pytest.mark.parametrize("slug", QUESTIONS)
def test_every_picture_of_a_question_is_whole(slug):
    asked = QUESTIONS[slug]
    truth = asked.truth()
    for tries in ([], [truth], [truth, truth]):
        said = parsed(asked.picture(tries)).get("aria-label")
        assert said.count("your guess") == (len(tries) > 0 and asked.kind != "choice")
        assert said.count("second try") == (len(tries) > 1 and asked.kind != "choice")


def test_what_a_machine_measured_stands_beside_the_law():
    assert "your machine 36" in QUESTIONS["00-four-devices"].picture([25.0], 36)
    assert "your machine: 4 → 44" in QUESTIONS["02-bubble"].picture([], {4: 44})


def test_words_and_marks_are_escaped():
    for svg in (bars([("<b>", 1, "red")], low=0, high=1), choices(["<b>", "x"], [0], 1)):
        assert "<b>" not in svg and parsed(svg) is not None
    assert "✗ &lt;b&gt; — your guess" in choices(["<b>", "x"], [0], 1)


def test_a_histogram_has_a_bar_for_each_answer():
    assert len(rectangles(histogram({"a": 3, "b": 0, "c": 1}))) == 3


def test_numbers_are_short():
    assert [short(x) for x in (0.1234, 12.345, 1234.5, 2e-14)] == ["0.123", "12.3", "1234", "0"]
    assert list(ticks(0, 100)) == [0, 20, 40, 60, 80, 100]


def test_ranks_that_stop_are_drawn_with_what_they_wait_for():
    stuck = waiting([["0F0", "0B0", "0F1", "0B1"], ["1F1", "1F0", "1B0", "1B1"]]).svg
    assert "rank 0 stops at 0B0, which waits for 1B0" in stuck
    assert "rank 1 stops at 1F1, which waits for 0F1" in stuck
    assert stuck.count("marker-end") == 2
    fine = pipelab.build("1f1b", ranks=2, microbatches=3).actions
    assert "all can run" in waiting([list(map(str, row)) for row in fine]).svg


def test_a_model_is_folded_as_the_schedule_places_it():
    svg = folded(["interleaved-1f1b", "zb-v"]).svg
    assert "interleaved-1f1b: ranks of the stages [0, 1, 2, 3, 0, 1, 2, 3]" in svg
    assert "zb-v: ranks of the stages [0, 1, 2, 3, 3, 2, 1, 0]" in svg


def test_labels_of_near_points_do_not_lie_on_each_other():
    svg = scatter({"a": (3, 4), "b": (3, 4), "c": (30, 4)}, x_label="x", y_label="y").svg
    places = {name: re.search(rf'<text x="(\S+)" y="(\S+)"[^>]*>{name}<', svg).groups()
              for name in "abc"}  # fmt: skip
    assert abs(float(places["a"][1]) - float(places["b"][1])) >= 14


def test_the_last_frame_has_guess_law_machine_and_the_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "have not locked a guess" in ending("00", 36)._repr_html_()
    pipelab.guess("00-four-devices").lock(25)
    lab = pipelab.lab("gpipe", microbatches=1, goals="00-cut")
    lab.microbatches = 2
    lab.close()
    html = ending("00", 36)._repr_html_()
    assert "your guess 25; the law 34.4; your machine 36" in html
    assert "1 of 1 guesses locked, 0 right the first time; 1 of 8 goals reached" in html
    assert "A pipeline is never full at both ends" in html
    with pytest.raises(UnknownName, match="00"):
        ending("77")


def test_the_spirals_are_learned_and_seen():
    """Trained for real in two processes: the borders change, and the loss falls."""
    seen = trained("mlp", schedule="gpipe", ranks=2, microbatches=4, steps=(0, 3, 25))
    assert [step for step, _ in seen.moments] == [0, 3, 25] and len(seen.losses) == 25
    assert seen.losses[-1] < seen.losses[0] / 2 and seen.gradient_error < 1e-5
    pictures = [picture for _, picture in seen.moments]
    assert len(set(pictures)) == 3
    assert all(figures.OTHERS[0] in picture for picture in pictures)
    assert seen._repr_html_().count("<figure") == 3


def test_the_gpt_writes_eight_characters():
    seen = trained("gpt", schedule="1f1b", ranks=2, microbatches=2, steps=(0, 2))
    for _, picture in seen.moments:
        wrote = re.search(r"<b>(.*)</b>", picture, re.DOTALL)[1]
        assert len(re.sub(r"&\w+;|&#x27;", "x", wrote)) == 8


def test_what_is_never_reached_is_a_cross():
    svg = lines([Line("a", {1: 2, 2: float("inf")}, "red")], x_label="x", y_label="y")
    assert svg.count("l8 8m0 -8l-8 8") == 1
    assert "1 → 2, 2 → never" in svg and ">never<" in svg
    assert "never" not in lines([Line("a", {1: 2, 2: 3}, "red")], x_label="x", y_label="y")


def test_a_backward_has_the_colour_of_its_forward():
    drawn = parsed(versioned(pipelab.build("pipedream", ranks=2, microbatches=4)).svg)
    bars_of = [one for one in drawn.iter() if one.get("height") == "26"]
    names = [one.text for one in drawn.iter() if one.get("font-size") == "11"]
    fills = dict(zip(names[: len(bars_of)], (one.get("fill") for one in bars_of), strict=False))
    # rank 0: 0F0 0F1 0B0 0STEP0 0F2 0B1: micro-batches 0 and 1 use version 0, 2 uses version 1
    assert fills["F0"] == fills["B0"] == figures.OTHERS[0]
    assert "version" in drawn.get("aria-label")


def test_the_time_to_a_loss_counts_the_bubble():
    """Losses that fall to 0 with micro-batch 40: the means of 32 are at 0 from 71 on."""
    losses = [[1.0] * 40 + [0.0] * 40, [1.0] * 80]
    order = pipelab.build("pipedream", ranks=4, microbatches=80)
    found = time_to_loss(order, losses, (0.1, 0.2), loss=0.0)
    # without a bubble a micro-batch takes 100/8/4, and the last forward ends before its backward
    assert found[0.1] == pytest.approx((71 + 2) * 100 / 8 / 4, rel=0.02)
    assert found[0.2] == float("inf")


def test_a_training_whose_gradients_cannot_be_compared_says_why():
    """Its page was an error: there is no number of the gradients' error to format."""
    seen = trained("mlp", schedule="pipedream", ranks=2, microbatches=4, steps=(0, 2))
    assert "gradients: nothing to compare with" in seen._repr_html_()


def test_a_pipe_is_narrow_where_the_layer_is():
    svg = pipe([2, 64, 128, 16, 128, 3], 96).svg
    assert "layer 1: 8320 weights" in svg and "cut 2 | 3: 3072 numbers cross" in svg
    bands = [float(one.get("height")) for one in parsed(svg).iter()
             if one.get("fill") == figures.COLOURS["truth"]]  # fmt: skip
    assert bands == pytest.approx([55, 110, 13.75, 110], abs=0.1)


def test_verdicts_are_ticked_and_escaped():
    html = verdicts([("a < b", True), ("no\nway", False)]).svg
    assert html.index("✓") < html.index("a &lt; b") < html.index("✗") < html.index("no<br>way")
