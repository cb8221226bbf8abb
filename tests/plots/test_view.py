"""The message for the canvas: what a person sees is exactly what the Timeline says."""

from dataclasses import replace

import numpy as np
import pytest

from pipelab import Costs, Kind, Memory, Schedule, build, simulate
from pipelab.plots import live_view, view
from pipelab.plots.view import COLUMNS, caption, numbers

BAR = ("rank", "stage", "microbatch", "kind", "start", "end", "part")


def bars(message) -> np.ndarray:
    return np.frombuffer(message["bars"], np.float32).reshape(-1, 7)


def memory(message) -> np.ndarray:
    return np.frombuffer(message["memory"], np.float32).reshape(-1, 2, len(message["parts"]))


@pytest.fixture
def timeline():
    return simulate(build("1f1b", ranks=3, microbatches=5), Costs(latency=0.5))


def test_every_action_is_a_bar(timeline):
    table = bars(view(timeline))
    assert np.array_equal(
        table[:, :4],
        np.stack([timeline.rank, timeline.stage, timeline.microbatch, timeline.kind], axis=1),
    )
    assert np.allclose(table[:, 4], timeline.started)
    assert np.allclose(table[:, 5], timeline.ended)
    assert not table[:, 6].any()


@pytest.mark.parametrize("name", ["1f1b", "zb-v", "chimera", "dualpipe", "pipedream"])
def test_each_row_of_a_prediction_names_the_row_that_it_needs(name):
    message = view(simulate(build(name, ranks=4, microbatches=8), Costs(latency=0.5)))
    needs, table = np.frombuffer(message["needs"], np.int32), bars(message)
    assert len(needs) == len(table)
    by_one = {Kind.F: -1, Kind.B: 1, Kind.I: 1}
    for row, need in enumerate(needs):
        _, stage, microbatch, kind = table[row, :4]
        source = stage + by_one.get(kind, message["stages"])
        assert (need >= 0) == (0 <= source < message["stages"])
        if need >= 0:
            assert table[need, 1:3].tolist() == [source, microbatch]
            assert (table[need, 3] == Kind.F) == (kind == Kind.F)
            assert table[need, 5] <= table[row, 4]


def test_only_a_prediction_says_what_its_rows_need(timeline):
    assert "needs" not in view(replace(timeline, source="measured"))
    assert "needs" not in live_view({name: np.array([]) for name in COLUMNS}, timeline.schedule)


def test_words(timeline):
    message = view(timeline)
    assert (message["source"], message["unit"], message["memory_unit"]) == (
        "predicted",
        "",
        "activations",
    )
    assert (message["ranks"], message["microbatches"], message["kinds"]) == (3, 5, [Kind.F, Kind.B])
    assert message["end"] == timeline.makespan
    assert message["step"] == 1
    assert message["looks"][Kind.B]["letter"] == "B"
    assert caption(timeline) == "1f1b: 3 ranks, 5 micro-batches"
    assert (
        caption(simulate(build("naive", ranks=1, microbatches=1))) == "naive: 1 rank, 1 micro-batch"
    )


def test_memory_steps_follow_the_timeline(timeline):
    message = view(timeline)
    levels = memory(message)
    for rank in range(3):
        mine = bars(message)[:, 0] == rank
        assert np.allclose(levels[mine].ravel(), timeline.memory_steps(rank)[1])
    assert message["memory_peak"] == 3
    assert levels[bars(message)[:, 0] == 2].max() == 1


def test_parts_of_the_memory_sum_to_what_the_rank_holds():
    sizes = Memory(activations=5, weights=7, gradients=7, optimizer_state=14)
    timeline = simulate(build("pipedream", ranks=2, microbatches=4), memory=sizes)
    message = view(timeline)
    assert message["parts"] == [
        "activations",
        "weights",
        "weight_versions",
        "gradients",
        "optimizer_state",
    ]
    assert message["memory_unit"] == "bytes"
    levels = memory(message)
    assert np.allclose(levels[:, 0].sum(axis=1), timeline.bytes_held)
    assert np.allclose(levels[:, 1].sum(axis=1), timeline.bytes_after)
    assert levels[:, :, 1].min() == levels[:, :, 1].max() == 7
    assert levels[:, :, 2].max() == 7  # one older version of the weights on rank 0


