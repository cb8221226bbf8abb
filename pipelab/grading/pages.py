"""Feedback as a page for a student, and one page about the class, both HTML without scripts.

The page of the class says which test fails most and what most of those who fail it were told: the
misconception to talk about in the next hour.
"""

import datetime
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .. import __version__
from .alike import Pair
from .answers import class_part
from .records import Record
from .remote import clean
from .report import MARKS, as_markdown, said_once, totals
from .results import Grade, Result, seed_of

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .8em .2em 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd }} td.n {{ text-align: right }}
pre {{ white-space: pre-wrap; background: #f5f5f5; padding: .6em; margin: .2em 0 }}
</style></head><body>
{body}
</body></html>
"""


def about(record: Record) -> list[str]:
    """Whose work it is, and when and with what it was graded."""
    student = record.student
    who = " · ".join(dict.fromkeys(filter(None, (student.name, student.key, student.id))))
    when = max(record.dates.values(), default="")
    day = datetime.datetime.fromisoformat(when).strftime("%d %B %Y, %H:%M UTC") if when else "never"
    names = " ".join(sorted(name[:2] for name in record.grades))
    command = f"pipelab grade {names} --student {shlex.quote(clean(student.id))}"
    return [
        clean(f"{who} · graded {day} · pipelab {__version__} · seed {seed_of(student.id)}"),
        f"With the same numbers as here: `{command}`",
    ]


def feedback(record: Record) -> tuple[str, str]:
    """Feedback for a student: Markdown, and a page."""
    grades, head = list(record.grades.values()), about(record)
    score, points = totals(grades)
    parts = [f"<h1>{score:g} of {points:g} points</h1>"]
    parts += [f"<p>{escape(line).replace('`', '')}</p>" for line in head]
    for grade in grades:
        parts += _exercise(grade)
    page = PAGE.format(title=f"{score:g} of {points:g} points", body="\n".join(parts))
    return as_markdown(grades, head), page


def _exercise(grade: Grade) -> Iterable[str]:
    by_hand = ", given by hand" if grade.by_hand is not None else ""
    yield f"<h2>{escape(grade.title)}: {grade.score:g} of {grade.points:g}{by_hand}</h2>"
    if grade.comment:
        yield f"<blockquote>{escape(clean(grade.comment))}</blockquote>"
    if grade.note:
        yield f"<pre>{escape(clean(grade.note))}</pre>"
    yield "<table>"
    for result, said in said_once(grade):
        text = f"<pre>{escape(clean(said))}</pre>" if said else ""
        yield (
            f"<tr><td>{MARKS.get(result.status, '✗')}</td>"
            f'<td class="n">{result.score:g}/{result.points:g}</td>'
            f"<td>{escape(result.title)} <small>{escape(result.status)}</small>{text}</td></tr>"
        )
    yield "</table>"


def class_page(
    records: Sequence[Record], pairs: Sequence[Pair], guesses: Sequence[dict[str, Any]] = ()
) -> str:
    """One page about the class; guesses: what each student guessed and reached."""
    names = sorted({name for record in records for name in record.grades})
    parts = [f"<h1>{len(records)} students</h1>"]
    everything = [totals(list(record.grades.values())) for record in records]
    mean = sum(score for score, _ in everything) / len(everything)
    most = max(points for _, points in everything)
    parts.append(f"<p>On average {mean:.3g} of {most:g} points. pipelab {__version__}</p>")
    for name in names:
        parts += _class_exercise([r.grades[name] for r in records if name in r.grades])
    parts += class_part(guesses)
    if pairs:
        parts.append("<h2>The same program but for names and layout</h2>")
        parts.append("<p>A reason to look, and no proof: short right answers are often alike.</p>")
        rows = [(pair.exercise, pair.one, pair.other, f"{pair.size} parts") for pair in pairs]
        parts.append(_table(("exercise", "student", "student", "the same"), rows))
    return PAGE.format(title="The class", body="\n".join(parts))


def _class_exercise(grades: Sequence[Grade]) -> Iterable[str]:
    mean, points = sum(g.score for g in grades) / len(grades), max(g.points for g in grades)
    yield f"<h2>{escape(grades[0].exercise[:2])} {escape(grades[0].title)}</h2>"
    counts = Counter(grade.status for grade in grades).most_common()
    said = ", ".join(f"{count} {status}" for status, count in counts)
    yield f"<p>On average {mean:.3g} of {points:g} points: {escape(said)}</p>"
    failed: dict[str, list[Result]] = {}
    for result in (result for grade in grades for result in grade.results):
        bad = failed.setdefault(result.title, [])
        if result.status in ("failed", "partial", "timed out", "ended the process"):
            bad.append(result)
    rows = [
        (str(len(bad)), title, *misconception([result.message for result in bad]))
        for title, bad in sorted(failed.items(), key=lambda item: -len(item[1]))
        if bad
    ]
    if rows:
        yield _table(
            ("students who fail it", "test", "what most of them were told", "how many"), rows
        )


def misconception(messages: Sequence[str]) -> tuple[str, str]:
    """What most messages say in the same words, and how many do: a hint if there is one."""
    hints: Counter[str] = Counter()
    firsts: Counter[str] = Counter()
    for message in messages:
        text = re.sub(r"Read again:.*", "", clean(message))
        sentences = {part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)}
        hints.update(s for s in sentences if len(s) > 20 and not re.search(r"\d", s))
        firsts[text.partition("\n")[0][:200]] += 1
    best = hints.most_common(1) or firsts.most_common(1)
    return (best[0][0], str(best[0][1])) if best else ("", "")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in headings)
    body = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n" + "\n".join(body) + "</table>"
