"""What `pipelab.grade` shows in a notebook: the wrong action beside the expected one, where to read
again, the points so far, and no long wait for a loop.
"""

import re
import shutil
from pathlib import Path

import pytest

import pipelab
from pipelab import Schedule, check
from pipelab.grading import run
from pipelab.grading.notebook import as_html
from pipelab.grading.results import Grade, Result

REPO = Path(__file__).parents[2]
GPIPE = """
def one_f_one_b(ranks, microbatches):
    kinds = "FB"
    return [
        [f"{rank}{kind}{i}" for kind in kinds for i in range(microbatches)]
        for rank in range(ranks)
    ]
"""


@pytest.fixture
def exercise(tmp_path, monkeypatch):
    """The folder of exercise 06, in which a student's program is put.

    Settings of pytest in a folder above are not those of the grading.
    """
    strict = '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n'
    (tmp_path / "pyproject.toml").write_text(strict)
    folder = tmp_path / "exercises" / "06_one_f_one_b"
    shutil.copytree(REPO / "exercises" / "06_one_f_one_b", folder)
    monkeypatch.chdir(tmp_path)

    def put(program):
        (folder / "one_f_one_b.py").write_text(program)
        return folder.parent

    return put


def test_the_wrong_action_is_framed_beside_the_expected_one(exercise):
    grades = pipelab.grade("06", folder=exercise(GPIPE))
    html = grades._repr_html_()
    framed = re.findall(r"<div>([^<]*; framed: [^<]*)</div><svg", html)
    # GPIPE's forwards go on where the first of 4 ranks has its first backward.
    assert framed == [
        "your schedule; framed: 0F4 on rank 0, step 4",
        "expected; framed: 0B0 on rank 0, step 4",
    ], "and once, though several tests were failed for that"
    assert html.count('stroke="#d6006c"') == len(framed)
    links = re.findall(r'<a href="([^"]+)">notebook 03', html)
    assert links
    path, _, place = links[0].partition("#")
    assert Path(path).is_file() and place == "Warm-up,-steady-state,-cool-down"


def test_an_order_that_cannot_run_is_shown_too(exercise):
    backwards = GPIPE.replace('"FB"', '"BF"')
    html = pipelab.grade("06", folder=exercise(backwards))._repr_html_()
    assert "your schedule: it cannot run, so its actions stand in their order" in html
    assert "expected; framed: 0F0 on rank 0, step 0" in html


@pytest.mark.parametrize(
    ("rows", "framed"),
    [
        ([["0F1", "0B1"], ["1F1", "1B1"]], "0F1 on rank 0, step 0"),  # numbered from 1
        ([["0F7", "0B7"], ["1F7", "1B7"]], "0F7 on rank 0, step 0"),
        ([["0F0"], ["1F0", "1B0"]], ""),
        ([["0UNSHARD", "0F0", "0B0"], ["1F0", "1B0"]], "0UNSHARD on rank 0, step 0"),
    ],
)
def test_whatever_rows_come_can_be_shown(rows, framed):
    """Numbers beyond the last micro-batch had no colour, and the notebook showed a traceback."""
    expected = Schedule.from_rows([["0F0", "0B0"], ["1F0", "1B0"]]).to_csv()
    schedule = Schedule.from_rows(rows)
    result = Result("test", "order", 1.0, status="failed", message="no")
    result.schedule, result.expected = schedule.to_csv(), expected
    html = as_html([Grade("06_order", "The order", [result])], "")
    assert framed in html
    # Numbers of a schedule that cannot run would be made up.
    pictures = 1 if check(schedule) else 2
    assert html.count("bubble fraction") == pictures
    assert html.count("grey: memory") == pictures


def test_stored_points_may_be_anything(exercise):
    folder = exercise(GPIPE)
    for stored in ("[1]", "nonsense", '{"06_one_f_one_b": "8", "07": null}'):
        (folder / run.POINTS).write_text(stored)
        assert run.so_far([], folder).startswith("So far 0 of 8 points. Next: exercise 06")


def test_a_loop_is_waited_for_once(exercise, monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 3)
    loop = "def one_f_one_b(ranks, microbatches):\n    while True:\n        pass\n"
    grades = pipelab.grade("06", folder=exercise(loop))
    first, *others = grades[0].results
    assert "it did not end within 3 s" in first.message
    assert "Tests that call it again give it 0.6 s" in first.message
    assert {other.message for other in others} == {
        "one_f_one_b does not end here either: in this test it had 0.6 s"
    }
    assert str(grades).count("does not end here either") == 1
    assert all(other.seconds < 3 for other in others)


def test_the_points_so_far_and_what_is_next(exercise):
    folder = exercise(GPIPE)
    text = str(pipelab.grade("06", folder=folder))
    score = re.search(r"So far (\d+\.?\d*) of 8 points\. Next: (.*)", text)
    assert 0 < float(score[1]) < 8 and "warm-up" in score[2]
    shutil.copytree(REPO / "exercises" / "04_gpipe_order", folder / "04_gpipe_order")
    order = GPIPE.replace("one_f_one_b", "gpipe_order")
    (folder / "04_gpipe_order" / "gpipe_order.py").write_text(order)
    text = str(pipelab.grade("04", folder=folder))
    assert f"So far {float(score[1]) + 6:g} of 14 points. Next: exercise 06, " in text
    assert "it is about notebook 03 (1F1B and the memory wall), section “Warm-up" in text
