"""The flags of the command line, and what they mean.

In: what was typed. Out: Costs, Memory and options of the simulator.
"""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from ..errors import UsageError
from . import estimate, partition, plan, profile
from .train import add_options

if TYPE_CHECKING:
    from ..simulator import Costs, Memory

COST_FLAGS = {
    "--forward": "duration of a forward (1)",
    "--backward": "duration of a full backward (2, or I + W)",
    "--input-grad": "duration of I (half of B)",
    "--weight-grad": "duration of W (half of B)",
    "--overlap": "duration of an overlapped pair (F + B)",
    "--unshard": "duration of gathering a stage's weights, UNSHARD (0)",
    "--reshard": "duration of giving them back, RESHARD (0)",
    "--reduce-grad": "duration of summing a stage's gradients over data, REDUCE_GRAD (0)",
    "--message": "size of a stage's output, for --bandwidth (1)",
}
"""One number for all stages, or one for each."""
LINK_FLAGS = {
    "--latency": "time data takes between different ranks (0)",
    "--bandwidth": "size that a link carries in a unit of time, message after message (no limit)",
}
MEMORY_FLAGS = {
    "--activation-bytes": "what F keeps of one micro-batch",
    "--input-bytes": "the part of it that stays when the rest is recomputed (0)",
    "--weight-bytes": "one copy of the parameters (0)",
    "--gradient-bytes": "their gradients (0)",
    "--optimizer-bytes": "the optimizer's state (0)",
}
REPORTS = {
    "--junit": "write JUnit XML",
    "--gradescope": "write Gradescope's results.json",
    "--markdown": "write feedback for a student",
    "--classroom": "write what GitHub Classroom's reporter reads",
}
_NUMBER = re.compile(
    r"[+-]?(\d{1,18}/\d{1,18}|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)",
    re.ASCII | re.IGNORECASE,
)
SEARCH_FLAGS = ("memory_limit", "placement", "weight_grad_memory", "exact", "objective")
"""Arguments of ``auto``; ``weight_grad_memory`` also goes with bytes."""


class Parser(argparse.ArgumentParser):
    """A parser that raises what argparse would print: every error leaves by one door."""

    def error(self, message: str) -> NoReturn:
        """Raise the message with the usage of the command, as a UsageError."""
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def name_of(flag: str) -> str:
    """The name of a flag's value: ``input_grad`` for ``--input-grad``."""
    return flag[2:].replace("-", "_")


def costs_of(args: argparse.Namespace) -> "Costs":
    """The Costs that the flags describe. Raises UsageError for impossible ones."""
    from ..simulator import Costs

    given = {name_of(flag): getattr(args, name_of(flag)) for flag in (*COST_FLAGS, *LINK_FLAGS)}
    given |= {
        "recompute": getattr(args, "recompute_time", None),
        "step": getattr(args, "step_time", None),
    }
    return Costs(**{name: value for name, value in given.items() if value is not None})


def memory_of(args: argparse.Namespace) -> "Memory | None":
    """The Memory that the flags describe, or None without any.

    Raises UsageError for impossible ones.
    """
    from ..simulator import Memory

    names = ("activations", "inputs", "weights", "gradients", "optimizer_state")
    given = {
        name: getattr(args, name_of(flag)) for name, flag in zip(names, MEMORY_FLAGS, strict=True)
    }
    if all(value is None for value in given.values()):
        return None
    if args.weight_grad_memory is not None:
        given["weight_grad_share"] = args.weight_grad_memory
    return Memory(**{name: value or 0 for name, value in given.items()})


def number(text: str) -> float:
    """Read a cost: a fraction such as 27418/3, or whatever Python prints: 2, 0.5, 1e-05.

    `Fraction` alone would not do: it would compute 1e999999999.
    """
    if not _NUMBER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 2, 0.5 or 27418/3")
    try:
        value = float(Fraction(text)) if "/" in text else float(text)
    except ZeroDivisionError:
        raise argparse.ArgumentTypeError(f"{text!r} divides by zero") from None
    if math.isinf(value):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number such as 2, 0.5 or 27418/3: the largest is 1.8e308"
        )
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def per_stage(text: str) -> float | tuple[float, ...]:
    """Read one number for all stages, or one per stage: 2 or 1,1,2,1."""
    numbers = tuple(number(part.strip()) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def pace(text: str) -> tuple[float, ...]:
    """Read F,B[,W] in milliseconds; returns seconds."""
    durations = tuple(number(part.strip()) / 1000 for part in text.split(","))
    if len(durations) not in (2, 3) or min(durations) <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not F,B or F,B,W in milliseconds, such as 10,20"
        )
    return durations


