"""The command line: thin, and light until a command needs more.

In: arguments. Out: text, or with --json one JSON object on standard output; progress and
messages go to standard error. Exit 0: done; 1: a run that failed, or `check` that refuses;
2: wrong usage or unusable input; 130: interrupted.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from . import __version__
from .errors import PipelabError, RunError, UsageError
from .schedule import Schedule
from .timeline import Timeline

COST_FLAGS = {
    "--forward": "duration of a forward (1)",
    "--backward": "duration of a full backward (2, or I + W)",
    "--input-grad": "duration of I (half of B)",
    "--weight-grad": "duration of W (half of B)",
    "--overlap": "duration of an overlapped pair (F + B)",
    "--latency": "time data takes between different ranks (0)",
}


SEARCH_FLAGS = ("memory_limit", "placement", "weight_grad_memory", "exact")
"""Arguments that only ``auto`` takes."""

MOST_RECOGNISED = 5000
"""Actions of a file that ``check`` looks up in the catalogue; more would take it seconds."""


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print, so that every error leaves by one door."""

    def error(self, message: str):
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


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
        # Whoever read our output has seen enough (`| head`); Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    try:
        args = _parser().parse_args(argv)
        args.argv = argv
        code = args.command(args)
    except (PipelabError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        say(f"pipelab: {text}")
        if "--json" in argv:
            print(json.dumps({"error": text}))
        code = 1 if isinstance(error, RunError) else 2
    sys.stdout.flush()
    return code


def say(text: str) -> None:
    """A message for a person: standard error, never standard output."""
    print(text, file=sys.stderr, flush=True)


# Commands: each takes the parsed arguments and returns the exit code.


def schedule(args: argparse.Namespace) -> int:
    from .catalogue import entry, names
    from .schedule.csv import unreadable_by_torch

    if args.list:
        known = {name: entry(name).summary for name in names()}
        show(args, {"schedules": known}, "\n".join(f"{name:18}{summary}" for name, summary in known.items()))
        return 0
    if args.name is None:
        raise UsageError(f"which schedule? Give a name ({', '.join(names())}), or --list")
    if args.csv == "-" and args.json:
        raise UsageError("--csv - and --json both want standard output: write the CSV to a file, or leave --json away")
    plan = load(args.name, args)
    if args.csv:
        warning = unreadable_by_torch(plan)
        if warning:
            say(warning)
    if args.csv == "-":
        sys.stdout.write(plan.to_csv())
        return 0
    metrics = _simulate(plan, args).metrics
    if args.csv:
        write(args.csv, plan.to_csv())
    data = {key: metrics[key] for key in ("schedule", "ranks", "stages", "stages_per_rank", "microbatches")}
    data |= {"actions": [list(map(str, row)) for row in plan.actions], "makespan": metrics["makespan"]}
    show(args, data, f"{plan.grid()}\n{_headline(plan)}, makespan {_text(metrics['makespan'])}")
    return 0


def simulate(args: argparse.Namespace) -> int:
    from .timeline.text import draw

    if (args.recompute is None) != (args.recompute_time is None):
        raise UsageError("--recompute and --recompute-time need each other: how it is done, and how long it takes")
    if args.name is None and args.compare is None:
        raise UsageError("give one schedule, or several with --compare NAME,NAME,…")
    if args.compare is not None:
        return _compare(args)
    if args.timeline and args.json:
        raise UsageError("--timeline draws for a person and --json writes for a program: ask for one of them")
    found = _search(args) if args.name == "auto" else None
    plan = found.schedule if found else load(args.name, args)
    timeline = _simulate(plan, args)
    metrics = timeline.metrics
    bounds = {"lower_bound": found.lower_bound, "gap": found.gap} if found else {}
    rows = [("rank", "span", "idle", "peak in flight", "until weight grad")]
    columns = ("spans", "idle", "peak_in_flight", "peak_in_flight_until_weight_grad")
    rows += [(str(rank), *map(_text, values)) for rank, values in enumerate(zip(*(metrics[c] for c in columns)))]
    lines = [
        _headline(plan),
        f"makespan         {_text(metrics['makespan'])}",
        *((
            f"lower_bound      {_text(found.lower_bound)}  no order of F, B, I and W within this memory takes less",
            f"gap              {_text(found.gap)}  makespan / lower_bound − 1{': this is the optimum' * found.proven}",
        ) if found else ()),
        f"bubble_fraction  {_text(metrics['bubble_fraction'])}  idle / (ranks × makespan)",
        f"bubble_overhead  {_text(metrics['bubble_overhead'])}  idle / busy",
        f"bubble_rate      {_text(metrics['bubble_rate'])}  1 − busy/span, on the rank with the longest span",
        *_table(rows),
        *([draw(timeline)] if args.timeline else ()),
        *(_explanation(timeline) if args.explain else ()),
    ]
    show(args, metrics | bounds | ({"idle_by_cause": timeline.idle_by_cause} if args.explain else {}), "\n".join(lines))
    return 0


def _compare(args: argparse.Namespace) -> int:
    """Several schedules with the same sizes and costs; one that these make impossible says why in place of numbers."""
    if args.explain or args.timeline:
        raise UsageError("--explain and --timeline are about one schedule; --compare prints a line for each")
    sources = [args.name] * (args.name is not None) + [source.strip() for source in args.compare.split(",")]
    for source in sources:
        if not _is_file(source):
            _require_counts(source, args)  # what is no schedule, or of no size, is a mistake and not an answer
    _costs(args)  # and so is a cost that is no cost
    _only_for_auto(sources, args)
    results = []
    for source in sources:
        try:
            results.append(_simulate(load(source, args), args).metrics)
        except UsageError as error:
            results.append({"schedule": source, "problem": str(error)})
    columns = ("makespan", "bubble_fraction", "bubble_overhead", "bubble_rate")
    possible = [data for data in results if "problem" not in data]
    rows = [
        (data["schedule"], str(data["stages"]), *(_text(data[key]) for key in columns), str(max(data["peak_in_flight"])))
        for data in possible
    ]
    lines = _table([("schedule", "stages", *columns, "peak in flight"), *rows]) if rows else []
    if len({data["stages"] for data in possible}) > 1:
        lines.append("times are per action of one stage: cut into twice as many stages, a model takes half of them")
    for data in results:
        if "problem" in data:
            lines.append(f"{data['schedule']}: {data['problem'].removeprefix(data['schedule'] + ' ')}")
    show(args, {"compare": results}, "\n".join(lines))
    return 0


def check(args: argparse.Namespace) -> int:
    from .catalogue import recognise
    from .schedule import refusal_of_text

    text = _read(args.file)
    refusal = refusal_of_text(text)
    if refusal is None:
        plan = Schedule.from_csv(text, name=Path(args.file).stem)
        counts = {"ranks": plan.ranks, "stages": plan.stages, "microbatches": plan.microbatches}
        known = "" if args.json or len(plan.kind) > MOST_RECOGNISED else f"\n{recognise(plan).text}"
        show(args, {"ok": True} | counts, f"legal: {_headline(plan)}{known}")
        return 0
    show(args, {"ok": False} | refusal.to_dict(), f"refused ({refusal.code}): {refusal.message}")
    return 1


def train(args: argparse.Namespace) -> int:
    from .launcher.train import OPTIONS, as_data, as_text, speaks
    from .launcher.train import train as train_for_real

    is_file = _is_file(args.schedule)
    args.ranks = args.ranks if is_file or args.ranks is not None else 2
    args.microbatches = args.microbatches if is_file or args.microbatches is not None else 4
    for output in filter(None, (args.trace, args.html, args.checkpoint)):
        if not Path(output).resolve().parent.is_dir():  # said before the training, not after it
            raise UsageError(f"cannot write {output}: its folder does not exist")
    options = ("model", "layers", "width", "steps", "seed", "pace", "timeout", "device", "workers", *OPTIONS)
    plan = load(args.schedule, args)
    if args.nnodes is not None:
        from .launcher.nodes import train_on_nodes

        return train_on_nodes(
            args.argv, nodes=args.nnodes, node_rank=args.node_rank, master=args.master, ranks=plan.ranks
        )
    run = train_for_real(plan, **{name: getattr(args, name) for name in options}, say=say)
    if not speaks():
        return 0
    if args.trace:
        write(args.trace, json.dumps(run.timeline.to_chrome()))
    if args.html:
        from .plots import write_page

        write_page(args.html, run.predicted, run.timeline)
    data = as_data(plan, run)
    show(args, data, as_text(data, run.gradient_note))
    return 0


def lab(args: argparse.Namespace) -> int:
    from .launcher.serve import serve

    return serve(port=args.port, browser=not args.no_browser, check=not args.no_check)


def doctor(args: argparse.Namespace) -> int:
    from .launcher.doctor import examine

    report = examine()
    show(args, report.data, report.text)
    return 0


# What the commands share.


def load(source: str, args: argparse.Namespace) -> Schedule:
    """A schedule by name, or from a CSV file that may contradict no flag.

    Raises:
        UsageError: counts that are missing or impossible, or contradict the file.
        ScheduleError: a file whose schedule cannot run.
    """
    from .catalogue import build
    from .schedule import read_csv, require_legal

    given = {"ranks": args.ranks, "microbatches": args.microbatches, "stages_per_rank": args.stages_per_rank}
    if getattr(args, "compare", None) is None:
        _only_for_auto([source], args)
    if _is_file(source):
        plan = read_csv(source)
        require_legal(plan)
        for what, count in given.items():
            if count not in (None, getattr(plan, what)):
                flag = "--" + what.replace("_", "-")
                raise UsageError(f"{source} has {what} = {getattr(plan, what)}, which {flag} {count} contradicts")
        return plan
    _require_counts(source, args)
    if source == "auto" and "memory_limit" in args:
        return _search(args).schedule
    return build(source, **given, costs=_costs(args) if "forward" in args else None)


def _only_for_auto(sources: Sequence[str], args: argparse.Namespace) -> None:
    for name in SEARCH_FLAGS:
        if "auto" not in sources and getattr(args, name, None) not in (None, False):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} is for auto, which searches; {', '.join(sources)} has an order of its own")


