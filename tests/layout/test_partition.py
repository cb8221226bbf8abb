"""Partitions: equal to brute force over all cuts, never over the limit, and refusals that teach."""

import json
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import names
from pipelab.cli import main
from pipelab.errors import UsageError
from pipelab.layout import LayerProfile, Profile
from pipelab.layout.memory import stage_memory
from pipelab.layout.partition import schedule_for

NOTHING = LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0)


def profile_of(seconds, *, activations=8, saved_input=0, output=0, parameters=0, loss=NOTHING):
    """Layers that take so many seconds, a third each in F, I and W; the rest is equal or a list."""

    def each(value):
        return value if isinstance(value, list) else [value] * len(seconds)

    columns = zip(
        seconds, each(activations), each(saved_input), each(output), each(parameters), strict=True
    )
    layers = tuple(
        LayerProfile(str(i), t / 3, t / 3, t / 3, a, s, o, p)
        for i, (t, a, s, o, p) in enumerate(columns)
    )
    return Profile("cpu", "float32", 1, layers, loss)


def all_sizes(layers, stages):
    for cuts in combinations(range(1, layers), stages - 1):
        bounds = [0, *cuts, layers]
        yield [bounds[i + 1] - bounds[i] for i in range(stages)]


def truth(profile, sizes, schedule, link, states=2):
    """Slowest rank and bytes per rank from the contract's words alone, action by action."""
    stages, at = [], 0
    for size in sizes:
        stages.append(list(profile.layers[at : at + size]))
        at += size
    extra = [[] for _ in sizes]
    extra[-1].append(profile.loss)
    place = {stage: rank for (_, stage), rank in schedule.placement.items()}
    busy, weights = [0.0] * schedule.ranks, [0] * schedule.ranks
    kept = []
    for s, layers in enumerate(stages):
        busy[place[s]] += sum(x.forward + x.input_grad + x.weight_grad for x in layers + extra[s])
        weights[place[s]] += sum(x.parameter_bytes for x in layers)
        kept.append(
            sum(x.activation_bytes for x in layers + extra[s]) + layers[0].saved_input_bytes
        )
    slowest = max(busy)
    for s, layers in enumerate(stages[:-1]):
        if link and place[s] != place[s + 1]:
            move = link.latency
            if link.bandwidth:
                move += layers[-1].output_bytes / link.bandwidth
            slowest = max(slowest, move)
    totals = []
    for rank, row in enumerate(schedule.actions):
        held = most = 0
        for action in row:
            if action.kind == pipelab.Kind.F:
                held += kept[action.stage]
            most = max(most, held)
            if action.kind == pipelab.Kind.B:
                held -= kept[action.stage]
        totals.append(weights[rank] * (2 + states) + most)
    return slowest, totals


numbers = st.sampled_from([0, 1, 2, 3, 5, 0.1, 0.7, 2.25]) | st.floats(0, 5)
amounts = st.integers(0, 6)


