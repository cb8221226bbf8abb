"""A class is graded whole: what goes wrong with one student costs nobody else's grade."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import psutil
import pytest

from pipelab.cli import main
from pipelab.errors import UsageError
from pipelab.grading import exercises
from pipelab.grading.alike import normalised, pairs
from pipelab.grading.book import add_by_hand, for_canvas, for_moodle, grade_book
from pipelab.grading.pages import class_page, feedback, misconception
from pipelab.grading.records import Record
from pipelab.grading.report import as_gradescope, as_junit
from pipelab.grading.results import STATUSES, Grade, Result, seed_of, ungraded
from pipelab.grading.submissions import Student
from pipelab.grading.tables import cells, read_cells, write_whole

TESTS = """
import pytest

@pytest.mark.points(2, "the answer")
def test_answer(student, student_seed):
    assert student.answer() == 42, "answer() should be 42"

@pytest.mark.points(1, "twice")
def test_twice(student):
    assert student.twice(3) == 6, "twice(3) should be 6"
"""
HIDDEN = """
import pytest

@pytest.mark.points(4, "twice of much")
def test_much(student):
    assert student.twice(10**20) == 2 * 10**20
"""
STUB = """
def answer():
    raise NotImplementedError("exercise 01: answer")

def twice(n):
    raise NotImplementedError("exercise 01: twice")
"""
RIGHT = "def answer():\n    return 42\n\ndef twice(n):\n    return n + n\n"


def make_exercise(root, number="01", stem="answer"):
    folder = root / "exercises" / f"{number}_{stem}"
    folder.mkdir(parents=True)
    (root / "exercises" / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (folder / "README.md").write_text("# The answer\n")
    (folder / f"{stem}.py").write_text(STUB)
    (folder / f"test_{stem}.py").write_text(TESTS)
    return folder


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder with an exercise and a class, in which commands are run -> hand in."""
    make_exercise(tmp_path)
    monkeypatch.chdir(tmp_path)

    def hand_in(student, source, name="answer.py"):
        (tmp_path / "class" / student).mkdir(parents=True, exist_ok=True)
        (tmp_path / "class" / student / name).write_text(source)

    return hand_in


def grade(*flags):
    return main(["grade", "--submissions", "class", "--out", "out", *flags])


