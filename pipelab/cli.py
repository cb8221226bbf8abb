"""The command line: thin, and light until a command needs more.

In: arguments. Out: text, or with --json one JSON object on standard output; progress and
messages go to standard error. Exit 0: done; 1: a run that failed, `check` that refuses, or a
grading that did not take place; 2: wrong usage or unusable input; 130: interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PipelabError, RunError, UsageError
from .launcher.arguments import SEARCH_FLAGS, costs_of, memory_of, parser
from .schedule import Schedule

if TYPE_CHECKING:
    from .search import Found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old terminal shows ? for ×, and that is all
    try:
        return _run(argv)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python's own flush at exit must not
        # complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    try:
        args = parser(COMMANDS).parse_args(argv)
        args.argv = argv
        code = int(args.command(args))
    except (PipelabError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.filename}: {error.strerror}"
        say(f"pipelab: {text}")
        if "--json" in argv:
            print(json.dumps({"error": text}))
        code = 1 if isinstance(error, RunError) else 2
    sys.stdout.flush()
    return code


def say(text: str) -> None:
    """Tell a person: on standard error, never on standard output."""
    print(text, file=sys.stderr, flush=True)


# Commands: each takes the parsed arguments and returns the exit code.


def run_schedule(args: argparse.Namespace) -> int:
    """Print a schedule, list them all, or write one as CSV."""
    from .catalogue import entry, names
    from .launcher.predict import headline, predict, text
    from .schedule.csv import unreadable_by_torch

    if args.list:
        known = {name: entry(name).summary for name in names()}
        lines = [f"{name:18}{summary}" for name, summary in known.items()]
        show(args, {"schedules": known}, "\n".join(lines))
        return 0
    if args.name is None:
        raise UsageError(f"which schedule? Give a name ({', '.join(names())}), or --list")
    if args.csv == "-" and args.json:
        raise UsageError(
            "--csv - and --json both want standard output: write the CSV to a file, or leave "
            "--json away"
        )
    schedule = load(args.name, args)
    if args.csv:
        warning = unreadable_by_torch(schedule)
        if warning:
            say(warning)
    if args.csv == "-":
        sys.stdout.write(schedule.to_csv())
        return 0
    metrics = predict(schedule, args).metrics
    if args.csv:
        write(args.csv, schedule.to_csv())
    sizes = ("schedule", "ranks", "stages", "stages_per_rank", "microbatches")
    data = {name: metrics[name] for name in sizes}
    data["actions"] = [list(map(str, row)) for row in schedule.actions]
    data["makespan"] = metrics["makespan"]
    last_line = f"{headline(schedule)}, makespan {text(metrics['makespan'])}"
    show(args, data, f"{schedule.grid()}\n{last_line}")
    return 0


def run_simulate(args: argparse.Namespace) -> int:
    """Predict a schedule, or compare several."""
    from .launcher.predict import as_data, as_text, predict

    if args.name is None and args.compare is None:
        raise UsageError("give one schedule, or several with --compare NAME,NAME,…")
    if args.compare is not None:
        return _compare(args)
    if args.timeline and args.json:
        raise UsageError(
            "--timeline draws for a person and --json writes for a program: ask for one of them"
        )
    found = _search(args) if args.name == "auto" else None
    timeline = predict(found.schedule if found else load(args.name, args), args)
    show(args, as_data(timeline, found, args), "" if args.json else as_text(timeline, found, args))
    return 0


def _compare(args: argparse.Namespace) -> int:
    """Compare schedules of the same sizes and costs.

    A schedule that these make impossible says why in place of its numbers.
    """
    from .launcher.predict import comparison, predict

    if args.explain or args.timeline:
        raise UsageError(
            "--explain and --timeline are about one schedule; --compare prints a line for each"
        )
    sources = [source.strip() for source in args.compare.split(",")]
    if args.name is not None:
        sources.insert(0, args.name)
    # An unknown schedule, a missing size or a cost that is none is a mistake, not an answer.
    for source in sources:
        if not _is_file(source):
            _require_counts(source, args)
    costs_of(args)
    _only_for_auto(sources, args)
    results = []
    for source in sources:
        try:
            results.append(predict(load(source, args), args).metrics)
        except UsageError as error:
            results.append({"schedule": source, "problem": str(error)})
    show(args, {"compare": results}, comparison(results))
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Say whether a CSV file can run, and which schedule it is."""
    from .catalogue import recognise
    from .launcher.predict import headline
    from .schedule import check_transport, refusal_of_text

    text = _read(args.file)
    refusal = refusal_of_text(text)
    if refusal is None:
        schedule = Schedule.from_csv(text, name=Path(args.file).stem)
        refusal = check_transport(schedule, args.transport)
    if refusal is None:
        counts = {name: getattr(schedule, name) for name in ("ranks", "stages", "microbatches")}
        known = "" if args.json else f"\n{recognise(schedule).text}"
        show(args, {"ok": True} | counts, f"legal: {headline(schedule)}{known}")
        return 0
    show(args, {"ok": False} | refusal.to_dict(), f"refused ({refusal.code}): {refusal.message}")
    return 1


