"""The students of a class's folder, whatever platform it was downloaded from.

    ada/ , ada.zip                              a folder or a zip per student, or both
    Ada_1234567_assignsubmission_file_/         Moodle, in folders; without: ..._file_makespan.py
    lovelaceada_LATE_4711_8153_makespan-1.py    Canvas: a file per student and exercise
    submission_1234/, submission_metadata.yml   Gradescope's export

In: the folder, or one zip of it all. Out: Students with the entries that are theirs. A roster adds
their names, and those who handed in nothing.
"""

import csv
import re
import secrets
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UsageError
from .archive import Entry, entries, is_hidden, readable
from .tables import cells, read_cells, write_whole

MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)")
CANVAS = re.compile(r"(?P<name>[^_]+)(?:_LATE)?_(?P<id>\d{2,})_\d{2,}_(?P<file>.+)")
EXPORT, SUBMISSION = re.compile(r"assignment_\d+_export"), re.compile(r"submission_(?P<id>\d+)")
METADATA = "submission_metadata.yml"
COLUMNS = {
    "id": ("id", "id number", "student id", "sid", "sis user id", "username", "matrikelnummer"),
    "name": ("name", "full name", "student", "student name"),
    "email": ("email", "e-mail", "email address", "e-mail address", "mail"),
}


@dataclass(frozen=True)
class Student:
    """Somebody of the class.

    key: the name of the results' folder. id: what sizes and data follow from. platform: the number
    that Moodle or Canvas knows. found: what was handed in. listed: whether the roster has them.
    """

    key: str
    id: str
    name: str = ""
    email: str = ""
    platform: str = ""
    found: tuple[Entry, ...] = ()
    listed: bool = True


def students(
    folder: Path, roster: Path | None = None, apart: Collection[Path] = ()
) -> list[Student]:
    """List the students of a class, by the names of their folders.

    Args:
        folder: of the class.
        roster: a CSV of id, name and e-mail.
        apart: folders that are no student's, such as the results'.

    Raises:
        UsageError: there is no such folder, no student in it, or the roster cannot be read.
    """
    if not folder.exists():
        raise UsageError(f"There is no {folder}: --submissions is the folder of the class.")
    groups: dict[str, tuple[Student, list[Entry]]] = {}
    strangers: list[str] = []
    origins: dict[str, str] = {}
    for name, path, below in _tops(folder):
        if path in apart:
            continue
        is_file = path.is_file() if path else below[0].parts == (name,)
        owner = _owner(name, is_file=is_file)
        if owner is None:
            strangers.append(name)
            continue
        # Two names that differ are two students, even if they look the same.
        origin = owner.key if owner.platform else name_of(path or Path(name))
        while origins.setdefault(owner.key, origin) != origin:
            owner = replace(owner, key=f"{owner.key}'", id=f"{owner.id}'")
        _, theirs = groups.setdefault(owner.key, (owner, []))
        theirs += entries(path) if path else below
        if is_file and theirs[-1].parts == (
            name,
        ):  # the platform's part of it is not the student's
            theirs[-1] = replace(theirs[-1], parts=(_file_of(name),))
    found = [replace(owner, found=tuple(theirs)) for owner, theirs in groups.values()]
    if folder.is_dir():
        found = _named_by_gradescope(found, folder)
    if roster is not None:
        found = _listed(found, read_roster(roster))
    if not found:
        lies = f"it holds {', '.join(sorted(strangers)[:10])}" if strangers else "it is empty"
        raise UsageError(
            f"There is no submission in {folder}: {lies}. It needs a folder or a zip per student."
        )
    return sorted(found, key=lambda student: student.key)


def name_of(path: Path) -> str:
    """The name of a folder, or of a zip without its ending: they are of the same student."""
    return path.stem if path.suffix.lower() == ".zip" else path.name


def _tops(folder: Path) -> Iterable[tuple[str, Path | None, list[Entry]]]:
    """What lies at the top: name, its place on the disk, or what a zip of the class has there."""
    if folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
        if len(paths) == 1 and paths[0].is_dir() and EXPORT.fullmatch(paths[0].name):
            paths = sorted(path for path in paths[0].iterdir() if not is_hidden(path.name))
        for path in paths:
            yield readable(path.name), path, []
        return
    tops: dict[str, list[Entry]] = {}
    for entry in entries(folder, of_class=True):
        parts = entry.parts[1:] if EXPORT.fullmatch(entry.parts[0]) else entry.parts
        if parts:
            inner = replace(entry, parts=parts[1:] or parts)
            tops.setdefault(parts[0] + ("/" if parts[1:] else ""), []).append(inner)
    for name, below in tops.items():
        yield name.rstrip("/"), None, below