def only(*values: str) -> Callable[[str], str]:
    """A reader that takes one of these values."""

    def one_of(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"it is one of {', '.join(values)}, not {text!r}")
        return text

    return one_of


def parser(commands: Mapping[str, Callable[[argparse.Namespace], int]]) -> Parser:
    """Make the parser.

    ``args.command`` will be the function, of those given, for the command that was asked for.
    """
    top = Parser(prog="pipelab", description="Pipeline parallelism: see it, predict it, run it.")
    top.add_argument("--version", action="version", version=f"pipelab {__version__}")
    added = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, summary: str, *, json: bool = True) -> argparse.ArgumentParser:
        one = added.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        one.set_defaults(command=commands[name])
        if json:
            one.add_argument(
                "--json", action="store_true", help="one JSON object on standard output"
            )
        return one

    _lab(command("lab", "open the course in JupyterLab, after a short self-check", json=False))
    command("doctor", "what this machine has, what is missing, and what to do about it")
    _schedule(command("schedule", "print a schedule, or write it as CSV in torch's notation"))
    _simulate(command("simulate", "predict makespan, bubbles and peaks of a schedule"))
    _check(command("check", "say whether a schedule can run, and if not, why"))
    _train(
        command("train", "train a small model for real under a schedule; measured beside predicted")
    )
    _profile(command("profile", "measure what each layer of a small model takes and keeps"))
    _partition(command("partition", "cut a profiled model into stages, at best"))
    estimate.add_flags(command("estimate", "seconds and bytes of one layout on many GPUs"))
    plan.add_flags(command("plan", "layouts of a model on so many GPUs, ranked, with reasons"))
    _grade(command("grade", "grade exercises, or a whole class"))
    _handout(command("handout", "the students' copy of notebooks and exercises"))
    _autograder(command("autograder", "files for Gradescope, GitHub Classroom and Docker"))
    return top


def _counts(added: argparse.ArgumentParser, default: str = "") -> None:
    added.add_argument("--ranks", type=int, metavar="P", help="devices" + default)
    added.add_argument(
        "--microbatches", type=int, metavar="M", help="micro-batches of a step" + default
    )
    added.add_argument("--stages-per-rank", type=int, metavar="V", help="stages on each rank")


def _costs(added: argparse.ArgumentParser) -> None:
    for flag, summary in COST_FLAGS.items():
        added.add_argument(flag, type=per_stage, metavar="X[,X…]", help=summary)
    for flag, summary in LINK_FLAGS.items():
        added.add_argument(flag, type=number, metavar="X", help=summary)


def _search(added: argparse.ArgumentParser) -> None:
    auto = added.add_argument_group("for auto, the searched schedule")
    auto.add_argument(
        "--memory-limit",
        type=number,
        metavar="X",
        help="activations of one micro-batch through all layers of a rank that it may hold (P, as "
        "1F1B)",
    )
    auto.add_argument(
        "--placement", metavar="loop|v", help="one stage per rank, or two in a V (loop)"
    )
    auto.add_argument(
        "--weight-grad-memory",
        type=number,
        metavar="SHARE",
        help="share of them that W gives back (0.5)",
    )
    auto.add_argument(
        "--objective",
        metavar="makespan|span",
        help="what is to be short: first start to last end over all ranks, or on the rank where it "
        "takes longest (makespan)",
    )
    auto.add_argument(
        "--exact", action="store_true", help="search on for the optimum, with OR-tools; small cases"
    )


def _lab(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--port", type=int, metavar="N", help="exactly this port (default: a free one from 8888)"
    )
    added.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    added.add_argument("--no-check", action="store_true", help="skip the self-check")


