"""What can go wrong, as one tree.

PipelabError
├── UsageError (ValueError)            impossible counts, bad arguments
│   ├── PaceTooFast                    a pace that this machine cannot keep; says which one it can
│   ├── UnknownName                    a name that does not exist; lists those that do
│   └── ScheduleFormatError            a CSV that cannot be read; names line and cell
├── ScheduleError (ValueError)         a schedule that can be read but not run; carries a Refusal
└── RunError (RuntimeError)            a real run that did not finish
    ├── WorkerError                    a worker raised; carries its traceback
    ├── WorkerDied                     a worker's process ended
    ├── WorkerStalled                  a wait passed its deadline; says who waits for what from whom
    └── RunCancelled                   stopped by the user
"""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass


class PipelabError(Exception):
    """Root of every error that pipelab raises on purpose."""


class UsageError(PipelabError, ValueError):
    """An argument that cannot work; the text says what can."""


class PaceTooFast(UsageError):
    """A pace that this machine cannot keep. ``slower`` times as long, and it can."""

    def __init__(self, message: str, slower: float):
        self.slower = slower
        super().__init__(message)


class UnknownName(UsageError):
    """A name that is not in a registry.

    >>> print(UnknownName("schedule", "gpip", ["naive", "gpipe", "1f1b"]))
    There is no schedule 'gpip'. Did you mean 'gpipe'? Valid names: naive, gpipe, 1f1b.
    """

    def __init__(self, what: str, name: object, valid: Iterable[str]):
        self.name, self.valid = name, list(valid)
        near = difflib.get_close_matches(str(name).lower().replace("_", "-"), self.valid, 1, 0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"There is no {what} {name!r}.{hint} Valid names: {', '.join(self.valid)}."
        )


class ScheduleFormatError(UsageError):
    """Text that is not a schedule. ``line`` and ``cell`` count from 1; ``cell`` may be None."""

    def __init__(self, message: str, line: int | None = None, cell: int | None = None):
        self.line, self.cell = line, cell
        places = [f"line {line}"] if line else []
        places += [f"cell {cell}"] if cell else []
        super().__init__(f"{', '.join(places)}: {message}" if places else message)


@dataclass(frozen=True)
class Refusal:
    """Why a schedule cannot run.

    code: one of syntax, missing, duplicate, out-of-range, wrong-rank, order, mixed-backward,
    deadlock. rank, step: where (step is the 0-based index among the rank's actions), None where no
    single place exists. action: the action as text. needs: what it lacks, as text. message: the
    explanation for a person.
    """

    code: str
    rank: int | None
    step: int | None
    action: str | None
    needs: str | None
    message: str

    def to_dict(self) -> dict[str, str | int | None]:
        """The fields by name."""
        return asdict(self)


class ScheduleError(PipelabError, ValueError):
    """An illegal schedule; ``refusal`` holds the reason as data."""

    def __init__(self, refusal: Refusal):
        self.refusal = refusal
        super().__init__(refusal.message)


class RunError(PipelabError, RuntimeError):
    """A real run that did not finish."""


class WorkerError(RunError):
    """A worker raised. The text ends with the worker's own traceback."""


class WorkerDied(RunError):
    """A worker's process ended before its work was done."""


class WorkerStalled(RunError):
    """A wait passed its deadline."""


class RunCancelled(RunError):
    """The user stopped the run."""