def _search(args: argparse.Namespace):
    """What auto finds: the schedule, its lower bound and its gap."""
    from .catalogue.auto import find

    _require_counts("auto", args)
    if getattr(args, "recompute", None):
        raise UsageError("auto searches without recomputation: add the time of a recomputed forward to --input-grad instead")
    sizes = {name: getattr(args, name) for name in ("ranks", "microbatches", "stages_per_rank", *SEARCH_FLAGS)}
    if sizes["weight_grad_memory"] is None:
        del sizes["weight_grad_memory"]
    return find(**sizes, costs=_costs(args))


def _require_counts(name: str, args: argparse.Namespace) -> None:
    from .catalogue import entry

    entry(name)  # an unknown name is said before a missing count
    if args.ranks is None or args.microbatches is None:
        raise UsageError(f"{name} is built for a number of ranks and micro-batches: give --ranks and --microbatches")


def write(name: str, text: str) -> None:
    """Write a text file, whole or not at all."""
    path = Path(name).resolve()
    if path.exists() and not path.is_file():  # a device such as /dev/null must not be replaced by a file
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def show(args: argparse.Namespace, data: dict, text: str) -> None:
    """The result: as JSON if asked for, else as text."""
    print(json.dumps(data, allow_nan=False) if args.json else text)