def run_train(args: argparse.Namespace) -> int:
    """Train a small model under a schedule, for real."""
    from .launcher.train import Wanted, as_data, as_text, page, speaks, train

    if not _is_file(args.schedule):  # a file has sizes of its own
        args.ranks = 2 if args.ranks is None else args.ranks
        args.microbatches = 4 if args.microbatches is None else args.microbatches
    for output in (args.trace, args.html, args.checkpoint):
        _require_folder(output)
    schedule = load(args.schedule, args)
    if args.nnodes is not None:
        from .launcher.nodes import train_on_nodes

        return train_on_nodes(
            args.argv,
            nodes=args.nnodes,
            node_rank=args.node_rank,
            master=args.master,
            ranks=args.data_parallel * schedule.ranks * args.tensor_parallel,
        )
    wanted = Wanted.from_flags(args)
    run = train(schedule, wanted, executor=args.executor, say=say)
    ours = None
    if args.executor == "torch":
        say("the same with pipelab's own engine, to show both")
        same = replace(wanted, partition=run.partition)
        ours = train(schedule, same, executor="pipelab", say=say)
    if not speaks():
        return 0
    if args.trace:
        write(args.trace, json.dumps(run.timeline.to_chrome()))
    if args.html:
        write(args.html, page(run, ours, wanted))
    data = as_data(schedule, run, ours)
    show(args, data, as_text(data, run.gradient_note))
    return 0


def run_profile(args: argparse.Namespace) -> int:
    """Measure what each layer of a small model takes."""
    from .launcher.profile import as_text, measure

    _require_folder(args.save)
    profile = measure(args)
    data = profile.to_json()
    if args.save:
        write(args.save, json.dumps(data, indent=1) + "\n")
    show(args, data, as_text(profile))
    return 0


def run_partition(args: argparse.Namespace) -> int:
    """Cut a profiled model into stages."""
    from .launcher.partition import as_text, find

    found = find(args)
    show(args, found.to_json(), as_text(found))
    return 0


def run_estimate(args: argparse.Namespace) -> int:
    """Predict the seconds and bytes of one layout."""
    from .launcher.estimate import as_text, find

    found = find(args, say)
    show(args, found.to_json(), as_text(found))
    return 0


def run_plan(args: argparse.Namespace) -> int:
    """Rank the layouts of a model on so many GPUs."""
    from .launcher.plan import answer

    data, text = answer(args, say)
    show(args, data, text)
    return 0


def run_lab(args: argparse.Namespace) -> int:
    """Serve the course in JupyterLab, until it is stopped."""
    from .launcher.serve import serve

    return serve(port=args.port, browser=not args.no_browser, check=not args.no_check)


def run_doctor(args: argparse.Namespace) -> int:
    """Say what this machine has and lacks."""
    from .launcher.doctor import examine

    report = examine()
    show(args, report.data, report.text)
    return 0


def run_grade(args: argparse.Namespace) -> int:
    """Grade exercises, or a class."""
    from .grading.command import CLASS_FLAGS, grade_class, grade_one

    for name in CLASS_FLAGS:
        if args.submissions is None and getattr(args, name) not in (None, False, []):
            raise UsageError(f"--{name} is for a class: give its folder with --submissions")
    if args.submissions is not None and args.out is None:
        raise UsageError(
            "--submissions and --out need each other: where the class's folders are, and where "
            "its results go"
        )
    data, text, files, whole = (grade_class if args.submissions else grade_one)(args, say)
    for name, content in files.items():
        write(name, content)
    show(args, data, text)
    return 0 if whole else 1


def run_handout(args: argparse.Namespace) -> int:
    """Make the students' copy of the course."""
    from .grading import handout

    folder = handout(args.folder, args.exercises)
    show(args, {"folder": str(folder)}, f"the students' copy is in {folder}")
    return 0