def _schedule(added: argparse.ArgumentParser) -> None:
    added.add_argument("name", nargs="?", metavar="NAME")
    added.add_argument("--list", action="store_true", help="the schedules there are")
    _counts(added)
    _costs(added)
    _search(added)
    added.add_argument("--csv", metavar="FILE", help="write CSV; - for standard output")


def _simulate(added: argparse.ArgumentParser) -> None:
    added.add_argument("name", nargs="?", metavar="NAME|FILE.csv")
    added.add_argument("--compare", metavar="NAME,NAME,…", help="several schedules side by side")
    _counts(added)
    _costs(added)
    _search(added)
    added.add_argument(
        "--recompute",
        choices=["in-backward", "early"],
        help="recompute each forward before its backward",
    )
    added.add_argument(
        "--recompute-time",
        type=per_stage,
        metavar="X[,X…]",
        help="duration of recomputing a forward",
    )
    added.add_argument(
        "--optimizer",
        choices=["local", "barrier"],
        help="step when the rank is done, or when all are",
    )
    added.add_argument(
        "--step-time", type=per_stage, metavar="X[,X…]", help="duration of an optimizer step (0)"
    )
    added.add_argument(
        "--steps", type=int, metavar="N", help="with --optimizer: so many steps in a row (1)"
    )
    memory = added.add_argument_group(
        "memory of a stage, in bytes; with any of them the peaks are shown"
    )
    for flag, summary in MEMORY_FLAGS.items():
        memory.add_argument(flag, type=per_stage, metavar="X[,X…]", help=summary)
    added.add_argument("--explain", action="store_true", help="why each rank stands idle, by cause")
    added.add_argument(
        "--timeline",
        action="store_true",
        help="draw when each action runs, as wide as the terminal",
    )


def _check(added: argparse.ArgumentParser) -> None:
    added.add_argument("file", metavar="FILE.csv")
    added.add_argument(
        "--transport",
        choices=["tagged", "ordered", "blocking"],
        default="tagged",
        help="what carries the messages: any that is asked for, in the order of sends (NCCL), or "
        "sends that block (tagged)",
    )


def _grade(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "names", nargs="*", metavar="NAME", help="exercises, such as 06 or one_f_one_b (all)"
    )
    added.add_argument(
        "--exercises", metavar="DIR", help="where they are (the nearest folder of that name)"
    )
    added.add_argument(
        "--student", metavar="ID", help="sizes and data of some tests follow from it"
    )
    added.add_argument(
        "--seconds", type=number, default=60, metavar="S", help="that a test may take (60)"
    )
    added.add_argument(
        "--guesses",
        action="store_true",
        help="a point for each guess locked and each goal reached in the notebooks (none)",
    )
    whole = added.add_argument_group("for a class")
    whole.add_argument(
        "--submissions",
        metavar="DIR",
        help="a folder or a zip per student, as a platform hands them out, or a zip of it all",
    )
    whole.add_argument("--out", metavar="DIR", help="where its results and its grade book go")
    whole.add_argument(
        "--roster", metavar="FILE.csv", help="id, name, e-mail: who hands in nothing is in the book"
    )
    whole.add_argument(
        "--hidden", metavar="DIR", help="more tests, such as DIR/06_one_f_one_b/test_one_f_one_b.py"
    )
    whole.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="STUDENT",
        help="grade this one even if nothing has changed; can be given several times",
    )
    whole.add_argument("--jobs", type=int, metavar="N", help="students side by side (the cores)")
    whole.add_argument("--anonymous", action="store_true", help="codes in place of names")
    for flag, what in REPORTS.items():
        added.add_argument(flag, metavar="FILE", help=what)


def _handout(added: argparse.ArgumentParser) -> None:
    added.add_argument("folder", metavar="DIR")
    added.add_argument(
        "--exercises",
        metavar="DIR",
        help="where the exercises are (the nearest folder of that name)",
    )


