"""What each rank of a pipeline holds, by part: of a profiled model, or of a large one by name.

In: a Choice, all that can be switched. Out: bytes of every rank, whether they fit a GPU, and what
single change would make them fit.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..catalogue import build, entry
from ..errors import UnknownName, UsageError
from ..layout import Profile
from ..layout.memory import OPTIMIZERS, rank_bytes, stage_memory
from ..layout.planner import DEVICES, MODELS, Layout, Transformer
from ..layout.planner.footprint import FITS, TIGHT, holdings, rank_parts, verdict
from ..layout.planner.layout import problem
from ..layout.planner.step_seconds import has_closed_form
from ..schedule import Schedule

PARTS = ("weights", "gradients", "optimizer", "activations", "logits")
SCHEDULES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1")
RECOMPUTE = ("none", "selective", "full")
PRECISIONS = ("fp32", "bf16")
MOST_STEPS = (1, 2, 4, 8, 16, 32, 64)
GB = 1e9


@dataclass(frozen=True)
class Choice:
    """One configuration whose memory is asked for.

    Attributes:
        model: a name of the planner's, or "profile".
        device: the GPU, a name of the planner's; with a profile, without effect.
        ranks: GPUs of the pipeline, each with as many layers.
        microbatches: of a step.
        microbatch: samples of one; with a profile, as it was measured.
        schedule: one of ``SCHEDULES``; interleaved has two stages per rank.
        recompute: "none", "selective" (attention's matrix) or "full"; with a profile, "none" or
            "full" (in the backward).
        attention: "flash", which never keeps attention's matrix, or "plain"; not with a profile.
        precision: "fp32", or "bf16" with 32-bit gradients and master weights.
        optimizer: "adam" or "sgd"; with a profile also "momentum".
        profile: of the layers, where model is "profile".
        limit: bytes of a GPU, where there is a profile; 0 for none.
    """

    model: str = "llama-7b"
    device: str = "h100"
    ranks: int = 1
    microbatches: int = 8
    microbatch: int = 1
    schedule: str = "1f1b"
    recompute: str = "none"
    attention: str = "flash"
    precision: str = "bf16"
    optimizer: str = "adam"
    profile: Profile | None = None
    limit: float = 0.0

    @property
    def layers(self) -> int:
        """Of the model."""
        return len(self.profile.layers) if self.profile else self.shape.layers

    @property
    def shape(self) -> Transformer:
        """Of a model by name."""
        if self.model not in MODELS:
            raise UnknownName("model", self.model, MODELS)
        return MODELS[self.model]

    @property
    def gpu(self) -> float:
        """Bytes of the GPU; 0 without a limit."""
        return self.limit if self.profile else DEVICES[self.device].memory * GB

    @property
    def stages_per_rank(self) -> int:
        """Two where the schedule is interleaved."""
        return 2 if self.schedule == "interleaved-1f1b" else 1

    def options(self) -> dict[str, list[Any]]:
        """The values of each switch, in order."""
        p = range(1, self.layers + 1)
        if self.profile:
            return {
                "ranks": [n for n in p if n <= 16],
                "microbatches": list(MOST_STEPS),
                "schedule": list(SCHEDULES),
                "recompute": ["none", "full"],
                "optimizer": list(OPTIMIZERS),
            }
        return {
            "model": list(MODELS),
            "device": list(DEVICES),
            "ranks": [n for n in p if self.layers % n == 0],
            "microbatches": list(MOST_STEPS),
            "microbatch": [1, 2, 4, 8],
            "schedule": list(SCHEDULES),
            "recompute": list(RECOMPUTE),
            "attention": ["plain", "flash"],
            "precision": list(PRECISIONS),
            "optimizer": ["sgd", "adam"],
        }

    def problem(self) -> str:
        """Why there is no such configuration; "" where there is one."""
        if not self.profile:
            found = problem(self._layout(), self.shape, DEVICES[self.device])
            return found[1].split(";")[0].rstrip(".") + "." if found else ""
        stages = self.ranks * self.stages_per_rank
        if stages > self.layers:
            return f"{stages} stages are more than the {self.layers} layers."
        return entry(self.schedule).problem(self.ranks, self.microbatches, self._per_rank) or ""

    @cached_property
    def bytes(self) -> list[dict[str, float]]:
        """Of every rank by part, and ``total``. Raises UsageError for what cannot be."""
        wrong = self.problem()
        if wrong:
            raise UsageError(wrong)
        if self.profile:
            return self._of_profile(self.profile)
        layout = self._layout()
        stages = layout.stages
        whole = replace(layout, sizes=(self.layers // stages,) * stages)  # all ranks, one by one
        counted = None if has_closed_form(layout) else self._schedule()
        return [rank_parts(self.shape, layout, one) for one in holdings(self.shape, whole, counted)]

    @property
    def fullest(self) -> int:
        """The rank that holds most."""
        return max(range(len(self.bytes)), key=lambda rank: self.bytes[rank]["total"])

    @property
    def total(self) -> float:
        """Bytes of that rank."""
        return self.bytes[self.fullest]["total"]

    @property
    def fits(self) -> str:
        """Whether the fullest rank fits: "yes", "tight" or "no".

        On a real GPU also buffers and fragments need room, which is not counted: above 75 % of it
        is tight, above 85 % no.
        """
        if not self.gpu:
            return "yes"
        if self.profile:
            return "yes" if self.total <= self.gpu else "no"
        return verdict(self.total, self.gpu / GB)

    def changes(self) -> list[tuple[str, "Choice"]]:
        """Single changes that leave the model and its training as they are, in words."""
        options = self.options()
        found = [(f"{value} recomputation", {"recompute": value}) for value in options["recompute"]]
        found += [(f"the schedule {name}", {"schedule": name}) for name in options["schedule"]]
        if "attention" in options:
            found.append(("flash attention", {"attention": "flash"}))
        more = [n for n in options["ranks"] if n > self.ranks]
        found += [(f"{n} ranks", {"ranks": n}) for n in more]
        found += [
            (f"micro-batches of {n}", {"microbatch": n})
            for n in options.get("microbatch", [])
            if n < self.microbatch
        ]
        return [
            (name, changed)
            for name, change in found
            if (changed := replace(self, **change)) != self and not changed.problem()
        ]

    def advice(self) -> list[tuple[str, float]]:
        """Of each kind of change the least that fits, with the bytes of the fullest rank then."""
        best: dict[str, tuple[str, float]] = {}
        for name, changed in self.changes():
            kind = name.split(" ")[-1] if "schedule" not in name else "schedule"
            if changed.fits == "yes" and kind not in best:
                best[kind] = (name, changed.total)
        return list(best.values())

    @property
    def _per_rank(self) -> int | None:
        return None if entry(self.schedule).fixed else self.stages_per_rank

    def _layout(self) -> Layout:
        return Layout(
            pipeline=self.ranks,
            stages_per_rank=self.stages_per_rank,
            microbatch=self.microbatch,
            batch=self.microbatch * self.microbatches,
            schedule=self.schedule,
            recompute=self.recompute,
            flash=self.attention == "flash",
            precision=self.precision,
            optimizer=self.optimizer,
        )

    def _schedule(self) -> Schedule:
        return build(
            self.schedule,
            ranks=self.ranks,
            microbatches=self.microbatches,
            stages_per_rank=self._per_rank,
        )

    def _of_profile(self, profile: Profile) -> list[dict[str, float]]:
        schedule = self._schedule()
        low, more = divmod(self.layers, schedule.stages)
        sizes = [low + (stage < more) for stage in range(schedule.stages)]
        memory = stage_memory(profile, sizes, self.optimizer)
        again = None if self.recompute == "none" else "in-backward"
        return [
            {name: float(value) for name, value in row.items()} | {"logits": 0.0}
            for row in rank_bytes(schedule, memory, recompute=again)
        ]


def amount(value: float) -> str:
    """Bytes as a person reads them, in powers of 1000 as a GPU's size is: "96.3 GB".

    >>> amount(96.3e9), amount(120_000)
    ('96.3 GB', '120 kB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{float(f'{value / size:.3g}'):g} {unit}"
    return f"{value:.0f} B"


def sentence(choice: Choice) -> str:
    """What the picture says: the fullest rank, whether it fits, what would make it fit."""
    wrong = choice.problem()
    if wrong:
        return wrong
    rank, total, gpu = choice.fullest, choice.total, choice.gpu
    same = sum(one["total"] >= 0.999 * total for one in choice.bytes)
    who = f"Rank {rank} holds most" if same < choice.ranks else "Each rank holds"
    if choice.ranks == 1:
        who = "One GPU holds"
    told = f"{who}: {amount(total)}." if "most" in who else f"{who} {amount(total)}."
    if not gpu:
        return told
    name = "This GPU" if choice.profile else f"A GPU ({choice.device})"
    told += f" {name} has {amount(gpu)}: "
    if choice.fits == "yes":
        return told + f"it fits, with {amount(gpu - total)} left."
    if choice.fits == "tight":
        return told + (
            f"tight. Above {FITS:.0%} little is left for buffers and fragments; above {TIGHT:.0%} "
            "runs end without memory."
        )
    advice = " · ".join(f"{name} ({amount(held)})" for name, held in choice.advice())
    more = f"One change would do: {advice}." if advice else "No single change makes it fit."
    return f"{told}it does not fit. {more}"
