"""A grading for whoever reads it: a terminal, a notebook, Gradescope, JUnit, GitHub Classroom."""

import base64
import json
from collections.abc import Sequence
from xml.etree import ElementTree

from .results import Grade

MARKS = {"passed": "✓", "partial": "◐", "not started": "·"}


def totals(grades: Sequence[Grade]) -> tuple[float, float]:
    """Score and points of all of them."""
    return round(sum(g.score for g in grades), 6), sum(g.points for g in grades)


def as_data(grades: Sequence[Grade]) -> dict:
    """As `pipelab grade --json` prints it."""
    score, points = totals(grades)
    return {"score": score, "points": points, "exercises": [grade.to_dict() for grade in grades]}


def as_text(grades: Sequence[Grade]) -> str:
    """For a terminal: a line per test, and under it what a student needs to read."""
    lines = []
    for grade in grades:
        lines.append(f"{grade.exercise}  {grade.score:g} of {grade.points:g}  {grade.title}")
        if grade.note:
            lines += [f"    {line}" for line in grade.note.splitlines()[-12:]]
        for result in grade.results:
            mark = MARKS.get(result.status, "✗")
            lines.append(
                f"  {mark} {result.score:g}/{result.points:g}  {result.title}{_how(result.status)}"
            )
            if result.message and result.status != "not started":
                lines += [f"        {line}" for line in result.message.splitlines()]
    score, points = totals(grades)
    return "\n".join([*lines, f"{score:g} of {points:g} points"])


def _how(status: str) -> str:
    return f"  ({status})" if status in ("not started", "timeout", "crashed", "error") else ""


def as_markdown(grades: Sequence[Grade]) -> str:
    """Feedback for a student, or the summary of a workflow step."""
    score, points = totals(grades)
    lines = [f"# {score:g} of {points:g} points", ""]
    for grade in grades:
        lines += [f"## {grade.title}: {grade.score:g} of {grade.points:g}", ""]
        if grade.note:
            lines += ["```", grade.note, "```", ""]
        for result in grade.results:
            lines.append(
                f"- {MARKS.get(result.status, '✗')} **{result.score:g}/{result.points:g}** "
                f"{result.title}{_how(result.status)}"
            )
            if result.message and result.status != "not started":
                lines += ["", *(f"      {line}" for line in result.message.splitlines()), ""]
        lines.append("")
    return "\n".join(lines)


def as_junit(grades: Sequence[Grade]) -> str:
    """JUnit XML: a suite per exercise."""
    top = ElementTree.Element("testsuites")
    for grade in grades:
        bad = [r for r in grade.results if r.status != "passed"]
        suite = ElementTree.SubElement(
            top,
            "testsuite",
            name=grade.exercise,
            tests=str(len(grade.results)),
            failures=str(len(bad)),
            time=f"{grade.seconds:.3f}",
        )
        for r in grade.results:
            case = ElementTree.SubElement(
                suite, "testcase", classname=grade.exercise, name=r.test, time=f"{r.seconds:.3f}"
            )
            if r.status == "not started":
                ElementTree.SubElement(case, "skipped", message="not started")
            elif r.status != "passed":
                ElementTree.SubElement(case, "failure", message=r.status).text = _printable(
                    r.message
                )
    return ElementTree.tostring(top, encoding="unicode", xml_declaration=True)


def as_gradescope(grades: Sequence[Grade]) -> dict:
    """Gradescope's results.json."""
    score, points = totals(grades)
    tests = [
        {
            "name": f"{grade.exercise}: {r.title}",
            "score": r.score,
            "max_score": r.points,
            "number": f"{i}.{j}",
            "status": "passed" if r.status == "passed" else "failed",
            "output": r.message or r.status,
            "visibility": "visible",
        }
        for i, grade in enumerate(grades, 1)
        for j, r in enumerate(grade.results, 1)
    ]
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
    tests = [
        {
            "name": f"{grade.exercise}: {r.title}",
            "status": "pass" if r.status == "passed" else "fail",
            "score": r.score,
            "max_score": r.points,
            "message": r.message or r.status,
            "duration": f"{r.seconds:.3f}",
        }
        for grade in grades
        for r in grade.results
    ]
    status = "pass" if all(test["status"] == "pass" for test in tests) else "fail"
    data = {"version": 1, "status": status, "max_score": points, "tests": tests}
    return base64.b64encode(json.dumps(data).encode()).decode()


def _printable(text: str) -> str:
    """XML knows no control characters."""
    return "".join(c for c in text if c in "\t\n\r" or ord(c) >= 32)
