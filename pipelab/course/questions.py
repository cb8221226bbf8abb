"""The questions of the course, by slug: NOTEBOOK-WORD. Answers are computed, never written down.

Times are shares of one batch: one device alone takes 100 for it, as in the lab.
"""

from collections.abc import Sequence

from ..catalogue import build
from ..errors import UnknownName
from ..layout.memory import states_of
from ..schedule import Kind, Mesh
from ..simulator import Costs, Link, simulate
from ..timeline import Timeline
from .choosing import QUESTIONS as CHOOSING
from .kinds import Choice, Curve, Number, Option, Order, Question

WHOLE = 100.0
COUNTS = (1, 2, 4, 8, 16, 32)


def step(
    name: str,
    *,
    ranks: int = 4,
    microbatches: int = 8,
    stages_per_rank: int = 1,
    latency: float = 0.0,
) -> Timeline:
    """The timeline of one batch where one device alone takes 100; a backward costs two forwards."""
    per_rank = stages_per_rank if stages_per_rank > 1 else None
    schedule = build(name, ranks=ranks, microbatches=microbatches, stages_per_rank=per_rank)
    share = WHOLE / (3 * schedule.stages * microbatches)
    return simulate(schedule, Costs(share, backward=2 * share, latency=latency))


def _bubble(name: str, microbatches: int = 8) -> float:
    return 100 * float(step(name, microbatches=microbatches).metrics["bubble_fraction"])


def _interleaved(stages_per_rank: int) -> float:
    name = "interleaved-1f1b" if stages_per_rank > 1 else "1f1b"
    return step(name, stages_per_rank=stages_per_rank, latency=1).makespan


def _uneven(*shares: float) -> float:
    """1F1B with stages of these shares: the time of the batch, where one device alone takes 100."""
    m = 8
    each = [WHOLE * share / sum(shares) / (3 * m) for share in shares]
    schedule = build("1f1b", ranks=len(shares), microbatches=m)
    return simulate(schedule, Costs(each, backward=[2 * one for one in each])).makespan


def _on_rank_0(ranks: int) -> float:
    """1F1B, 32 micro-batches: what rank 0 holds, if all layers keep 100 of one of them."""
    timeline = step("1f1b", ranks=ranks, microbatches=32)
    mine = timeline.schedule.rank == 0
    return WHOLE * float(timeline.bytes_held[mine].max()) / ranks


def _without_a_flush() -> float:
    """What a batch of 8 takes with PipeDream, when many follow one another."""
    two, six = (step("pipedream", microbatches=8 * n).makespan * n for n in (2, 6))
    return (six - two) / 4


def _of_zero_3(microbatches: int) -> float:
    """Bytes of ZeRO 3 with two copies, where one sum of the gradients is 100."""
    schedule = build("1f1b", ranks=2, microbatches=microbatches).with_data_parallel(zero=3)
    mine = schedule.kind[schedule.rank == 0]
    halves = sum(int((mine == kind).sum()) for kind in (Kind.UNSHARD, Kind.REDUCE_GRAD))
    return WHOLE * halves / 2


