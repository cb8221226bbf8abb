"""Whatever a student's file does, each test gets its due result with the cause named, and the tests
after it still count.
"""

import base64
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

import pipelab
from pipelab.cli import main
from pipelab.errors import UsageError
from pipelab.grading import exercises, supervisor, wire
from pipelab.grading.nursery import Nursery
from pipelab.grading.room import Limits
from pipelab.grading.supervisor import supervise

TESTS = """
import pytest
from pipelab.grading.checks import plain

@pytest.mark.points(1, "before")
def test_before(student):
    assert plain(student.before(), int, "before()") == 1

@pytest.mark.points(2, "the hazard")
def test_hazard(student):
    assert plain(student.hazard(), int, "hazard()") == 2, "hazard() should be 2"

@pytest.mark.points(3, "after it")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_after(student, credit, n):
    credit(0.5, "half of it is right")
    assert student.after(n) == n, f"after({n}) should be {n}"
"""
STUDENT = """
import os, sys, time, signal, subprocess, threading

def before():
    return 1

def hazard():
{hazard}

def after(n):
    return n
"""


@pytest.fixture
def make(tmp_path):
    """An exercise whose student's function ``hazard`` has this body (or whose whole file this
    is).
    """

    def make(hazard="return 2", file=None):
        folder = tmp_path / "exercises" / "01_hazard"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "exercises" / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib\n"
        )
        (folder / "README.md").write_text("# A hazard\n")
        (folder / "test_hazard.py").write_text(TESTS)
        body = STUDENT.format(hazard=textwrap.indent(textwrap.dedent(hazard), "    "))
        (folder / "hazard.py").write_text(body if file is None else file)
        return exercises(tmp_path / "exercises")[0]

    return make


def outcome(exercise, **limits):
    limits = Limits(**({"seconds": 10} | limits))
    supervise(exercise, limits=limits)  # the judge and its nursery stay
    before = set(psutil.Process().children(recursive=True))
    grade = supervise(exercise, limits=limits)
    assert set(psutil.Process().children(recursive=True)) <= before, "something is left"
    return grade, {
        result.test: (result.score, result.status, result.message) for result in grade.results
    }


def test_a_right_file_gets_all_points(make):
    grade, results = outcome(make())
    assert (grade.score, grade.points, grade.status, grade.title) == (6, 6, "passed", "A hazard")
    assert results["test_after"] == (3, "passed", "")