@st.composite
def problems(draw):
    """A profile, a schedule with a loop or a V, and a link."""
    per_rank = draw(st.integers(1, 3))
    ranks = draw(st.integers(1, 6 // per_rank))
    placement = draw(st.sampled_from(["loop", "v"]))
    layers = draw(st.integers(ranks * per_rank, 12))

    def column(values):
        return draw(st.lists(values, min_size=layers, max_size=layers))

    profile = profile_of(
        column(numbers), activations=column(amounts), saved_input=column(amounts),
        output=column(amounts), parameters=column(amounts),
        loss=LayerProfile("loss", draw(numbers), 0, 0, draw(amounts), 0, 4, 0),
    )  # fmt: skip
    # Of two stages in a V the default splits backwards, which has a test of its own.
    name = "1f1b" if (placement, per_rank) != ("v", 2) else "hanayo"
    schedule = schedule_for(name, ranks, per_rank, placement, draw(st.integers(1, 5)))
    link = draw(st.none() | st.builds(pipelab.Link, numbers, st.sampled_from([None, 0.5, 2.0])))
    return profile, schedule, link


@settings(deadline=None, max_examples=150)
@given(problems(), st.sampled_from(["sgd", "momentum", "adam"]), st.floats(0.3, 1.1))
def test_as_good_as_the_best_of_all(problem, optimizer, share):
    profile, schedule, link = problem
    states = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
    ways = []
    for sizes in all_sizes(len(profile.layers), schedule.stages):
        slowest, totals = truth(profile, sizes, schedule, link, states)
        ways.append((slowest, max(totals), sizes))
    options = {"ranks": schedule.ranks, "schedule": schedule, "link": link, "optimizer": optimizer}
    best = min(slowest for slowest, _, _ in ways)
    found = pipelab.partition(profile, **options)
    assert found.slowest == pytest.approx(best, rel=1e-8, abs=1e-12)
    slowest, totals = truth(profile, found.sizes, schedule, link, states)
    assert slowest == pytest.approx(found.slowest, rel=1e-8, abs=1e-12)
    assert [each["total"] for each in found.bytes] == totals
    assert all(sum(each.values()) == 2 * each["total"] for each in found.bytes)
    # Of those that are equal, the one with the shortest makespan.
    equal = [sizes for slowest, _, sizes in ways if slowest <= best * (1 + 1e-10)]
    makespans = [pipelab.partition(profile, sizes=sizes, **options).makespan for sizes in equal[:6]]
    assert found.makespan <= min(makespans) * (1 + 1e-8)
    # A limit: the best of those that keep it, or the least that can be kept.
    least, most = min(held for _, held, _ in ways), max(held for _, held, _ in ways)
    assume(most > 0)
    limit = max(0.5, share * most)
    if limit < least:
        with pytest.raises(UsageError, match=f"the least limit that works is {least} bytes"):
            pipelab.partition(profile, memory_limit=limit, **options)
        assume(least > 0)
        limit = least
    kept = pipelab.partition(profile, memory_limit=limit, **options)
    assert max(each["total"] for each in kept.bytes) <= limit
    allowed = min(slowest for slowest, held, _ in ways if held <= limit)
    assert kept.slowest == pytest.approx(allowed, rel=1e-8, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(amounts, min_size=1, max_size=10), st.integers(1, 6))
def test_the_two_beside_it(parameters, ranks):
    assume(len(parameters) >= ranks)
    profile = profile_of([1.0] * len(parameters), parameters=parameters)
    found = pipelab.partition(profile, ranks=ranks)
    assert max(found.even.sizes) - min(found.even.sizes) <= 1
    assert found.even.sizes == sorted(found.even.sizes, reverse=True)

    def largest(sizes):
        bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        return max(sum(parameters[bounds[i] : bounds[i + 1]]) for i in range(len(sizes)))

    best = min(map(largest, all_sizes(len(parameters), ranks)))
    assert largest(found.parameters.sizes) == best


def test_a_heavy_head_is_left_alone():
    """Even in layers, the rank with the head takes half as long again as it must."""
    found = pipelab.partition(profile_of([1, 1, 1, 1, 1, 1, 1, 5.0]), ranks=3, microbatches=8)
    assert found.sizes[-1] == 1 and found.slowest == 5
    assert found.even.sizes == [3, 3, 2] and found.even.slowest == 6
    assert found.timeline.makespan == found.makespan < found.even.makespan


def test_two_copies_of_the_model_halve_the_micro_batches():
    """Chimera: rank r has stage r of one copy and stage p − 1 − r of the other."""
    schedule = pipelab.build("chimera", ranks=4, microbatches=8)
    seconds = [1.0, 2, 1, 1, 3, 1, 1, 2]
    profile = profile_of(seconds, parameters=4)
    found = pipelab.partition(profile, ranks=4, schedule=schedule)

    def slowest(sizes):
        bounds = [sum(sizes[:i]) for i in range(5)]
        of = [sum(seconds[bounds[i] : bounds[i + 1]]) for i in range(4)]
        return max((of[0] + of[3]) / 2, (of[1] + of[2]) / 2)

    assert found.slowest == pytest.approx(min(map(slowest, all_sizes(8, 4))))
    assert [each["weights"] for each in found.bytes] == [
        4 * (found.sizes[r] + found.sizes[3 - r]) for r in range(4)
    ]
    limit = max(each["total"] for each in found.bytes)
    assert pipelab.partition(profile, ranks=4, schedule=schedule, memory_limit=limit).sizes


def test_stashed_versions_count_as_weights():
    """PipeDream's first rank of p holds p versions (arXiv 1806.03377 section 3.3)."""
    profile = profile_of([1.0] * 4, parameters=10)
    found = pipelab.partition(profile, ranks=4, schedule="pipedream", microbatches=12)
    assert [each["weights"] for each in found.bytes] == [40, 30, 20, 10]
    total = max(each["total"] for each in found.bytes)
    kept = pipelab.partition(
        profile, ranks=4, schedule="pipedream", microbatches=12, memory_limit=total
    )
    assert kept.sizes == found.sizes
    with pytest.raises(UsageError, match=f"least limit that works is {total} bytes"):
        pipelab.partition(
            profile, ranks=4, schedule="pipedream", microbatches=12, memory_limit=total - 1
        )


def test_a_limit_moves_layers_to_ranks_that_hold_fewer_micro_batches():
    profile = profile_of([1.0] * 8, activations=100)
    found = pipelab.partition(profile, ranks=4, optimizer="sgd", memory_limit=600)
    assert found.sizes[0] == 1 and max(each["total"] for each in found.bytes) == 600
    assert found.slowest == 3 > pipelab.partition(profile, ranks=4).slowest == 2


def test_default_schedules_of_several_stages_per_rank():
    profile = profile_of([1.0] * 16)
    for per_rank, placement, name in (
        (1, None, "1f1b"), (2, None, "interleaved-1f1b"), (2, "loop", "interleaved-1f1b"),
        (2, "v", "zb-v"), (4, "v", "hanayo"), (3, "v", "breadth-first"), (1, "v", "1f1b"),
    ):  # fmt: skip
        found = pipelab.partition(profile, ranks=2, stages_per_rank=per_rank, placement=placement)
        assert found.schedule.name == name and len(found.sizes) == 2 * per_rank
        assert found.slowest == pytest.approx(8)
        limit = max(rank["total"] for rank in found.bytes)
        kept = pipelab.partition(
            profile, ranks=2, stages_per_rank=per_rank, placement=placement, memory_limit=limit
        )
        assert kept.slowest == found.slowest
    for placement in ("loop", "v"):
        assert pipelab.partition(profile, ranks=1, stages_per_rank=2, placement=placement).sizes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ranks": 9}, "9 stages are more than the 8 layers of the profile.*at most 8 stages"),
        ({"ranks": 2, "sizes": [4, 3]}, r"The sizes \[4, 3\] do not fit: they are 2 numbers of.*8"),
        ({"ranks": 2, "sizes": [8, 0]}, r"The sizes \[8, 0\] do not fit"),
        ({"ranks": 2, "optimizer": "lion"}, "no optimizer 'lion'.*sgd, momentum, adam"),
        ({"ranks": 2, "placement": "w"}, "placement is 'w'; it is 'loop' or 'v'"),
        (
            {"ranks": 2, "placement": "v", "schedule": "looped-bfs", "stages_per_rank": 2},
            "looped-bfs does not place its stages as placement='v' says: use zb-v",
        ),
        ({"ranks": 2, "schedule": "2f2b"}, "no schedule '2f2b'"),
        ({"ranks": 2, "memory_limit": 0}, "memory_limit is 0; it is a number of bytes above 0"),
        ({"ranks": 2, "sizes": [4, 4], "memory_limit": 9}, r"The sizes \[4, 4\] need \d+ bytes"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(UsageError, match=text):
        pipelab.partition(profile_of([1.0] * 8, parameters=4), **options)


def test_stages_in_no_order_are_not_cut():
    order = pipelab.Schedule.from_rows(
        [["0F0", "3F0", "3B0", "0B0"], ["1F0", "1B0"], ["2F0", "2B0"]]
    )
    profile = profile_of([1.0] * 8)
    with pytest.raises(UsageError, match="neither in a loop .* nor in a V"):
        pipelab.partition(profile, ranks=3, schedule=order)
    assert pipelab.partition(profile, ranks=3, schedule=order, sizes=[1, 3, 3, 1]).slowest == 3


KEYS = {"sizes", "stage_seconds", "slowest", "makespan", "bytes", "even", "parameters"}


def test_the_command(tmp_path, capsys):
    path = tmp_path / "p.json"
    profile_of([1, 1, 1, 1, 1, 3.0], output=8, parameters=4).save(path)

    def run(*flags):
        code = main(["partition", str(path), *flags, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, data = run("--ranks", "3")
    assert code == 0 and data.keys() == KEYS
    assert data["even"].keys() == data["parameters"].keys() == KEYS - {"even", "parameters"}
    assert data["sizes"] in ([3, 2, 1], [2, 3, 1])
    assert data["stage_seconds"] == pytest.approx([data["sizes"][0], data["sizes"][1], 3])
    assert data["slowest"] == pytest.approx(3) and data["even"]["slowest"] == pytest.approx(4)
    assert list(data["bytes"][0]) == ["weights", "gradients", "optimizer", "activations", "total"]
    assert run("--ranks", "3", "--sizes", "1,1,4")[1]["sizes"] == [1, 1, 4]
    assert run("--ranks", "3", "--optimizer", "sgd")[1]["bytes"][0]["optimizer"] == 0
    # 8 bytes at 1 byte/s take longer than any rank.
    assert run("--ranks", "3", "--bandwidth", "1", "--latency", "2")[1]["slowest"] == 10
    longer = run("--ranks", "3", "--microbatches", "30")[1]["makespan"]
    assert longer > 3 * data["makespan"]
    gpipe = run("--ranks", "3", "--schedule", "gpipe", "--sizes", "2,2,2")[1]
    assert gpipe["bytes"][0]["activations"] == 6 * 16
    v = run("--ranks", "2", "--stages-per-rank", "2", "--placement", "v")[1]
    assert len(v["sizes"]) == 4 and v["slowest"] == pytest.approx(4)
    code, data = run("--ranks", "3", "--memory-limit", "10")
    assert code == 2 and "the least limit that works is " in data["error"]
    assert main(["partition", str(path), "--ranks", "3"]) == 0
    out = capsys.readouterr().out
    assert "chosen: " in out and "even: 2,2,2" in out and "by parameters: " in out
    for flags in (["--ranks", "2", "--sizes", "a"], ["--ranks", "7"], []):
        assert main(["partition", str(path), *flags]) == 2
    path.write_text("{}")
    assert main(["partition", str(path), "--ranks", "2"]) == 2
    assert main(["partition", str(tmp_path / "none.json"), "--ranks", "2"]) == 2


def test_a_thousand_layers_over_sixty_four_ranks_keep_the_bound():
    """The lower bounds: no rank below the mean, none below the largest layer."""
    seconds = [1 + (i * 37 % 11) / 10 for i in range(1000)]
    found = pipelab.partition(profile_of(seconds), ranks=64, microbatches=64)
    assert sum(found.sizes) == 1000 and len(found.sizes) == 64
    assert sum(seconds) / 64 <= found.slowest <= sum(seconds) / 64 + max(seconds)


def test_memory_of_a_stage_without_what_w_needs_keeps_all_of_it_until_w():
    memory = stage_memory(profile_of([1.0] * 4, activations=10), [2, 2])
    assert memory.activations == memory.deferred_activations == (20, 20)


@pytest.mark.parametrize("name", names())
def test_a_limit_is_exact_under_every_schedule(name):
    """Split backwards, recomputed orders, versions, copies: what is searched with is what is said.

    Were it less than what a partition holds, a limit would be broken; were it more, the best
    partition would be refused at its own bytes.
    """
    layers = tuple(
        LayerProfile(str(i), 1 + i % 3, 1, 1, 9 + i, i % 4, 5, 7 * (i % 3), 4 + i, 3 + i % 2)
        for i in range(12)
    )
    loss = LayerProfile("loss", 1, 1, 0, 5, 0, 4, 0, 2, 1)
    profile = Profile("cpu", "float32", 1, layers, loss)
    options = {"ranks": 4, "schedule": name, "microbatches": 8, "optimizer": "sgd"}
    found = pipelab.partition(profile, **options)
    limit = max(rank["total"] for rank in found.bytes)
    kept = pipelab.partition(profile, **options, memory_limit=limit)
    assert kept.slowest == found.slowest
    assert max(rank["total"] for rank in kept.bytes) <= limit
    with pytest.raises(UsageError, match="the least limit that works is") as error:
        pipelab.partition(profile, **options, memory_limit=1)
    least = int(str(error.value).split("works is ")[1].split()[0])
    fullest = pipelab.partition(profile, **options, memory_limit=least)
    assert max(rank["total"] for rank in fullest.bytes) == least <= limit
    assert fullest.slowest >= found.slowest
    with pytest.raises(UsageError, match="the least limit that works is"):
        pipelab.partition(profile, **options, memory_limit=least - 1)