def test_the_versions_of_the_weights_are_told_where_there_are_several():
    assert "versions" not in view(simulate(build("1f1b", ranks=2, microbatches=3)))
    message = view(simulate(build("pipedream", ranks=2, microbatches=3)))
    version = np.frombuffer(message["versions"], dtype=np.int32)
    of_rank = bars(message)[:, 0] == 0
    # 0F0 0F1 0B0 0STEP0 0F2 0B1 …
    assert version[of_rank].tolist() == [0, 0, 0, 1, 1, 0, 2, 1, 3]


def test_seconds_become_milliseconds_from_the_first_start():
    predicted = simulate(
        build("gpipe", ranks=2, microbatches=2), Costs(forward=0.01, backward=0.02)
    )
    late = replace(
        predicted,
        unit="s",
        source="measured",
        started=predicted.started + 5,
        ended=predicted.ended + 5,
    )
    message = view(late)
    assert message["unit"] == "ms"
    assert message["source"] == "measured"
    assert bars(message)[:, 4].min() == 0
    assert message["end"] == pytest.approx(predicted.makespan * 1000)
    assert message["numbers"][0]["value"] == pytest.approx(predicted.makespan * 1000)


def test_abstract_units_can_lie_on_a_paced_axis(timeline):
    message = view(timeline, milliseconds=10)
    assert message["unit"] == "ms"
    assert message["step"] == 10
    assert message["end"] == pytest.approx(10 * timeline.makespan)
    shown = {number["key"]: number["value"] for number in message["numbers"]}
    assert shown["makespan"] == pytest.approx(10 * timeline.makespan)
    assert shown["bubble_fraction"] == timeline.metrics["bubble_fraction"]


def test_every_number_carries_its_definition():
    metrics = simulate(build("gpipe", ranks=4, microbatches=8)).metrics
    table = {number["key"]: number for number in numbers(metrics)}
    assert table["makespan"]["value"] == 33
    assert table["bubble_fraction"]["value"] == pytest.approx(3 / 11)
    assert table["bubble_overhead"]["value"] == pytest.approx(3 / 8)
    assert table["peak_in_flight"]["value"] == 8
    assert table["bubble_fraction"]["definition"] == "idle / (ranks × makespan)"
    assert table["bubble_overhead"]["definition"] == "idle / busy"
    assert "longest span" in table["bubble_rate"]["definition"]
    assert table["throughput"]["value"] == pytest.approx(8 / 33)
    assert (table["peak_memory"]["value"], table["peak_memory"]["form"]) == (
        None,
        "memory",
    )  # not among the metrics
    shown = {
        number["key"]: number["value"]
        for number in view(simulate(build("1f1b", ranks=4, microbatches=8)))["numbers"]
    }
    assert shown["peak_memory"] == 4


def test_an_overlap_shares_its_lane_forward_above():
    schedule = Schedule.from_rows([["0F0", "0F1", "(0F2;0B0)OVERLAP_F_B", "0B1", "0B2"]])
    table = bars(view(simulate(schedule)))
    assert table[:, 6].tolist() == [0, 0, 1, 2, 0, 0]
    assert Kind(int(table[2, 3])) is Kind.F
    assert table[2, 4:6].tolist() == table[3, 4:6].tolist()


def test_an_action_for_all_micro_batches_has_none():
    rows = ["0UNSHARD 0F0 0F1 0B0 0B1 0RESHARD 0REDUCE_GRAD".split()]
    message = view(simulate(Schedule.from_rows(rows), Costs(unshard=1)))
    assert bars(message)[:, 2].tolist() == [-1, 0, 1, 0, 1, -1, -1]
    assert message["kinds"] == [Kind.F, Kind.B, Kind.UNSHARD, Kind.RESHARD, Kind.REDUCE_GRAD]
    assert message["microbatches"] == 2


def test_a_run_in_progress_is_drawn_from_its_columns_in_any_order():
    schedule = build("gpipe", ranks=2, microbatches=2)
    whole = simulate(schedule, Costs(forward=0.01, backward=0.02))
    finished = np.flatnonzero(whole.ended <= 0.05)[::-1]
    columns = {name: getattr(whole, name)[finished] for name in COLUMNS}
    message = live_view(columns, schedule)
    table = bars(message)
    assert len(table) == len(finished)
    assert sorted(table[:, 0]) == table[:, 0].tolist()
    assert message["end"] == pytest.approx(1000 * whole.ended[finished].max())
    assert message["numbers"] == []


def test_a_run_without_events_yet_is_empty():
    schedule = build("gpipe", ranks=2, microbatches=2)
    message = live_view({name: np.array([]) for name in COLUMNS}, schedule)
    assert (message["bars"], message["end"], message["memory_peak"]) == (b"", 0, 0)