HAZARDS = {
    "an endless loop": (
        "while True: pass",
        "timed out",
        "it did not end within 2 s: an endless loop",
    ),
    "a wait for ever": (
        "threading.Event().wait()",
        "timed out",
        "a wait for something that never comes",
    ),
    "a segmentation fault": (
        "import ctypes; ctypes.string_at(0)",
        "ended the process",
        "your code crashed Python itself: SIGSEGV",
    ),
    "os._exit(0)": (
        "os._exit(0)",
        "ended the process",
        "your code ended Python by itself, with exit code 0",
    ),
    "SystemExit": ("sys.exit(0)", "failed", "your code ended Python: SystemExit(0)"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
    "killing itself": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        "ended the process",
        "the process was killed",
    ),
    "a memory bomb": ("x = [bytearray(1 << 28) for _ in range(1000)]", "failed", "MemoryError"),
    "a huge file": (
        "open('/dev/null'); f = open(os.path.join(os.environ['TMPDIR'], 'big'), 'wb')\nfor _ in "
        "range(100): f.write(bytes(1 << 20)); f.flush()",
        "failed",
        "File too large",
    ),
    "an object equal to everything": (
        "class Any(int):\n    __eq__ = lambda self, other: True\nreturn Any(7)",
        "failed",
        "hazard() is a Any, but it should be a int",
    ),
    "a pytest patched where it does not matter": (
        "import pytest; pytest.fail = pytest.raises = None; return 3",
        "failed",
        "hazard() should be 2",
    ),
    "a wrong answer": ("return 3", "failed", "hazard() should be 2"),
    "an error": (
        "return 1 / 0",
        "failed",
        "ZeroDivisionError: division by zero (line 8 of hazard.py)",
    ),
    "not started": (
        "raise NotImplementedError('exercise 01: hazard')",
        "not started",
        "not started",
    ),
    "a NotImplementedError of its own": (
        "raise NotImplementedError",
        "failed",
        "NotImplementedError",
    ),
    "a skip": ("import pytest; pytest.skip('no')", "failed", "Skipped: no"),
    "an xfail": ("import pytest; pytest.xfail('no')", "failed", "XFailed: no"),
    "an answer without end": (
        "x = []\nfor _ in range(100): x = [x]\nreturn x",
        "failed",
        "more than 1,000,000 things, or lists in lists",
    ),
    "an error without a text": (
        "class E(Exception):\n    __str__ = None\nraise E",
        "failed",
        "E: (its text cannot be made: TypeError)",
    ),
    "noise in the line to the tests": (
        "for fd in range(3, 40):\n    try: os.write(fd, b'x' * 100)\n    except OSError: pass",
        "ended the process",
        "",
    ),
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_hazards(make, hazard):
    body, status, message = HAZARDS[hazard]
    seconds = 2 if status == "timed out" else 20
    grade, results = outcome(make(body), seconds=seconds, memory=1 << 30, file=16 << 20)
    score, found, text = results["test_hazard"]
    assert (score, found) == (0, status), text
    assert message in text
    assert results["test_before"][0] == 1
    assert results["test_after"] == (3, "passed", "")


def test_a_file_beside_the_others_may_be_called_as_one_of_pythons(make, monkeypatch):
    """Started in its folder, the grading itself imported a student's json.py."""
    exercise = make()
    (exercise.file.parent / "json.py").write_text("raise SystemExit('not yours to import')\n")
    monkeypatch.chdir(exercise.file.parent)
    kept, supervisor._JUDGES[:] = supervisor._JUDGES[:], []
    grade = supervise(exercise)
    supervisor._JUDGES[0].close()
    supervisor._JUDGES[:] = kept
    assert grade.score == 6, grade


def test_megabytes_of_output_are_no_matter(make):
    grade, _ = outcome(make("for _ in range(200): print('x' * 100_000)\nreturn 2"), seconds=20)
    assert grade.score == 6 and len(grade.output) <= 20_000


def test_children_that_it_leaves_are_ended(make):
    body = """
        sleep = "import time; time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        return 2
    """
    grade, _ = outcome(make(body))  # ``outcome`` looks that nothing is left
    assert grade.score == 6


def test_a_forked_child_does_not_speak_for_the_tests_after_it(make):
    _, results = outcome(make("return 2 if os.fork() else 5"))
    assert results["test_before"][0] == 1 and results["test_after"][0] in (0, 1, 1.5, 2, 3)


def test_the_judge_cannot_be_seen_from_a_students_file(make, monkeypatch):
    """No test module, no frames above it, nothing of the teacher's environment, no pipe."""
    monkeypatch.setenv("TOKEN_OF_THE_TEACHER", "s3cret")
    body = """
        import gc
        known = [*sys.modules, *os.environ, *os.environ.values()]
        known += [str(type(each)) for each in gc.get_objects()]
        for word in ("test_hazard", "TOKEN", "s3cret", "PIPELAB_REPORT", "Reporter"):
            assert not any(word in each for each in known), word
        return 2
    """
    _, results = outcome(make(body))
    assert results["test_hazard"][:2] == (2, "passed"), results


def test_nothing_outside_can_be_read_written_or_signalled(make, tmp_path):
    """A student's file read a neighbour's, rewrote the tests, and killed the grading."""
    if not supervise(make("return 2")).confined:
        pytest.skip("no unprivileged namespaces here")
    (tmp_path / "neighbour.py").write_text("answer = 2\n")
    body = f"""
        found = []
        for attempt in (
            lambda: open({str(tmp_path / "neighbour.py")!r}),
            lambda: open(__file__, "w"),
            lambda: open(sys.prefix + "/x", "w"),
            lambda: os.kill(os.getppid() or 99999, 9),
            lambda: __import__("socket").create_connection(("127.0.0.1", 22), 1),
        ):
            try: attempt()
            except (OSError, SystemError): found.append(True)
            else: found.append(False)
        open("scratch", "w").write("here one may write")
        assert found == [True, True, True, False, True] or found == [True] * 5, found
        return 2
    """
    _, results = outcome(make(body))
    assert results["test_hazard"][:2] == (2, "passed"), results


@pytest.fixture
def without_namespaces(monkeypatch):
    """Grading as where the system has none."""
    monkeypatch.setenv("PIPELAB_NAMESPACES", "no")
    kept, supervisor._JUDGES[:] = supervisor._JUDGES[:], []
    yield
    supervisor._JUDGES[0].close()
    supervisor._JUDGES[:] = kept


@pytest.mark.parametrize("namespaces", ["yes", "no"])
def test_a_room_ends_with_its_nursery_however_that_ends(tmp_path, monkeypatch, namespaces):
    """A grading that was killed left the student's endless loop running."""
    monkeypatch.setenv("PIPELAB_NAMESPACES", namespaces)
    (tmp_path / "student").mkdir()
    (tmp_path / "home").mkdir()
    nursery = Nursery()
    with nursery.open(Limits(), str(tmp_path / "home"), str(tmp_path / "student")) as line:
        assert wire.receive(line) in (b'{"value": true}', b'{"value": false}')
        ends_with_it(nursery)


def ends_with_it(nursery):
    rooms = psutil.Process(nursery._process.pid).children(recursive=True)
    assert rooms
    nursery._process.kill()
    assert not psutil.wait_procs(rooms, timeout=10)[1]
    nursery.close()


def test_the_tests_own_time_is_not_the_students(make):
    """On a slow machine, training with a student's schedule used up the student's seconds."""
    exercise = make()
    slow = "    import time; time.sleep(3)\n    assert student.after(n) == n"
    test = exercise.tests.read_text().replace("    assert student.after(n) == n", slow)
    exercise.tests.write_text(test)
    grade, _ = outcome(exercise, seconds=2)
    assert grade.score == 6


def test_without_namespaces_it_grades_and_says_so(make, without_namespaces):
    grade, results = outcome(make("return 2"))
    assert grade.score == 6 and not grade.confined


def test_without_namespaces_changed_tests_are_put_back_and_nothing_counts(make, without_namespaces):
    exercise = make()
    tests = exercise.tests.read_bytes()
    body = f"open({str(exercise.tests)!r}, 'w').write('def test_all(): pass')\nreturn 2"
    grade, results = outcome(make(body))
    assert (grade.score, grade.status) == (0, "tampered")
    assert exercise.tests.read_bytes() == tests


def test_without_namespaces_children_are_ended(make, without_namespaces):
    sleep = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    grade, _ = outcome(make(f"subprocess.Popen({sleep}, start_new_session=True)\nreturn 2"))
    assert grade.score == 6


def test_partial_credit(make):
    file = STUDENT.format(hazard="    return 2").replace("return n", "return n if n < 3 else 0")
    grade, results = outcome(make(file=file))
    score, status, message = results["test_after"]
    assert (score, status) == (2.5, "partial")  # two cases right, half of the third
    assert message == "half of it is right\nafter(3) should be 3"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("def before(:\n", "hazard.py cannot be imported, line 1: SyntaxError"),
        (
            "import nowhere\n",
            "hazard.py cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            "raise SystemExit(0)\n",
            "hazard.py cannot be imported: your code ended Python: SystemExit(0)",
        ),
        ("import os; os._exit(0)\n", "your code ended Python by itself, with exit code 0"),
    ],
)
def test_files_that_cannot_be_imported(make, file, message):
    grade, results = outcome(make(file=file))
    assert grade.score == 0 and len(results) == 3
    assert all(message in text for _, _, text in results.values())


