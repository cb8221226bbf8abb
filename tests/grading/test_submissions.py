"""Whatever a platform or a student makes of a file, it is found, copied alone, and read right."""

import io
import json
import os
import zipfile

import pytest

from pipelab.errors import UsageError
from pipelab.grading import archive, exercises
from pipelab.grading import collect as collect_module
from pipelab.grading.archive import _Budget as Budget
from pipelab.grading.archive import entries
from pipelab.grading.collect import as_utf8, collect
from pipelab.grading.submissions import anonymous, read_roster, students

STUB = 'def answer():\n    raise NotImplementedError("exercise 01: answer")\n'
RIGHT = "def answer():\n    return 42  # größer\n"
TESTS = """
import pytest

@pytest.mark.points(2, "the answer")
def test_answer(student):
    assert student.answer() == 42
"""


@pytest.fixture
def exercise(tmp_path):
    folder = tmp_path / "exercises" / "01_answer"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# The answer\n")
    (folder / "answer.py").write_text(STUB)
    (folder / "test_answer.py").write_text(TESTS)
    return exercises(tmp_path / "exercises")[0]


@pytest.fixture
def hand_in(tmp_path, exercise):
    """Puts files (name -> content) into a student's folder, and collects -> (copy, its files)."""

    def hand_in(files, make=None):
        folder = tmp_path / "class" / "ada"
        folder.mkdir(parents=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if make is not None:
            make(folder)
        copy = tmp_path / "copy"
        result = collect(exercise, entries(folder), copy)
        found = {str(p.relative_to(copy)): p.read_bytes() for p in copy.rglob("*") if p.is_file()}
        return result, found

    return hand_in


def zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return data.getvalue()


def notebook(*cells):
    made = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": [source]}
        for tags, source in cells
    ]
    return json.dumps({"cells": made})