def _owner(name: str, *, is_file: bool) -> Student | None:
    """Whose a folder or a file at the top is; None where it is nobody's."""
    if match := MOODLE.fullmatch(name) or CANVAS.fullmatch(name):
        key = _safe(f"{match['name']}_{match['id']}")
        return Student(key, match["id"], match["name"], platform=match["id"])
    if match := SUBMISSION.fullmatch(name):
        return Student(name, match["id"], platform=match["id"])
    is_zip = name.lower().endswith(".zip")
    if is_file and not is_zip:
        return None
    key = _safe(name[:-4] if is_zip else name)
    return Student(key, key)


def _file_of(name: str) -> str:
    match = MOODLE.fullmatch(name) or CANVAS.fullmatch(name)
    return (match["file"] if match else "") or name


def _safe(name: str) -> str:
    """A name that can be a folder's, and is no hidden one."""
    return "".join("_" if c in "/\\\0" else c for c in name).strip(". ")[:150] or "student"


def _named_by_gradescope(found: list[Student], folder: Path) -> list[Student]:
    """Add names, ids and addresses from Gradescope's metadata, if they are there."""
    files = [*folder.glob(METADATA), *folder.glob(f"*/{METADATA}")]
    if not files:
        return found
    text = files[0].read_text(encoding="utf-8", errors="replace")
    facts: dict[str, dict[str, str]] = {}
    for number, part in re.findall(r"^submission_(\d+):\n((?:[ :-].*\n?)*)", text, re.MULTILINE):
        pairs = re.findall(r":(name|sid|email): *['\"]?([^'\"\n]*)", part)
        facts[number] = {what: value.strip() for what, value in reversed(pairs)}
    named = []
    for student in found:
        about = facts.get(student.platform, {})
        name, email = about.get("name", student.name), about.get("email", student.email)
        named.append(replace(student, name=name, email=email, id=about.get("sid") or student.id))
    return named


def read_roster(path: Path) -> list[Student]:
    """Read a roster: CSV with a line of headings, among them id, name or e-mail.

    Raises:
        UsageError: it has none of these columns, or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        dialect = csv.Sniffer().sniff(text.partition("\n")[0], ",;\t") if text else csv.excel
        rows = list(csv.DictReader(text.splitlines(), dialect=dialect))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"The roster {path} cannot be read: {error}") from error
    titles = {(title or "").strip().lower(): title for title in (rows[0] if rows else ())}
    column = {}
    for what, known in COLUMNS.items():
        column[what] = next((titles[title] for title in known if title in titles), None)
    if not any(column.values()):
        raise UsageError(
            f"The roster {path} has no column id, name or e-mail: its first line must name them, "
            "as in id,name,e-mail"
        )
    listed = []
    for row in rows:
        id, name, email = (
            (row.get(title) or "").strip() if title else "" for title in column.values()
        )
        if first := id or email or name:
            listed.append(Student(_safe(first), first, name, email))
    return listed


def _listed(found: Sequence[Student], roster: Sequence[Student]) -> list[Student]:
    """Bring together who handed in and who is on the roster."""
    rows = {form: row for row in roster for form in _forms(row)}
    several = [form for row in roster for form in _forms(row)]
    result, present = [], set()
    for student in found:
        forms = [form for form in _forms(student) if several.count(form) == 1]
        row = next((rows[form] for form in forms), None)
        if row is None or row.key in present:
            result.append(replace(student, listed=False))
            continue
        present.add(row.key)
        known = replace(student, id=row.id, name=row.name or student.name)
        result.append(replace(known, email=row.email or student.email))
    return [*result, *(row for row in roster if row.key not in present)]


def _forms(student: Student) -> set[str]:
    """What somebody may be called: id, name in both orders, address and its first part."""
    names = [student.id, student.key, student.email, student.email.partition("@")[0]]
    words = re.split(r"[\s,_]+", student.name)
    names += ["".join(words), "".join(words[-1:] + words[:-1]), "".join(words[::-1])]
    forms = (unicodedata.normalize("NFKD", name).casefold() for name in names)
    return set(filter(None, ("".join(c for c in form if c.isalnum()) for form in forms)))


def anonymous(found: Sequence[Student], table: Path) -> list[Student]:
    """Give each student a code that tells nothing, in place of name and id.

    table: a CSV of code and student, where codes given before are kept.
    """
    rows = [row for row in read_cells(table)[1:] if len(row) == 3]
    codes = {key: code for code, key, _ in rows}
    for student in found:
        if student.key not in codes:
            codes[student.key] = f"student-{secrets.token_hex(4)}"
            rows.append([codes[student.key], student.key, student.name])
    write_whole(table, cells([["code", "student", "name"], *rows]))
    hidden = [Student(codes[s.key], codes[s.key], found=s.found, listed=s.listed) for s in found]
    return sorted(hidden, key=lambda student: student.key)
