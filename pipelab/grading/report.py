"""A grading for whoever reads it: a terminal, a notebook, Gradescope, JUnit, GitHub Classroom."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from .remote import clean
from .results import WORST, Grade, Result

MARKS = {"passed": "✓", "partial": "◐", "not started": "·"}
HIDDEN = "hidden: "
"""Before the names of tests that are never handed out."""


def totals(grades: Sequence[Grade]) -> tuple[float, float]:
    """Score and points of all of them."""
    return round(sum(g.score for g in grades), 6), sum(g.points for g in grades)


def as_data(grades: Sequence[Grade]) -> dict[str, Any]:
    """The grades as `pipelab grade --json` prints it."""
    score, points = totals(grades)
    return {"score": score, "points": points, "exercises": [grade.to_dict() for grade in grades]}


def as_text(grades: Sequence[Grade]) -> str:
    """The text for a terminal: a line per test, and under it what a student needs to read."""
    lines = []
    for grade in grades:
        lines.append(f"{grade.exercise}  {grade.score:g} of {grade.points:g}  {grade.title}")
        if grade.note:
            lines += [f"    {line}" for line in grade.note.splitlines()[-12:]]
        for result, said in said_once(grade):
            mark = MARKS.get(result.status, "✗")
            lines.append(
                f"  {mark} {result.score:g}/{result.points:g}  {result.title}{how(result.status)}"
            )
            lines += [f"        {line}" for line in said.splitlines()]
    score, points = totals(grades)
    return "\n".join([*lines, f"{score:g} of {points:g} points"])


def said_once(grade: Grade) -> Iterator[tuple[Result, str]]:
    """The results of a grade with their messages; what is the same for several is said once."""
    told = {""}
    for result in grade.results:
        said = "" if result.message in told or result.status == "not started" else result.message
        told.add(said)
        yield result, said


def how(status: str) -> str:
    """What follows a test's title where its mark does not say enough."""
    return f"  ({status})" if status in (*WORST, "not started") else ""


def as_markdown(grades: Sequence[Grade], about: Sequence[str] = ()) -> str:
    """Feedback for a student, or the summary of a workflow step.

    about: lines on whose work it is, and when and with what it was graded.
    """
    score, points = totals(grades)
    lines = [f"# {score:g} of {points:g} points", ""]
    for line in about:
        lines += [line, ""]
    for grade in grades:
        lines += [f"## {grade.title}: {grade.score:g} of {grade.points:g}{_said(grade)}", ""]
        if grade.comment:
            lines += [*(f"> {line}" for line in clean(grade.comment).splitlines()), ""]
        if grade.note:
            lines += ["```", clean(grade.note).replace("```", "` ` `"), "```", ""]
        for result, said in said_once(grade):
            lines.append(
                f"- {MARKS.get(result.status, '✗')} **{result.score:g}/{result.points:g}** "
                f"{result.title}{how(result.status)}"
            )
            if said:
                lines += ["", *(f"      {line}" for line in clean(said).splitlines()), ""]
        lines.append("")
    return "\n".join(lines)


def _said(grade: Grade) -> str:
    """The status where it is more than a number of points, and who gave them."""
    said = how(grade.status)
    return f"{said}  (points given by hand)" if grade.by_hand is not None else said


def as_junit(grades: Sequence[Grade]) -> str:
    """JUnit XML: a suite per exercise, with the numbers of tests, failures, errors and skips."""
    top = ElementTree.Element("testsuites", _counts([r for grade in grades for r in grade.results]))
    for grade in grades:
        about = {"name": grade.exercise, **_counts(grade.results), "time": f"{grade.seconds:.3f}"}
        suite = ElementTree.SubElement(top, "testsuite", about)
        for result in grade.results:
            about = {"classname": grade.exercise, "name": result.test}
            about["time"] = f"{result.seconds:.3f}"
            case = ElementTree.SubElement(suite, "testcase", about)
            if result.status != "passed":
                outcome = ElementTree.SubElement(case, _outcome(result), message=result.status)
                outcome.text = clean(result.message)
    return ElementTree.tostring(top, encoding="unicode", xml_declaration=True)


def _outcome(result: Result) -> str:
    """What JUnit calls it: a failure of the student's code, or an error that let nothing run."""
    kinds = {"passed": "", "not started": "skipped", "failed": "failure", "partial": "failure"}
    return kinds.get(result.status, "error")


def _counts(results: Sequence[Result]) -> dict[str, str]:
    kinds = [_outcome(result) for result in results]
    names = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {name: str(kinds.count(kind)) for name, kind in names.items()}
    return {"tests": str(len(results)), **counts}


def as_gradescope(grades: Sequence[Grade]) -> dict[str, Any]:
    """Gradescope's results.json."""
    score, points = totals(grades)
    tests = []
    for i, grade in enumerate(grades, 1):
        for j, result in enumerate(grade.results, 1):
            about = {
                "name": f"{grade.exercise}: {result.title}",
                "score": result.score,
                "max_score": result.points,
                "number": f"{i}.{j}",
                "status": "passed" if result.status == "passed" else "failed",
                "output": result.message or result.status,
                "visibility": "visible",
            }
            if result.test.startswith(HIDDEN):
                about["visibility"] = "after_published"
            tests.append(about)
    seconds = round(sum(grade.seconds for grade in grades), 3)
    return {
        "score": score,
        "execution_time": seconds,
        "output": f"{score:g} of {points:g} points",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def as_classroom(grades: Sequence[Grade]) -> str:
    """What GitHub Classroom's grading reporter reads from <RUNNER>_RESULTS: JSON in base64."""
    _, points = totals(grades)
    tests = []
    for grade in grades:
        for result in grade.results:
            about = {
                "name": f"{grade.exercise}: {result.title}",
                "status": "pass" if result.status == "passed" else "fail",
                "score": result.score,
                "max_score": result.points,
                "message": result.message or result.status,
                "duration": f"{result.seconds:.3f}",
            }
            tests.append(about)
    status = "pass" if all(test["status"] == "pass" for test in tests) else "fail"
    data = {"version": 1, "status": status, "max_score": points, "tests": tests}
    return base64.b64encode(json.dumps(data).encode()).decode()