def test_a_missing_file(make):
    exercise = make()
    exercise.file.unlink()
    grade, results = outcome(exercise)
    assert grade.score == 0
    assert (
        "hazard.py is missing; there is README.md, test_hazard.py: hand it in under that name"
        in results["test_before"][2]
    )


def test_every_format(make, tmp_path, capsys):
    exercise = make("return 3")
    files = {
        flag: tmp_path / flag.strip("-")
        for flag in ("--junit", "--gradescope", "--markdown", "--classroom")
    }
    flags = [part for flag, path in files.items() for part in (flag, str(path))]
    assert (
        main(["grade", "1", "--exercises", str(exercise.tests.parents[1]), "--json", *flags]) == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert (data["score"], data["points"], data["exercises"][0]["exercise"]) == (4, 6, "01_hazard")
    suite = ElementTree.parse(files["--junit"]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    scope = json.loads(files["--gradescope"].read_text())
    assert scope["score"] == 4 and [test["max_score"] for test in scope["tests"]] == [1, 2, 3]
    assert (
        scope["tests"][1]["output"] == "hazard() should be 2"
        and scope["stdout_visibility"] == "hidden"
    )
    assert "- ✗ **0/2** the hazard" in files["--markdown"].read_text()
    room = json.loads(base64.b64decode(files["--classroom"].read_text()))
    assert (room["version"], room["status"], room["max_score"]) == (1, "fail", 6)
    assert main(["grade", "1", "--exercises", str(exercise.tests.parents[1])]) == 0
    text = capsys.readouterr().out
    assert (
        "01_hazard  4 of 6  A hazard\n" in text
        and "  ✗ 0/2  the hazard\n        hazard() should be 2\n" in text
    )


def test_a_grading_that_was_given_up_leaves_nothing_to_the_next(make, monkeypatch):
    """The next exercise was graded by what the judge still told of the one before."""
    exercise, told = make(), []

    def interrupted(grading, event):
        told.append(event)
        if "start" in event:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(supervisor._Grading, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            supervise(exercise)
    assert told and "done" not in told[-1]
    assert not supervisor._JUDGES[0].lives
    again = supervise(exercise)
    assert (again.score, again.status, len(again.results)) == (6, "passed", 3)


def test_grade_in_a_notebook(make):
    exercise = make("return 3")
    grades = pipelab.grade("01", folder=exercise.tests.parents[1])
    assert (grades[0].score, grades[0].results[1].message) == (4, "hazard() should be 2")
    html = grades._repr_html_()
    assert "✗ 0/2</b>  the hazard" in html and "<svg" not in html
    assert "4 of 6 points" in str(grades)
    assert str(grades).endswith("So far 4 of 6 points. Next: A hazard, “the hazard”.")
    with pytest.raises(UsageError, match="There is no exercise '07'. Valid names: 01"):
        pipelab.grade("07", folder=exercise.tests.parents[1])


def test_a_schedule_that_fails_is_shown(make):
    exercise = make()
    test = exercise.tests.read_text().replace("import plain", "import legal, plain")
    test = test.replace(
        "    assert plain(student.hazard()",
        "    legal([['0F0', '0B0']], 1)\n    assert 1 + plain(student.hazard()",
    )
    exercise.tests.write_text(test)
    grades = pipelab.grade("01", folder=exercise.tests.parents[1])
    assert grades[0].results[1].schedule == "0F0,0B0\n" and grades[0].results[0].schedule == ""
    assert "<div>your schedule</div><svg" in grades._repr_html_()


def test_what_cannot_be_graded(tmp_path, capsys):
    with pytest.raises(UsageError, match="There are no exercises in"):
        exercises(tmp_path)
    assert main(["grade", "--exercises", str(tmp_path), "--submissions", str(tmp_path)]) == 2
    assert "--submissions and --out need each other" in capsys.readouterr().err


def test_plain_pytest_runs_the_exercises_too(make):
    exercise = make("return 3")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(exercise.tests.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and "1 failed, 4 passed" in done.stdout


def test_bare_pytest_in_the_repository_does_not_run_the_stubs():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/grading"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert "exercises/" not in done.stdout


def test_handout(tmp_path, capsys):
    folder = tmp_path / "students"
    assert main(["handout", str(folder)]) == 0
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "exercises/01_makespan/makespan.py",
        "exercises/pytest.ini",
        "notebooks/00-start-here.ipynb",
    } <= names
    assert not any("solution" in name or "mistake" in name for name in names)
    assert main(["handout", str(folder)]) == 2
    assert "a handout goes into a new or an empty folder" in capsys.readouterr().err