def _autograder(added: argparse.ArgumentParser) -> None:
    added.add_argument("folder", metavar="DIR")
    added.add_argument("names", nargs="*", metavar="NAME", help="exercises, such as 06 (all)")
    added.add_argument(
        "--exercises",
        metavar="DIR",
        help="where the exercises are (the nearest folder of that name)",
    )
    added.add_argument("--hidden", metavar="DIR", help="more tests, which are never handed out")


def _model(added: argparse.ArgumentParser) -> None:
    added.add_argument("--model", default="gpt", metavar="gpt|mlp", help="(gpt)")
    added.add_argument(
        "--layers", type=int, default=8, metavar="L", help="layers, first and last included (8)"
    )
    added.add_argument(
        "--width", type=int, default=64, metavar="D", help="size of the hidden vectors (64)"
    )
    added.add_argument(
        "--device", type=only("auto", "cpu", "cuda"), default="auto", metavar="auto|cpu|cuda"
    )


def _profile(added: argparse.ArgumentParser) -> None:
    _model(added)
    profile.add_flags(added)


def _partition(added: argparse.ArgumentParser) -> None:
    added.add_argument("file", metavar="FILE.json", help="of pipelab profile --save")
    added.add_argument("--ranks", type=int, required=True, metavar="P", help="devices")
    added.add_argument(
        "--stages-per-rank", type=int, metavar="V", help="stages that each rank has (1)"
    )
    added.add_argument(
        "--placement",
        type=only("loop", "v"),
        metavar="loop|v",
        help="which stages share a rank: 0 1 0 1, or 0 1 1 0 (the schedule's)",
    )
    added.add_argument(
        "--microbatches", type=int, metavar="M", help="micro-batches of a step (twice the ranks)"
    )
    added.add_argument("--schedule", default="1f1b", metavar="NAME", help="(1f1b)")
    added.add_argument(
        "--bandwidth", type=number, metavar="BYTES_PER_S", help="of a link (no limit)"
    )
    added.add_argument(
        "--latency", type=number, default=0.0, metavar="S", help="of a link, in seconds (0)"
    )
    added.add_argument(
        "--memory-limit", type=number, metavar="BYTES", help="that a rank may hold (no limit)"
    )
    added.add_argument("--optimizer", default="adam", metavar="sgd|momentum|adam", help="(adam)")
    added.add_argument(
        "--sizes",
        type=partition.sizes,
        metavar="3,2,3",
        help="layers of each stage: what these give, instead of the best",
    )


def _train(added: argparse.ArgumentParser) -> None:
    added.add_argument("--schedule", default="1f1b", metavar="NAME|FILE.csv", help="(1f1b)")
    _counts(added, " (2 and 4, or the file's)")
    added.add_argument("--steps", type=int, default=5, metavar="N", help="optimizer steps (5)")
    _model(added)
    added.add_argument(
        "--partition",
        type=partition.sizes_or_word,
        default="even",
        metavar="auto|even|3,2,3",
        help="layers of each stage; auto measures them first (even)",
    )
    hosts = "auto", "processes", "threads", "torchrun"
    added.add_argument(
        "--workers",
        type=only(*hosts),
        default="auto",
        metavar="|".join(hosts),
        help="what the ranks are",
    )
    added.add_argument(
        "--executor",
        type=only("pipelab", "torch"),
        default="pipelab",
        metavar="pipelab|torch",
        help="whose engine; torch's own is shown beside ours (pipelab)",
    )
    added.add_argument(
        "--pace",
        type=pace,
        metavar="F,B[,W]",
        help="paced: milliseconds each action is made to last",
    )
    added.add_argument(
        "--nnodes",
        type=int,
        metavar="N",
        help="hosts, each told its --node-rank and the --master (torchrun)",
    )
    added.add_argument(
        "--node-rank", type=int, metavar="K", help="which of the hosts this is, from 0"
    )
    added.add_argument("--master", metavar="HOST:PORT", help="where the first host listens")
    added.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of weights and batches (0)"
    )
    added.add_argument("--timeout", type=number, metavar="S", help="seconds that any wait may last")
    add_options(added)
    added.add_argument(
        "--trace", metavar="FILE.json", help="write the last step for chrome://tracing and Perfetto"
    )
    added.add_argument(
        "--html", metavar="FILE.html", help="write the last step as one animated page"
    )