def run_autograder(args: argparse.Namespace) -> int:
    """Write what platforms need to grade exercises."""
    from .grading import autograder, exercises

    chosen = exercises(args.exercises, args.names)
    folder = autograder(args.folder, chosen, args.hidden)
    text = (
        f"{folder} has gradescope.zip to upload, classroom.yml for GitHub Classroom, and docker/ "
        "with a Dockerfile that says how it is run"
    )
    show(args, {"folder": str(folder)}, text)
    return 0


COMMANDS = {
    "lab": run_lab,
    "doctor": run_doctor,
    "schedule": run_schedule,
    "simulate": run_simulate,
    "check": run_check,
    "train": run_train,
    "profile": run_profile,
    "partition": run_partition,
    "estimate": run_estimate,
    "plan": run_plan,
    "grade": run_grade,
    "handout": run_handout,
    "autograder": run_autograder,
}


# What the commands share.


def load(source: str, args: argparse.Namespace) -> Schedule:
    """Build a schedule by its name, or read it from a CSV file.

    Raises:
        UsageError: counts are missing or impossible, or contradict the file.
        ScheduleError: the schedule of the file cannot run.
    """
    from .catalogue import build
    from .schedule import read_csv, require_legal
    from .schedule.kinds import COLLECTIVES, KINDS

    given = {
        "ranks": args.ranks,
        "microbatches": args.microbatches,
        "stages_per_rank": args.stages_per_rank,
    }
    if getattr(args, "compare", None) is None:
        _only_for_auto([source], args)
    if _is_file(source):
        # A file's collectives are kept where they are given a cost.
        flags = (KINDS[kind].cost for kind in COLLECTIVES)
        collectives = any(getattr(args, cost, None) is not None for cost in flags)
        schedule = read_csv(source, collectives=collectives)
        require_legal(schedule)
        for what, count in given.items():
            if count not in (None, getattr(schedule, what)):
                flag = "--" + what.replace("_", "-")
                raise UsageError(
                    f"{source} has {what} = {getattr(schedule, what)}, "
                    f"which {flag} {count} contradicts"
                )
        return schedule
    _require_counts(source, args)
    if source == "auto" and "memory_limit" in args:
        return _search(args).schedule
    costs = costs_of(args) if "forward" in args else None
    return build(source, **given, costs=costs)


def _only_for_auto(sources: Sequence[str], args: argparse.Namespace) -> None:
    for name in SEARCH_FLAGS:
        if name == "weight_grad_memory" and "activation_bytes" in args and memory_of(args):
            continue
        if "auto" not in sources and getattr(args, name, None) not in (None, False):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} is for auto, which searches; {', '.join(sources)} has an order of its own"
            )


def _search(args: argparse.Namespace) -> "Found":
    """Search for a schedule: what auto finds, its lower bound and its gap."""
    from .catalogue.auto import find

    _require_counts("auto", args)
    if getattr(args, "recompute", None):
        raise UsageError(
            "auto searches without recomputation: add the time of a recomputed forward to "
            "--input-grad instead"
        )
    if getattr(args, "optimizer", None):
        raise UsageError(
            "auto searches for one step: write what it finds to a file (schedule auto --csv) and "
            "simulate that"
        )
    sizes = {
        name: getattr(args, name)
        for name in ("ranks", "microbatches", "stages_per_rank", *SEARCH_FLAGS)
    }
    for name in ("weight_grad_memory", "objective"):  # find has a default of its own
        if sizes[name] is None:
            del sizes[name]
    return find(**sizes, costs=costs_of(args))


def _require_counts(name: str, args: argparse.Namespace) -> None:
    from .catalogue import entry

    entry(name)  # an unknown name is said before a missing count
    if args.ranks is None or args.microbatches is None:
        raise UsageError(
            f"{name} is built for a number of ranks and micro-batches: give --ranks and "
            "--microbatches"
        )


def write(name: str, text: str) -> None:
    """Write a text file, whole or not at all."""
    path = Path(name).resolve()
    # A device such as /dev/null must not be replaced by a file.
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _require_folder(output: str | None) -> None:
    """Say that a file cannot be written before the work, not after it."""
    if output and not Path(output).resolve().parent.is_dir():
        raise UsageError(f"cannot write {output}: its folder does not exist")


def show(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    """Print the result: as JSON if asked for, else as text."""
    print(json.dumps(data, allow_nan=False) if args.json else text)


def _is_file(source: str) -> bool:
    return source.endswith(".csv") or os.sep in source


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text: {error}") from error
