"""One configuration: its text, the nearest possible one, and what theory says about it."""

import pytest

from pipelab import build, simulate
from pipelab.catalogue import names
from pipelab.errors import UnknownName, UsageError
from pipelab.widgets import Settings
from pipelab.widgets.nearest import offers
from pipelab.widgets.sizes import stage_memory
from pipelab.widgets.theory import bound, bound_number, formula


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings("auto", ranks=3, memory_limit=2.5),
        Settings("gpipe", stage_costs=(1, 2), recompute="early", model="gpt"),
    ],
)
def test_a_line_of_text_brings_a_configuration_back(settings):
    assert Settings.parse(settings.text) == settings


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("gpip ranks=4", UnknownName, "Did you mean 'gpipe'"),
        ("gpipe rank=4", UnknownName, "Did you mean 'ranks'"),
        (
            "gpipe 4",
            UsageError,
            "'4' is not a setting. A line is a schedule and settings, such as: 1f1b ranks=4",
        ),
        ("gpipe ranks=four", UsageError, "'four' is not a whole number"),
        ("gpipe forward=x", UsageError, "'x' is not a number"),
        ("gpipe forward=0", UsageError, "forward is 0; a cost is a number above 0"),
        ("gpipe forward=nan", UsageError, "forward is nan; a cost is a number above 0"),
        ("gpipe latency=inf", UsageError, "latency is inf; it is a number from 0"),
        ("auto memory_limit=-1", UsageError, "memory_limit is -1; it is a number from 0"),
        ("gpipe ranks=0", UsageError, "ranks is 0; it is a whole number, 1 or more"),
        ("gpipe recompute=late", UnknownName, "Valid names: none, in-backward, early"),
        ("", UsageError, "such as: 1f1b ranks=4"),
    ],
)
def test_a_line_that_cannot_be_read_says_why(line, error, says):
    with pytest.raises(error) as caught:
        Settings.parse(line)
    assert says in str(caught.value)


def test_times_are_read_to_the_last_digit():
    line = "1f1b forward=0.0024883061897336485 latency=1e-05 stage_costs=1E0,5e-324"
    read = Settings.parse(line)
    assert (read.forward, read.latency) == (0.0024883061897336485, 1e-05)
    assert read.stage_costs == (1.0, 5e-324)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "changes",
    [
        {"ranks": 5, "microbatches": 7},
        {"stages_per_rank": 3},
        {"recompute": "early", "stage_costs": (2, 1)},
    ],
)
def test_whatever_is_impossible_has_an_offer_that_is_possible(name, changes):
    settings = Settings(name).with_changes(**changes)
    try:
        settings.predict()
    except UsageError:
        found = offers(settings)
        assert found, settings.text
        for offer in found:
            assert settings.with_changes(**offer["changes"]).predict().makespan > 0


def test_offers_are_near_and_named():
    labels = [offer["label"] for offer in offers(Settings("dualpipe-v", ranks=5, microbatches=7))]
    assert labels == ["10 micro-batches", "3 ranks"]
    assert offers(Settings("auto", stages_per_rank=3))[0]["label"] == "1 stage per rank"
    pair = offers(Settings("dualpipe", ranks=5, microbatches=7))
    assert pair == [
        {"label": "4 ranks and 8 micro-batches", "changes": {"ranks": 4, "microbatches": 8}}
    ]


def test_early_recomputation_of_overlapped_actions_offers_the_other_kind():
    labels = [offer["label"] for offer in offers(Settings("dualpipe", recompute="early"))]
    assert labels == ["recompute in-backward"]


def test_bytes_of_a_stage_grow_with_its_width():
    mlp, gpt = stage_memory("mlp", 64), stage_memory("gpt", 64)
    assert (mlp.activations, mlp.weights) == (2 * 16 * 64 * 4, 4 * (64 * 64 + 64))
    assert (gpt.activations, gpt.inputs) == (16 * 4 * 64 * 64 * 4, 4 * 64 * 64 * 4)
    assert stage_memory("auto", 64) == mlp
    assert stage_memory("mlp", 128).weights > 3.9 * mlp.weights


def test_the_bound_is_never_above_the_makespan_and_says_what_it_means():
    for name in names():
        settings = Settings(name, ranks=4, microbatches=8, hold="microbatch")
        timeline = settings.predict()
        value, definition = bound(timeline, settings.costs(timeline.schedule.stages))
        assert 0 < value <= timeline.makespan * (1 + 1e-9), name
        assert "shorter" in definition
    tight = Settings("auto", microbatches=12, memory_limit=2, hold="microbatch")
    assert "within the memory limit" in bound(tight.predict(), tight.costs(4), 2.0)[1]
    v = Settings("zb-v", microbatches=12, hold="microbatch")
    assert "a weak bound" in bound(v.predict(), v.costs(8), 2.0)[1]
    assert "a weak bound" not in bound(v.predict(), v.costs(8), 4.0)[1]


def test_a_schedule_beyond_the_memory_limit_can_be_shorter_than_the_bound_within_it():
    below = Settings(memory_limit=2.0)  # % of the batch, where a micro-batch takes 3.1
    timeline = below.predict()
    value, meaning = bound(timeline, below.costs(4), below.limit_in_microbatches)
    assert "the limit is below that" in meaning and value > 0
    settings = Settings("gpipe", memory_limit=1.0, hold="microbatch")
    timeline = settings.predict()
    row = bound_number(timeline, settings.costs(4), 1.0, scale=10)
    assert row["value"] > 10 * timeline.makespan
    assert row["definition"].endswith("within the memory limit; this schedule holds more than that")
    free = bound_number(timeline, settings.costs(4), 0.0)
    assert free["definition"].endswith("with any amount of memory; the makespan is 22.2% longer")


def test_a_formula_is_filled_in_and_compared_with_the_timeline():
    settings = Settings("1f1b", latency=0.5, hold="microbatch")
    found = formula(settings, settings.predict(), scale=10)
    assert found["symbols"] | {"p": 4, "m": 8, "F": 10, "B": 20, "c": 5} == found["symbols"]
    assert found["value"] == found["found"] == pytest.approx(10 * settings.predict().makespan)
    assert (found["exact"], found["quantity"]) == (True, "makespan")
    ragged = Settings("interleaved-1f1b", microbatches=7, hold="microbatch")
    assert formula(ragged, ragged.predict())["exact"] is False


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "pipedream"},
        {"recompute": "early"},
        {"stage_costs": (1, 2)},
        {"schedule": "chimera"},
    ],
)
def test_where_no_formula_holds_there_is_none(changes):
    settings = Settings(hold="microbatch").with_changes(**changes)
    assert formula(settings, settings.predict()) == {}


def test_equal_stages_are_the_plain_simulation():
    assert (
        Settings("zb-h1", hold="microbatch").predict().makespan
        == simulate(build("zb-h1", ranks=4, microbatches=8)).makespan
    )