SHAPES = {
    "as it is": {"answer.py": RIGHT},
    "another case of letters": {"Answer.PY": RIGHT},
    "a browser's copy": {"answer (1).py": RIGHT},
    "Canvas's second attempt": {"answer-1.py": RIGHT},
    "with .txt behind": {"answer.py.txt": RIGHT},
    "one folder around": {"homework/answer.py": RIGHT},
    "the handout's layout": {"course/exercises/01_answer/answer.py": RIGHT},
    "the handout's layout and the file on top": {
        "exercises/01_answer/answer.py": STUB,
        "answer.py": RIGHT,
    },
    "a zip": {"work.zip": zipped(**{"a__exercises__01_answer__answer.py": RIGHT})},
    "CRLF": {"answer.py": RIGHT.replace("\n", "\r\n")},
    "a BOM": {"answer.py": "\ufeff" + RIGHT},
    "UTF-16": {"answer.py": RIGHT.encode("utf-16")},
    "UTF-16 without a BOM": {"answer.py": RIGHT.encode("utf-16-le")},
    "latin-1 in a comment": {"answer.py": RIGHT.encode("latin-1")},
    "a notebook": {"work.ipynb": notebook(([], "1 / 0"), (["answer"], RIGHT.rstrip()))},
    "a table of the same name": {"answer.py": RIGHT, "answer.csv": "1,2\n"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(hand_in, shape):
    result, found = hand_in(SHAPES[shape])
    assert result.problem is None
    assert found == {"answer.py": RIGHT.encode()}


def test_helpers_come_along_and_nothing_else(hand_in):
    around = {"answer.py": RIGHT, "lib/tools.py": "x = 1\n", "data.csv": "1\n"}
    left = {"test_answer.py": "", "conftest.py": "", ".git/config.py": "", "__MACOSX/._a.py": ""}
    _, found = hand_in(around | left | {"photo.jpg": b"\xff"})
    assert set(found) == {"answer.py", "lib/tools.py", "data.csv"}


def test_a_file_beside_the_exercise_of_another_is_no_helper(hand_in):
    _, found = hand_in({"01_answer/answer.py": RIGHT, "02_other/other.py": ""})
    assert set(found) == {"answer.py"}


def test_several_files_that_differ_are_named(hand_in):
    result, _ = hand_in({"answer.py": RIGHT, "old/answer.py": "x = 1\n", "new/answer.py": STUB})
    assert result.note == "several files may be answer.py: answer.py was graded, not old/answer.py"


def link_to(target):
    return lambda folder: (folder / "answer.py").symlink_to(target)


PROBLEMS = {
    "nothing": (None, "answer.py is missing: nothing was handed in"),
    "a link": (link_to("../bob/answer.py"), "answer.py is a symbolic link, which is not followed"),
    "a device": (link_to("/dev/zero"), "answer.py is a symbolic link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "answer.py"), "answer.py is a named pipe"),
    "a folder": (lambda folder: (folder / "answer.py").mkdir(), "a folder in place of a file"),
    "another file": (
        lambda folder: (folder / "anwser.py").touch(),
        "answer.py is missing; there is anwser.py: hand it in under that name",
    ),
    "a notebook without tags": (
        lambda folder: (folder / "w.ipynb").write_text(notebook(([], RIGHT))),
        "or tag the cells of a notebook with answer",
    ),
    "a broken zip": (lambda folder: (folder / "w.zip").write_bytes(b"PK"), "no zip that can be"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problems_are_named(hand_in, problem):
    make, text = PROBLEMS[problem]
    result, found = hand_in({}, make)
    status, message = result.problem
    assert status == "missing" and text in message
    assert found == {}


def test_a_link_in_a_folder_is_not_followed(hand_in, tmp_path):
    """A link to the class's folder would show a student all others."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "answer.py").write_text(RIGHT)
    result, _ = hand_in({}, lambda folder: (folder / "a").symlink_to(tmp_path / "secret"))
    assert "there is a (a symbolic link, which is not followed)" in result.problem[1]


@pytest.mark.parametrize(
    "name", ["../answer.py", "/answer.py", "a\\..\\..\\answer.py", "C:answer.py"]
)
def test_names_that_lead_out_of_a_zip(hand_in, tmp_path, name):
    result, _ = hand_in({"work.zip": zipped(**{name: RIGHT})})
    assert "a name that leads out of the zip" in result.problem[1]
    assert not list(tmp_path.rglob("answer.py"))[1:], "only the stub is there"


def test_zip_bombs(hand_in):
    result, _ = hand_in({"work.zip": zipped(**{"answer.py": bytes(9 << 20)})})
    assert "answer.py is larger than 8 MiB when unpacked" in result.problem[1]


def test_helpers_are_not_endless(hand_in, monkeypatch):
    monkeypatch.setattr(collect_module, "BESIDE", 1 << 20)
    result, found = hand_in({"answer.py": RIGHT} | {f"{i}.txt": bytes(700_000) for i in range(2)})
    assert set(found) == {"answer.py", "0.txt"}
    assert result.note == "\n1.txt was left out: all of it is larger than 1 MiB"


def test_zips_in_zips_are_not_endless(tmp_path, monkeypatch):
    inner = zipped(**{"a.txt": os.urandom(700)})
    (tmp_path / "work.zip").write_bytes(zipped(**{f"{i}.zip": inner for i in range(3)}))
    assert [entry.problem for entry in entries(tmp_path)] == ["", "", ""]
    monkeypatch.setattr(archive, "_Budget", lambda: Budget(bytes=2000))
    assert [entry.problem for entry in entries(tmp_path)] == ["", "", "one zip too many"]
    monkeypatch.setattr(archive, "_Budget", lambda: Budget(files=2))
    assert entries(tmp_path)[-1].problem == "a zip of too many files"


def test_latin_1_in_a_text_cannot_be_told(hand_in):
    result, _ = hand_in({"answer.py": "\n\nx = 'größer'\n".encode("latin-1")})
    status, message = result.problem
    assert status == "cannot be read"
    assert message.startswith("answer.py, line 3: it is not saved as UTF-8: choose the encoding")


def test_a_declared_encoding_is_pythons_affair():
    data = "# coding: latin-1\nx = 'größer'\n".encode("latin-1")
    assert as_utf8(data, "answer.py") == data


def test_the_hash_is_of_what_is_graded(exercise, tmp_path):
    digests = set()
    for number, text in enumerate([RIGHT, RIGHT, STUB]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "answer.py").write_text(text)
        digests.add(collect(exercise, entries(folder), tmp_path / f"copy {number}").digest)
    assert len(digests) == 2


# Who is in a class.


@pytest.fixture
def class_of(tmp_path):
    def class_of(*names):
        folder = tmp_path / "class"
        for name in names:
            path = os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else name.encode())
            if path.endswith(b"/"):
                os.makedirs(path)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(zipped(**{"answer.py": RIGHT}) if b".zip" in path else RIGHT.encode())
        return folder

    return class_of


def test_students_of_every_platform(class_of):
    folder = class_of(
        "ada/answer.py",
        "bob.zip",
        "bob/more.py",
        "Cem Öz_1001_assignsubmission_file_/answer.py",
        "Dee Dee_1002_assignsubmission_file_answer.py",
        "lovelaceada_LATE_4711_815_answer-1.py",
        "lovelaceada_4711_816_other.py",
        "submission_77/answer.py",
        b"M\xfcller/answer.py",
        "=1+1/",
        "__MACOSX/ada/._answer.py",
        ".git/config",
        "notes.txt",
        "roster.csv",
    )
    found = {student.key: student for student in students(folder)}
    assert {key: [e.name for e in student.found] for key, student in found.items()} == {
        "=1+1": [],
        "Cem Öz_1001": ["answer.py"],
        "Dee Dee_1002": ["answer.py"],
        "Müller": ["answer.py"],
        "ada": ["answer.py"],
        "bob": ["more.py", "answer.py"],
        "lovelaceada_4711": ["other.py", "answer-1.py"],
        "submission_77": ["answer.py"],
    }
    assert (found["Cem Öz_1001"].id, found["Cem Öz_1001"].name) == ("1001", "Cem Öz")


def test_names_that_only_look_the_same_are_two_students(class_of):
    found = students(class_of("Müller/answer.py", b"M\xfcller/other.py", b"Mu\xcc\x88ller/x.py"))
    assert [len(student.found) for student in found] == [1, 1, 1]
    assert len({student.key for student in found}) == 3


def test_what_is_beside_the_class_is_no_student(class_of):
    folder = class_of("ada/answer.py", "results/ada/answer.py")
    assert [s.key for s in students(folder, apart=[folder / "results"])] == ["ada"]


def test_a_zip_of_the_whole_class(tmp_path):
    path = tmp_path / "class.zip"
    parts = {"ada__answer.py": RIGHT, "bob.zip": zipped(**{"x__answer.py": RIGHT}), "a.txt": ""}
    path.write_bytes(zipped(**parts))
    found = students(path)
    assert [(s.key, [e.parts for e in s.found]) for s in found] == [
        ("ada", [("answer.py",)]),
        ("bob", [("x", "answer.py")]),
    ]


def test_an_export_of_gradescope_says_who_is_who(class_of):
    folder = class_of("assignment_5_export/submission_77/answer.py")
    text = (
        "---\nsubmission_77:\n  :submitters:\n  - :name: Ada L\n    :sid: '12'\n    :email: a@b.c\n"
    )
    (folder / "assignment_5_export" / "submission_metadata.yml").write_text(text)
    (student,) = students(folder)
    assert (student.key, student.id, student.name, student.email) == (
        "submission_77", "12", "Ada L", "a@b.c",
    )  # fmt: skip


def test_a_class_without_submissions_says_what_lies_there(class_of, tmp_path):
    with pytest.raises(UsageError, match=r"There is no submission in .*: it holds answer\.py\."):
        students(class_of("answer.py"))
    with pytest.raises(UsageError, match="There is no .*nowhere: --submissions is the folder"):
        students(tmp_path / "nowhere")


def test_a_roster(class_of, tmp_path):
    folder = class_of(
        "ada/", "Bob Baker_1001_assignsubmission_file_/", "lovelaceeve_71_815_a.py", "x/"
    )
    roster = tmp_path / "roster.csv"
    roster.write_text(
        "ID;Full name;E-Mail\n1;Ada A;ada@uni.edu\n2;Baker, Bob;b@uni.edu\n"
        "3;Eve Lovelace;\n4;Zoé;z@\n",
        encoding="utf-8-sig",
    )
    found = {student.key: student for student in students(folder, roster)}
    assert {key: (s.id, s.listed) for key, s in found.items()} == {
        "ada": ("1", True),
        "Bob Baker_1001": ("2", True),
        "lovelaceeve_71": ("3", True),
        "x": ("x", False),
        "4": ("4", True),
    }
    assert (found["4"].name, found["4"].found) == ("Zoé", ())
    roster.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="has no column id, name or e-mail"):
        read_roster(roster)


def test_codes_in_place_of_names_stay_the_same(class_of, tmp_path):
    everybody = students(class_of("ada/answer.py", "=1+1/answer.py"))
    first = anonymous(everybody, tmp_path / "codes.csv")
    assert not {"ada", "=1+1"} & {text for s in first for text in (s.key, s.id, s.name)}
    assert [s.key for s in anonymous(everybody, tmp_path / "codes.csv")] == [s.key for s in first]