def shape(ranks: int, *, devices: int = 8, microbatches: int = 16) -> Timeline:
    """A batch on copies of a pipeline; a message takes 0.2, sending all weights once takes 10."""
    mesh = Mesh(data=devices // ranks)
    share = WHOLE / (3 * ranks * microbatches)
    schedule = build("1f1b", ranks=ranks, microbatches=microbatches // mesh.data)
    costs = Costs(
        share,
        backward=2 * share,
        latency=0.2,
        weights=10 / ranks,
        data_link=Link(bandwidth=1),
    )
    return simulate(schedule, costs, mesh=mesh)


def _row(name: str, rank: int) -> Sequence[str]:
    """What a rank of four runs with four micro-batches, without its stage: F0, B0 and so on."""
    actions = build(name, ranks=4, microbatches=4).actions[rank]
    return [str(action).lstrip("0123456789") for action in actions]


_QUESTIONS: dict[str, Question] = {
    "00-four-devices": Number(
        "One device takes 100 for a batch. Four devices hold a quarter of the model each, and the "
        "batch is cut into 8 micro-batches, which follow one another through all four. How long "
        "does the batch take?",
        lambda: step("gpipe").makespan,
        "At the beginning the last device waits, and at the end the first one does. 25 would need "
        "all four busy all the time. What is missing is the bubble.",
        "What if the 8 micro-batches were 32?",
        low=0, high=110, light={"panels": ["causes"]},
    ),
    "01-more-devices": Number(
        "Four devices hold a quarter of the model each, and the batch goes through them in one "
        "piece. You buy four more, and each of the eight holds an eighth. By how much does the "
        "batch get faster?",
        lambda: WHOLE * (step("naive", microbatches=1).makespan
                         / step("naive", ranks=8, microbatches=1).makespan - 1),
        "The stages depend on one another: at any moment one device works. Eight small steps take "
        "as long as four large ones.",
        "What if the batch were cut, too?",
        unit="%", low=-50, high=150,
    ),
    "01-crossing": Choice(
        "The model is cut between two devices. What has to cross the cut in one training step?",
        (
            Option("the weights of the next layers",
                   "Weights stay where they are: that is why a cut costs so little."),
            Option("activations forward, and their gradient back"),
            Option("activations forward, and the gradients of all weights back",
                   "The gradient of a weight is needed where the weight is, and nowhere else."),
        ),
        "Both have the size batch × width, whatever the layers weigh.",
        "What if you cut where the layer is narrow?",
    ),
    "02-bubble": Curve(
        "GPipe on 4 devices. Draw the bubble fraction (idle time of all time) for a batch in m "
        "micro-batches.",
        COUNTS,
        lambda: [_bubble("gpipe", m) for m in COUNTS],
        "micro-batches m", "bubble fraction",
        "Filling and draining take p − 1 slots, the work m: (p − 1)/(m + p − 1). It never gets to "
        "0, and each doubling helps less.",
        "What if there were 8 devices?",
        unit="%",
    ),
    "02-batchnorm": Choice(
        "A batch is cut into micro-batches. The loss is weighted right. For which layer does the "
        "result change all the same?",
        (
            Option("BatchNorm"),
            Option("LayerNorm", "LayerNorm looks at each sample alone, and a sample is never cut."),
            Option("none: sums do not depend on how they are cut",
                   "True of sums over samples. A layer that compares samples is not one."),
        ),
        "BatchNorm takes mean and variance from what it sees, and that is a micro-batch now.",
        "What if the micro-batch is a single sample?",
    ),
    "03-order": Order(
        "Rank 2 of 4 ranks, 4 micro-batches. It runs each backward as soon as rank 3 has sent the "
        "gradient, and never holds more than 2 micro-batches. In which order does it work?",
        ("F0", "F1", "F2", "F3", "B0", "B1", "B2", "B3"),
        lambda: _row("1f1b", 2),
        "Fill until the limit, then a backward for each forward, then drain. Memory is given back "
        "as early as possible.",
        "What if the rank were the last? The first?",
    ),
    "03-time": Number(
        "GPipe takes 34.4 for a batch on 4 devices with 8 micro-batches, and each device holds all "
        "8. Now no device may hold more than 4. How long does the batch take, with the best order?",
        lambda: step("1f1b").makespan,
        "As long as before: the order changes what is held, not how long filling and draining "
        "take. Many remember it the other way round.",
        "What if they may hold only 2?",
        low=20, high=70,
    ),
    "04-stages": Curve(
        "4 ranks, 8 micro-batches, latency 1 from rank to rank. The same model is cut into v "
        "stages per rank, which take turns. Draw the time per batch; one device alone takes 100.",
        (1, 2, 3, 4),
        lambda: [_interleaved(v) for v in (1, 2, 3, 4)],
        "stages per rank v", "time per batch",
        "Two stages halve the bubble. But every micro-batch pays the latency v times as often, and "
        "from three on that costs more.",
        "What if the latency were 0?",
        low=0, high=100,
    ),
    "05-holes": Number(
        "1F1B's bubble is 27.3 % here (p = 4, m = 8). The backward is cut into I, for which the "
        "rank before waits, and W, for which nobody does; F = I = W. With 1F1B's memory, how much "
        "bubble is left if W's fill the holes?",
        lambda: _bubble("zb-h1"),
        "Idle time per rank is (p − 1)(F + I − W) instead of (p − 1)(F + I + W): a third.",
        "What if a rank may hold twice as much?",
        unit="%", low=0, high=40,
    ),
    "05-barrier": Choice(
        "ZB-H2 leaves no rank idle between its first and its last action. Five steps follow one "
        "another, with a barrier at each optimizer step. What is idle then?",
        (
            Option("nothing: there was no bubble to begin with",
                   "No bubble inside a rank's own span; but ranks start and end at other times."),
            Option("at each step the staggered start and end come back as waiting"),
            Option("as much as with 1F1B: the barrier undoes it",
                   "The W's still fill the holes inside; only the stagger comes back."),
        ),
        "A late start is free only if the next step may begin before the last rank has ended.",
        "What if the norm of the gradients is checked afterwards?",
    ),
    "06-slow-stage": Number(
        "1F1B takes 34.4 for a batch with four equal stages and 8 micro-batches. Now the same "
        "model is cut so that the last stage costs twice as much as each of the others. One "
        "device alone still takes 100. How long does the batch take?",
        lambda: _uneven(1, 1, 1, 2),
        "The slowest rank sets the pace: each of the 8 micro-batches passes it, and the other "
        "three wait. It has 40 of the 100, and the way there and back is added.",
        "What if the first stage were the slow one?",
        low=20, high=80,
    ),
    "06-by-parameters": Choice(
        "A GPT has a large vocabulary: its embedding and its head have as many parameters as "
        "several blocks each. You cut it so that all ranks have equally many parameters. Which "
        "rank is the slowest?",
        (
            Option("the first: it has the embedding, the largest matrix of all",
                   "The embedding looks rows up. It has many parameters and hardly any work."),
            Option("none: equally many parameters are equally much work",
                   "True of the blocks alone. An embedding of the same size does almost nothing."),
            Option("one in the middle: it has blocks and nothing else"),
        ),
        "The ranks at both ends are filled up with the embedding and the head, so the blocks go to "
        "those between.",
        "What if the cuts gave each rank equally many layers?",
    ),
    "07-ranks": Curve(
        "All layers of a model keep 100 for one micro-batch. 1F1B runs 32 micro-batches of this "
        "size on p devices, and the layers are shared out equally. Draw what rank 0 holds at its "
        "fullest.",
        (1, 2, 4, 8, 16),
        lambda: [_on_rank_0(p) for p in (1, 2, 4, 8, 16)],
        "ranks p", "activations on rank 0",
        "Rank 0 has a p-th of the layers and p micro-batches in flight: the p's cancel. More "
        "devices share out the weights, but not what rank 0 keeps.",
        "What if it were GPipe?",
        low=0, high=160,
    ),
    "07-parameter": Number(
        "A parameter of 32 bits has 4 bytes. How many bytes must be held for it while Adam trains "
        "it?",
        lambda: 4.0 * (2 + states_of("adam")),
        "4 for the weight, 4 for its gradient, and 4 each for the two means that Adam keeps. With "
        "bf16 and 32-bit masters it is 18.",
        "What if the optimizer were plain SGD?",
        unit="bytes", low=0, high=32,
    ),
    "08-hidden": Number(
        "GPipe takes 34.4 on 4 devices with 8 micro-batches, if nothing takes time on the way. "
        "Now each of the 48 messages of a batch is under way for 1.5, and nobody is kept busy by "
        "it. How long does the batch take?",
        lambda: step("gpipe", latency=1.5).makespan,
        "While a message travels, its rank works on other micro-batches. Only the first way down "
        "and the last way up are waited for: 2(p − 1) = 6 messages of 48.",
        "What if it were 1F1B?",
        low=20, high=120,
    ),
    "08-faster-network": Choice(
        "In a measured run rank 0 is idle for 40 % of the step, and for 2 % of the step data is "
        "under way to it. You buy a network that is ten times as fast. How much shorter is the "
        "step?",
        (
            Option("about 36 %: nine tenths of the idle time",
                   "Idle is not transfer. Most of it is waiting until another rank has finished."),
            Option("about 2 %"),
            Option("20 %: of all waiting, half is on the way there and half on the way back",
                   "Neither half is on the way: the other rank is still computing."),
        ),
        "A faster network shortens what is under way, and nothing else. Waiting is cured by cuts, "
        "by the order, and by more micro-batches.",
        "What if the messages were ten times as large?",
    ),
    "09-flush": Number(
        "4 ranks, 1F1B, batch after batch of 8 micro-batches: a batch takes 34.4, and 9.4 of that "
        "is the bubble. Now nobody waits for the end of a batch, and the forwards of the next one "
        "follow at once. How long does a batch take, when many follow one another?",
        _without_a_flush,
        "The pipeline is filled once, and never drained: no rank is idle any more. 100/4.",
        "What are the weights with which those early forwards run?",
        low=0, high=60,
    ),
    "09-versions": Choice(
        "Rank 0 of 4 has sent four micro-batches ahead when the first backward arrives, and steps "
        "its optimizer after every backward. A backward must use the weights of its forward. How "
        "many versions of its weights does rank 0 keep?",
        (
            Option("one: each backward follows from the newest weights",
                   "Three steps lie between the forward of micro-batch 3 and its backward: with "
                   "other weights, it is the gradient of no function."),
            Option("four: one for each micro-batch in flight"),
            Option("two: the newest, and the one before",
                   "Only if it steps once for every four backwards or more: that is 2BW."),
        ),
        "Rank s has p − s micro-batches in flight, each with the weights that it has seen.",
        "What if it stepped only after every fourth backward?",
    ),
    "09-rate": Choice(
        "PipeDream on 2 ranks learns well with some learning rate, near the largest that works. "
        "Now the same model is cut for 8 ranks. What about that learning rate?",
        (
            Option("it works as before: every gradient is right",
                   "Right for weights that are up to seven steps old. The weights have moved on."),
            Option("it is too large now, and training may never end well"),
            Option("it could be larger: the gradients of seven steps average out",
                   "They are not averaged. Each is applied in full, up to seven steps late."),
        ),
        "Late gradients push on after the weights have passed the valley. The later they are, the "
        "smaller the steps must be.",
        "What if momentum were 0?",
    ),
    "10-batch": Number(
        "16 devices. 4 ranks make a pipeline, 2 devices share every layer, and copies take up the "
        "rest. Each copy runs 8 micro-batches of 4 samples for a step of the optimizer. How many "
        "samples has the batch?",
        lambda: 16 / (4 * 2) * 8 * 4,
        "2 copies × 8 micro-batches × 4 samples. Ranks and devices that share a layer work on the "
        "same samples: only copies make the batch larger.",
        "What if tensor were 4, on the same 16 devices?",
        low=0, high=600,
    ),
    "10-node": Choice(
        "Two nodes of 4 devices each. Links inside a node are ten times as fast as those between. "
        "You train on 2 copies × 2 ranks × 2 that share every layer. Who must stay together on a "
        "node?",
        (
            Option("copies: they exchange the gradients of all weights",
                   "Much at once, but once a step, and nobody waits for it between micro-batches."),
            Option("those who share a layer"),
            Option("the ranks of a pipeline: every micro-batch crosses from one to the next",
                   "One activation per boundary, and other micro-batches hide its way."),
        ),
        "Those who share a layer sum activations four times for each block and micro-batch, and "
        "must wait each time.",
        "What if a layer were shared by 8?",
    ),
    "10-zero": Number(
        "Two copies of a pipeline sum their gradients once a step: call the bytes that a worker "
        "sends for this 100. ZeRO 3 divides the weights, too. So they are gathered before every "
        "forward and every backward, and gradients are summed after every micro-batch. There are "
        "8 micro-batches. How many bytes are sent now?",
        lambda: _of_zero_3(8),
        "To sum is 2 halves: reduce, then gather. ZeRO 3 has 3 halves, two gathers and one reduce, "
        "for each of 8 micro-batches: 24 instead of 2.",
        "What if there were one micro-batch?",
        low=0, high=2000,
    ),
    "10-shape": Curve(
        "8 devices, and a batch of 16 micro-batches. p of the devices make a pipeline (1F1B), and "
        "8/p copies of it share the batch. One device alone takes 100. A message between ranks is "
        "under way for 0.2; sending all weights once takes 10. Draw the time per batch.",
        (1, 2, 4, 8),
        lambda: [shape(p).makespan for p in (1, 2, 4, 8)],
        "ranks p of each copy", "time per batch",
        "Both ends lose. Eight copies send all their gradients, one pipeline of eight has the "
        "longest bubble and the most messages.",
        "What if the network were ten times as fast?",
        low=0, high=40,
    ),
}  # fmt: skip
QUESTIONS: dict[str, Question] = _QUESTIONS | CHOOSING
"""All of them, by slug."""


def question(slug: str) -> Question:
    """The question under a slug.

    Raises UnknownName, which lists them.

    >>> question("03-time").kind
    'number'
    """
    if slug not in QUESTIONS:
        raise UnknownName("question", slug, QUESTIONS)
    return QUESTIONS[slug]