def book(tmp_path):
    text = (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8-sig")
    return {row["student"]: row for row in csv.DictReader(text.splitlines())}


def test_relative_paths_a_roster_and_names_that_are_formulas(room, tmp_path, capsys):
    """`pipelab grade --submissions class/ --out results/` gave every student 0 with status ok."""
    room("=1+1", RIGHT)
    room("bob", RIGHT.replace("n + n", "n * n"))
    (tmp_path / "roster.csv").write_text("id,name,e-mail\nbob,Bob,b@uni.edu\ncem,Cem,c@uni.edu\n")
    assert grade("--exercises", "exercises", "--roster", "roster.csv") == 0
    rows = book(tmp_path)
    assert list(rows) == ["'=1+1", "bob", "cem"]
    assert [(row["01_answer"], row["of"]) for row in rows.values()] == [
        ("3", "3"), ("2", "3"), ("0", "3"),
    ]  # fmt: skip
    assert rows["'=1+1"]["status"] == "not on the roster"
    assert rows["bob"]["status"] == "01_answer: partial"
    assert rows["cem"]["status"] == "01_answer: missing" and rows["cem"]["name"] == "Cem"
    assert {path.name for path in (tmp_path / "out" / "bob").iterdir()} == {
        "grade.json", "feedback.md", "feedback.html", "junit.xml", "results.json",
    }  # fmt: skip
    told = (tmp_path / "out" / "bob" / "feedback.md").read_text()
    assert "twice(3) should be 6" in told and f"seed {seed_of('bob')}" in told
    assert "`pipelab grade 01 --student bob`" in told
    assert "min left)" in capsys.readouterr().err or len(rows) < 4


def test_what_differs_is_graded_again_and_the_rest_is_not(room, tmp_path, capsys):
    def graded():
        assert grade("--jobs", "1") == 0
        told = capsys.readouterr().err.splitlines()
        return {line.split()[1].rstrip(":") for line in told if "before" not in line}

    room("ada", RIGHT)
    room("bob", RIGHT)
    assert graded() == {"ada", "bob"}
    assert graded() == set()
    room("bob", RIGHT.replace("42", "41"))
    assert graded() == {"bob"}
    assert book(tmp_path)["bob"]["total"] == "1"
    assert grade("--again", "ada") == 0
    assert "ada: 3 of 3" in capsys.readouterr().err
    tests = tmp_path / "exercises" / "01_answer" / "test_answer.py"
    tests.write_text(TESTS.replace("points(1", "points(5"))
    assert graded() == {"ada", "bob"}
    assert grade("--again", "nobody") == 2
    assert "There is no student 'nobody'. Valid names: ada, bob" in capsys.readouterr().err


def test_other_exercises_add_columns(room, tmp_path):
    make_exercise(tmp_path, "02", "other")
    room("ada", RIGHT)
    room("ada", RIGHT, "other.py")
    for number in ("01", "02"):
        assert main(["grade", number, "--submissions", "class", "--out", "out"]) == 0
    row = book(tmp_path)["ada"]
    assert (row["01_answer"], row["02_other"], row["total"], row["of"]) == ("3", "3", "6", "6")


def test_a_grading_that_did_not_take_place_is_no_grade(room, tmp_path, capsys):
    tests = tmp_path / "exercises" / "01_answer" / "test_answer.py"
    tests.write_text("import nowhere\n" + TESTS)
    room("ada", RIGHT)
    assert grade() == 1
    assert "NOT GRADED, so run this again: ada 01_answer" in capsys.readouterr().out
    row = book(tmp_path)["ada"]
    assert (row["total"], row["of"], row["status"]) == ("0", "3", "01_answer: error")
    assert main(["grade", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["score"], data["points"], data["exercises"][0]["status"]) == (0, 3, "error")
    tests.write_text(TESTS)
    assert grade() == 0, "and it is tried again"
    assert book(tmp_path)["ada"]["status"] == "ok"


def test_hidden_tests(room, tmp_path, capsys):
    (tmp_path / "more" / "01_answer").mkdir(parents=True)
    (tmp_path / "more" / "01_answer" / "test_answer.py").write_text(HIDDEN)
    room("ada", RIGHT)
    assert grade("--hidden", "more") == 0
    data = json.loads((tmp_path / "out" / "ada" / "grade.json").read_text())
    assert (data["score"], data["points"]) == (7, 7)
    assert data["exercises"][0]["tests"][2]["test"] == "hidden: test_much"
    scope = json.loads((tmp_path / "out" / "ada" / "results.json").read_text())
    assert scope["tests"][2]["visibility"] == "after_published"
    assert grade("--hidden", "class") == 2
    assert "files such as 01_answer/test_answer.py there" in capsys.readouterr().err


def test_points_and_comments_by_hand_survive(room, tmp_path):
    room("ada", RIGHT.replace("42", "41"))
    assert grade() == 0
    assert (tmp_path / "out" / "by_hand.csv").read_text(encoding="utf-8-sig").count("\n") == 1
    by_hand = "student;exercise;points;comment\nada;1;2,5;a good idea\n"
    (tmp_path / "out" / "by_hand.csv").write_text(by_hand)
    assert grade("--again", "ada") == 0
    assert book(tmp_path)["ada"]["total"] == "2.5"
    feedback = (tmp_path / "out" / "ada" / "feedback.md").read_text()
    assert "# 2.5 of 3 points" in feedback and "> a good idea" in feedback
    assert (tmp_path / "out" / "by_hand.csv").read_text() == by_hand


def test_nothing_is_left_and_nothing_changed(room, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    room("ada", RIGHT)
    before = set(psutil.Process().children(recursive=True))
    assert subprocess.run(
        [sys.executable, "-m", "pipelab", "grade", "--submissions", "class", "--out", "out"],
        check=False,
    ).returncode == 0  # fmt: skip
    assert set(psutil.Process().children(recursive=True)) <= before
    assert list(place.iterdir()) == []
    assert [p.name for p in (tmp_path / "class" / "ada").iterdir()] == ["answer.py"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_and_goes_on(room, tmp_path, number):
    room("ada", RIGHT)
    room("bob", "while True: pass\n")
    mark = f"PIPELAB_TEST_MARK={os.urandom(8).hex()}"
    command = [sys.executable, "-m", "pipelab", "grade", "--submissions", "class", "--out", "out"]
    environment = os.environ | dict([mark.split("=")])
    process = subprocess.Popen([*command, "--jobs", "2"], env=environment, stderr=subprocess.PIPE)
    done = tmp_path / "out" / "ada" / "grade.json"
    until = time.monotonic() + 60
    while not done.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said.decode()
    assert not (tmp_path / "out" / "bob" / "grade.json").exists()
    left = [p.pid for p in psutil.process_iter() if mark in environment_of(p)]
    assert left == []
    stamp = done.stat().st_mtime_ns
    assert grade("--seconds", "2") == 0
    assert done.stat().st_mtime_ns == stamp
    assert book(tmp_path)["bob"]["status"] == "01_answer: timed out"


def environment_of(process):
    try:
        return [f"{name}={value}" for name, value in process.environ().items()]
    except psutil.Error:
        return []


def test_a_judge_that_dies_costs_one_grading(room, tmp_path, monkeypatch):
    """Whatever ends the process that grades, the next student's turn comes."""
    from pipelab.grading.supervisor import Judge

    room("ada", RIGHT)
    room("bob", RIGHT)
    run, asked = Judge.run, []

    def run_and_kill(judge, request, silence):
        asked.append(request)
        if len(asked) == 1:
            judge._process.kill()
        return run(judge, request, silence)

    monkeypatch.setattr(Judge, "run", run_and_kill)
    assert grade("--jobs", "1") == 1
    rows = book(tmp_path)
    assert [row["status"] for row in rows.values()] == ["01_answer: error", "ok"]


def test_codes_in_place_of_names(room, tmp_path):
    room("Ada Lovelace", RIGHT)
    assert grade("--anonymous") == 0
    (code,) = book(tmp_path)
    shown = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "anonymous.csv"]
    assert code.startswith("student-") and len(shown) > 5
    assert not any("Lovelace" in str(path) + path.read_text() for path in shown)


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--roster", "x.csv"], "--roster is for a class: give its folder with --submissions"),
        (["--submissions", "class", "--out", "out", "--jobs", "0"], "--jobs is how many students"),
    ],
)
def test_refusals(room, capsys, flags, told):
    assert main(["grade", *flags]) == 2
    assert told in capsys.readouterr().err


# What is written, without grading anything.


def record(name="ada", *results, **about):
    grade = Grade("01_answer", "The answer", list(results), **about)
    one = Record(Student(name, name, platform="1001"))
    one.take(grade, {})
    return one


def test_counts_of_junit():
    results = [Result(f"test_{s}", s, 1, status=s, message="\x1b[31m\ud800") for s in STATUSES]
    suite = ElementTree.fromstring(as_junit([Grade("01", "x", results)]))[0]
    found = {tag: len(list(suite.iter(tag))) for tag in ("failure", "error", "skipped")}
    errors = len(STATUSES) - 4  # all but passed, failed, partial and not started
    assert found == {"failure": 2, "error": errors, "skipped": 1}
    counts = {name: int(suite.get(name)) for name in ("failures", "errors", "skipped", "tests")}
    assert counts == {"failures": 2, "errors": errors, "skipped": 1, "tests": len(STATUSES)}


def test_gradescope_takes_points_by_hand():
    (grade,) = record("ada", Result("test", "t", 2), by_hand=1.5).grades.values()
    assert as_gradescope([grade])["score"] == 1.5


def test_tables_for_canvas_and_moodle():
    records = [record("@ada", Result("test", "t", 2, 1.5, "partial"))]
    _, points, row = csv.reader(for_canvas(records).removeprefix("\ufeff").splitlines())
    assert points[-1] == "2" and row == ["'@ada", "1001", "'@ada", "", "", "1.5"]
    _, row = csv.reader(for_moodle(records).removeprefix("\ufeff").splitlines())
    assert row == ["Participant 1001", "'@ada", "", "1.5", "2", "01_answer: partial"]


def test_cells_run_nothing_and_come_back(tmp_path):
    texts = ["=1+1", "@SUM(A1)", "+49", "-x", "\tx", "größer", "plain", "-1.5"]
    write_whole(tmp_path / "a.csv", cells([texts]))
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    raw = next(csv.reader((tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert raw == ["'=1+1", "'@SUM(A1)", "'+49", "'-x", "'\tx", "größer", "plain", "-1.5"]
    assert read_cells(tmp_path / "a.csv") == [texts]


def test_points_by_hand_that_are_none(tmp_path):
    records, told = [record("ada", Result("test", "t", 2))], []
    write_whole(tmp_path / "by_hand.csv", cells([["student"], ["bob", "01", "1"]]))
    add_by_hand(records, tmp_path, told.append)
    assert "line 2: there is no bob 01" in told[0]
    write_whole(tmp_path / "by_hand.csv", cells([["student"], ["ada", "01", "many"]]))
    with pytest.raises(UsageError, match="line 2: 'many' is no number. Its third column"):
        add_by_hand(records, tmp_path, told.append)


def test_feedback_is_safe_to_look_at():
    evil = "<script>alert(1)</script>\x1b[2J"
    text, page = feedback(record("ada", Result("test", "t", 2, status="failed", message=evil)))
    assert "<script>" not in page and "\x1b" not in page + text


def test_the_page_of_the_class_names_the_misconception():
    hint = "The last start is not the last end."
    wrong = [Result("a", "the end", 1, 0, "failed", f"it is {n}. {hint}") for n in range(3)]
    records = [record(f"s{n}", Result("b", "the start", 1, 1, "passed"), one)
               for n, one in enumerate(wrong)]  # fmt: skip
    page = class_page(records, pairs([], {}))
    assert f"<td>3</td><td>the end</td><td>{hint}</td><td>3</td>" in page
    assert "the start</td>" not in page
    assert misconception(["should be 3", "should be 3", "x"]) == ("should be 3", "2")


def test_the_same_program_but_for_names():
    lines = [f"    x{n} = x + {n} * y" for n in range(6)]
    ada = "\n".join(["def f(x, y):", '    """Mine."""', *lines, "    return x5\n"])
    bob = ada.replace("x", "z").replace("Mine", "My own") + "# done\n"
    cem = ada.replace("+ 3", "- 3")
    sources = [("01", "ada", ada), ("01", "bob", bob), ("01", "cem", cem)]
    (pair,) = pairs(sources, {"01": STUB})
    assert (pair.one, pair.other) == ("ada", "bob") and pair.size == normalised(ada)[1]
    assert pairs(sources, {"01": ada}) == [], "what is handed out is nobody's"


def test_points_are_known_where_nothing_ran(tmp_path):
    make_exercise(tmp_path)
    grade = ungraded(exercises(tmp_path / "exercises")[0], "missing", "it is missing")
    assert (grade.score, grade.points, grade.status) == (0, 3, "missing")
    row = grade_book([Record(Student("ada", "ada"), {"01_answer": grade})]).splitlines()[1]
    assert row == "ada,0,0,3,01_answer: missing"