def _costs(args: argparse.Namespace):
    from .simulator import Costs

    given = {flag[2:].replace("-", "_"): getattr(args, flag[2:].replace("-", "_")) for flag in COST_FLAGS}
    return Costs(**{k: v for k, v in given.items() if v is not None}, recompute=getattr(args, "recompute_time", None) or 0)


def _simulate(plan: Schedule, args: argparse.Namespace) -> Timeline:
    from .simulator import simulate as predict

    return predict(plan, _costs(args), recompute=getattr(args, "recompute", None))


def _explanation(timeline: Timeline) -> list[str]:
    """Idle time by cause and rank, and the longest wait that was not forced."""
    causes = {cause: times for cause, times in timeline.idle_by_cause.items() if any(times)}
    open_ones = [i for i in timeline.idle if not i.forced]
    usable = [sum(i.end - i.start for i in open_ones if i.rank == rank) for rank in range(timeline.schedule.ranks)]
    columns = zip(*causes.values(), timeline.metrics["idle"], usable)
    rows = [(str(rank), *map(_text, values)) for rank, values in enumerate(columns)]
    head = ("rank", *causes, "idle", "not forced")
    lines = ["idle by cause; not forced: another action of the rank was ready", *_table([head, *rows])]
    if open_ones:
        longest = max(open_ones, key=lambda i: i.end - i.start)
        waiting, filler = (timeline.schedule.atom(atom) for atom in (longest.ended_by, longest.filler))
        lines.append(
            f"longest not forced: rank {longest.rank} waits from {_text(longest.start)} to {_text(longest.end)} "
            f"for {waiting} ({longest.cause}), where {filler} could have run"
        )
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns aligned to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]


def _is_file(source: str) -> bool:
    return source.endswith(".csv") or os.sep in source


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text: {error}") from error


def _headline(plan: Schedule) -> str:
    return f"{plan.name}: {plan.ranks} ranks, {plan.stages} stages, {plan.microbatches} micro-batches"


def _text(value: float) -> str:
    """33.0 as 33, the rest to six decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def number(text: str) -> float:
    """A cost: 2, 0.5, 1e-3 or a fraction such as 27418/3. (`Fraction` alone would compute 1e999999999.)"""
    if not re.fullmatch(r"[+-]?(\d{1,18}/\d{1,18}|(\d{1,18}\.?\d{0,18}|\.\d{1,18})(e[+-]?\d{1,2})?)", text, re.ASCII | re.I):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 2, 0.5 or 27418/3")
    try:
        value = Fraction(text)
    except ZeroDivisionError:
        raise argparse.ArgumentTypeError(f"{text!r} divides by zero") from None
    return int(value) if value.denominator == 1 else float(value)


def pace(text: str) -> tuple[float, ...]:
    """F,B[,W] in milliseconds, as seconds."""
    durations = tuple(number(part.strip()) / 1000 for part in text.split(","))
    if len(durations) not in (2, 3) or min(durations) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not F,B or F,B,W in milliseconds, such as 10,20")
    return durations


def only(*values: str) -> Callable[[str], str]:
    """One of these values."""

    def one_of(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"it is one of {', '.join(values)}, not {text!r}")
        return text

    return one_of


def _parser() -> Parser:
    parser = Parser(prog="pipelab", description="Pipeline parallelism: see it, predict it, run it.")
    parser.add_argument("--version", action="version", version=f"pipelab {__version__}")
    from .launcher.train import add_options

    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function: Callable, summary: str, json: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=summary, description=summary, allow_abbrev=False)
        added.set_defaults(command=function)
        if json:
            added.add_argument("--json", action="store_true", help="one JSON object on standard output")
        return added

    def counts(added: argparse.ArgumentParser, default: str = "") -> None:
        added.add_argument("--ranks", type=int, metavar="P", help="devices" + default)
        added.add_argument("--microbatches", type=int, metavar="M", help="micro-batches of a step" + default)
        added.add_argument("--stages-per-rank", type=int, metavar="V", help="stages on each rank")

    def costs(added: argparse.ArgumentParser) -> None:
        for flag, summary in COST_FLAGS.items():
            added.add_argument(flag, type=number, metavar="TIME", help=summary)

    def search(added: argparse.ArgumentParser) -> None:
        auto = added.add_argument_group("for auto, the searched schedule")
        auto.add_argument(
            "--memory-limit", type=number, metavar="X",
            help="activations of one micro-batch through all layers of a rank that it may hold (P, as 1F1B)",
        )  # fmt: skip
        auto.add_argument("--placement", metavar="loop|v", help="one stage per rank, or two in a V (loop)")
        auto.add_argument("--weight-grad-memory", type=number, metavar="SHARE", help="share of them that W gives back (0.5)")
        auto.add_argument("--exact", action="store_true", help="search on for the optimum, with OR-tools; small cases")

    added = command(lab, "open the course in JupyterLab, after a short self-check", json=False)
    added.add_argument("--port", type=int, metavar="N", help="exactly this port (default: a free one from 8888)")
    added.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    added.add_argument("--no-check", action="store_true", help="skip the self-check")

    command(doctor, "what this machine has, what is missing, and what to do about it")

    added = command(schedule, "print a schedule, or write it as CSV in torch's notation")
    added.add_argument("name", nargs="?", metavar="NAME")
    added.add_argument("--list", action="store_true", help="the schedules there are")
    counts(added)
    costs(added)
    search(added)
    added.add_argument("--csv", metavar="FILE", help="write CSV; - for standard output")

    added = command(simulate, "predict makespan, bubbles and peaks of a schedule")
    added.add_argument("name", nargs="?", metavar="NAME|FILE.csv")
    added.add_argument("--compare", metavar="NAME,NAME,…", help="several schedules side by side")
    counts(added)
    costs(added)
    search(added)
    added.add_argument("--recompute", choices=["in-backward", "early"], help="recompute each forward before its backward")
    added.add_argument("--recompute-time", type=number, metavar="TIME", help="duration of recomputing a forward")

    added.add_argument("--explain", action="store_true", help="why each rank stands idle, by cause")
    added.add_argument("--timeline", action="store_true", help="draw when each action runs, as wide as the terminal")

    added = command(check, "say whether a schedule can run, and if not, why")
    added.add_argument("file", metavar="FILE.csv")

    added = command(train, "train a small model for real under a schedule; measured beside predicted")
    added.add_argument("--schedule", default="1f1b", metavar="NAME|FILE.csv", help="(1f1b)")
    counts(added, " (2 and 4, or the file's)")
    added.add_argument("--steps", type=int, default=5, metavar="N", help="optimizer steps (5)")
    added.add_argument("--model", default="gpt", metavar="gpt|mlp", help="(gpt)")
    added.add_argument("--layers", type=int, default=8, metavar="L", help="layers, first and last included (8)")
    added.add_argument("--width", type=int, default=64, metavar="D", help="size of the hidden vectors (64)")
    added.add_argument("--device", type=only("auto", "cpu"), default="auto", metavar="auto|cpu")
    hosts = "auto", "processes", "threads", "torchrun"
    added.add_argument("--workers", type=only(*hosts), default="auto", metavar="|".join(hosts), help="what the ranks are")
    added.add_argument("--pace", type=pace, metavar="F,B[,W]", help="paced: milliseconds each action is made to last")
    added.add_argument("--nnodes", type=int, metavar="N", help="hosts, each told its --node-rank and the --master (torchrun)")
    added.add_argument("--node-rank", type=int, metavar="K", help="which of the hosts this is, from 0")
    added.add_argument("--master", metavar="HOST:PORT", help="where the first host listens")
    added.add_argument("--seed", type=int, default=0, metavar="S", help="of weights and batches (0)")
    added.add_argument("--timeout", type=number, metavar="S", help="seconds that any wait may last")
    add_options(added)
    added.add_argument("--trace", metavar="FILE.json", help="write the last step for chrome://tracing and Perfetto")
    added.add_argument("--html", metavar="FILE.html", help="write the last step as one animated page")
    return parser
