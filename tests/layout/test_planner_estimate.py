"""Estimates of layouts: by hand, as sums of parts, against the simulator and published runs."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import entry, names
from pipelab.cli import main
from pipelab.errors import UsageError
from pipelab.layout.planner import DEVICES, MODELS, Layout, Machine, Transformer, estimate
from pipelab.layout.planner.data_seconds import data_seconds
from pipelab.layout.planner.footprint import holdings, stages_in_flight, verdict
from pipelab.layout.planner.layer_seconds import layer_seconds
from pipelab.layout.planner.layout import problem
from pipelab.layout.planner.step_seconds import (
    closed,
    has_closed_form,
    schedule_of,
    simulated,
    stage_costs,
    stage_seconds,
)

SMALL = Transformer("small", 16, 1024, 16, vocabulary=32000, sequence=1024)
A100 = DEVICES["a100-80"]


@pytest.fixture(scope="module")
def bench():
    """The benchmark, whose tables the tests bound."""
    path = Path(__file__).parent.parent / "benchmarks" / "bench_planner.py"
    spec = importlib.util.spec_from_file_location("bench_planner", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "billions"),
    [("gpt-3", 174.6), ("gpt-530b", 529.6), ("gpt-1t", 1008.0), ("llama-7b", 6.74),
     ("llama-8b", 8.03), ("llama-70b", 70.6), ("llama-405b", 405.9), ("gpt-125m", 0.125)],
)  # fmt: skip
def test_presets_have_the_published_number_of_parameters(name, billions):
    assert MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_the_smallest_preset_is_the_model_of_pipelab_train():
    from pipelab.model import workload

    layers = workload("gpt", layers=8, width=64, batch=1).model
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    preset = MODELS["gpt"]
    assert counts[0] == preset.embedding_parameters
    assert counts[1:-1] == [preset.layer_parameters] * preset.layers


def test_a_layer_is_the_roofline_written_out():
    """gemm at 0.75 of 312 TFLOP/s, memory at 0.8 of 2.04 TB/s, links at 0.74 of 300 GB/s."""
    layout = Layout(tensor=4, microbatch=2)
    found = layer_seconds(SMALL, A100, layout)
    b, s, h, a, t = 2, 1024, 1024, 16, 4
    products = 24 * b * s * h * h / t / (0.75 * 312e12)
    core = 4 * b * s * s * h / t / (0.75 * 312e12)
    passes = (22 * b * s * h + (4 * 4 + 12) * b * s * h / t + 13 * a * s * s * b / t) / 1.632e12
    assert found.forward == pytest.approx(products + core + passes + 3e-4)
    assert found.input_grad + found.weight_grad == pytest.approx(2 * found.forward)
    reduce = 2 * 3 / 4 * 2 * b * s * h / (0.74 * 300e9) + 2 * 3 * 2.5e-6
    assert found.tensor_forward == found.tensor_backward == pytest.approx(2 * reduce)
    full = layer_seconds(SMALL, A100, replace(layout, recompute="full"))
    assert full.recompute == found.forward
    assert full.tensor_recompute == found.tensor_forward
    selective = layer_seconds(SMALL, A100, replace(layout, recompute="selective"))
    assert selective.recompute == pytest.approx(core + 13 * a * s * s * b / t / 1.632e12)


def test_grouped_queries_and_gates_change_the_products_as_written():
    """6 b s h ffn in place of 4, and 2 b s h² (1 + 2k/a) for queries, keys and values."""
    gated = replace(SMALL, gated=True, kv_heads=4, ffn=2816)
    b, s, h = 1, 1024, 1024
    flops = 2 * b * s * h * h * (1 + 2 * 4 / 16) + 2 * b * s * h * h + 6 * b * s * h * 2816
    assert 2 * b * s * gated.matrices == flops


def test_zero_divides_what_its_stage_says():
    """Of 16 + 2 bytes a parameter: 18, 6 + 12/d, 2 + 16/d, and with 3 all of it."""
    count = SMALL.parameters
    totals = []
    for zero in range(4):
        held = estimate(SMALL, Layout(data=8, batch=8, zero=zero), device=A100).bytes
        totals.append(held["weights"] + held["gradients"] + held["optimizer"])
    gathered = 2 * 2 * SMALL.layer_parameters
    expected = [18 * count, (6 + 12 / 8) * count, (2 + 16 / 8) * count, 18 / 8 * count + gathered]
    assert totals == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("zero", "times"), [(0, (2 * 4,)), (1, (4, 2)), (2, (8 * 4, 2))])
def test_traffic_of_data_parallelism_is_the_volume_over_the_links(zero, times):
    """(d − 1)/d of it: an all-reduce counts twice; ZeRO-2 reduces for each of 8 micro-batches."""
    layout = Layout(tensor=8, data=4, batch=32, zero=zero, overlap="none")
    volume = sum(times) * 3 / 4 * 1e9
    found = data_seconds(A100, layout, 1e9, 1.0, 1.0)
    assert found == pytest.approx(volume / (0.74 * 25e9), rel=1e-3)
    hidden = data_seconds(A100, replace(layout, overlap="data"), 1e9, 1e3, 1e3)
    assert hidden == 0


def test_zero_3_gathers_weights_before_every_forward_and_backward():
    layout = Layout(tensor=8, data=4, batch=32, zero=3, overlap="none")
    found = data_seconds(A100, layout, 1e9, 1.0, 1.0)
    assert found == pytest.approx(8 * (2 + 2 + 4) * 0.75e9 / (0.74 * 25e9), rel=1e-3)


def test_tensor_parallelism_beyond_the_node_pays_the_network():
    big = MODELS["gpt-3"]
    inside, beyond = (
        estimate(big, Layout(tensor=t, pipeline=6, batch=16), device="h100").seconds_by_part
        for t in (8, 16)
    )
    assert beyond["tensor"] > 7 * inside["tensor"]


def possible_names():
    return [name for name in names() if not problem(_of(name), SMALL, A100)]


def _of(name):
    v = entry(name).stages_per_rank
    return Layout(2, 4, 2, v, 1, 16, name, sequence_parallel=True)


def test_every_schedule_of_the_catalogue_has_an_estimate():
    assert possible_names() == names()


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_parts_sum_to_the_whole(name, recompute):
    found = estimate(SMALL, replace(_of(name), recompute=recompute), device=A100)
    assert sum(found.seconds_by_part.values()) == pytest.approx(found.seconds, rel=1e-9)
    assert min(found.seconds_by_part.values()) >= 0
    parts = dict(found.bytes)
    assert parts.pop("total") == sum(parts.values())
    assert 0 <= found.bubble_fraction < 1
    assert found.mfu == pytest.approx(
        SMALL.model_flops(16) / found.seconds / 16 / A100.tflops / 1e12
    )


CLOSED = ("naive", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1")


@given(
    name=st.sampled_from(CLOSED),
    p=st.integers(1, 6),
    v=st.integers(2, 3),
    rounds=st.integers(1, 3),
    overlap=st.sampled_from(["none", "all"]),
)
def test_closed_forms_are_the_simulated_schedule(name, p, v, rounds, overlap):
    """Exact for equal stages without transfers; with the logits' stage heavier, within 2 %."""
    layout = Layout(
        pipeline=p,
        stages_per_rank=v if name == "interleaved-1f1b" else 1,
        batch=p * rounds,
        schedule=name,
        overlap=overlap,
    )
    assume(has_closed_form(layout))
    model = replace(SMALL, layers=layout.stages * 4)
    stages = stage_seconds(model, A100, layout)
    schedule = schedule_of(layout)
    equal = [stages[0]] * len(stages)
    exact, real = closed(layout, equal, 0.0), simulated(layout, schedule, equal, 0.0)
    assert exact.makespan == pytest.approx(real.makespan)
    assert exact.bubble_fraction == pytest.approx(real.bubble_fraction, abs=1e-9)
    near, real = closed(layout, stages, 1e-4), simulated(layout, schedule, stages, 1e-4)
    assert near.makespan == pytest.approx(real.makespan, rel=0.03)


@given(
    name=st.sampled_from(CLOSED[:-1]),
    p=st.integers(2, 6),
    v=st.integers(2, 4),
    rounds=st.integers(1, 4),
)
def test_micro_batches_in_flight_are_those_of_the_schedule(name, p, v, rounds):
    v = v if name == "interleaved-1f1b" else 1
    layout = Layout(pipeline=p, stages_per_rank=v, batch=p * rounds, schedule=name)
    peaks = pipelab.simulate(schedule_of(layout)).metrics["peak_in_flight"]
    assert [stages_in_flight(layout, rank) for rank in range(p)] == peaks


@pytest.mark.parametrize("name", ["1f1b", "gpipe", "interleaved-1f1b", "zb-h1"])
def test_counting_a_schedule_finds_what_the_closed_forms_say(name):
    layout = Layout(pipeline=4, stages_per_rank=entry(name).stages_per_rank, batch=8, schedule=name)
    found = holdings(SMALL, layout, schedule_of(layout))
    assert [found[0], found[-1]] == holdings(SMALL, layout, None)
    uneven = replace(layout, sizes=(3, *[2] * (layout.stages - 1)))
    model = replace(SMALL, layers=sum(uneven.sizes))
    found = holdings(model, uneven, schedule_of(uneven))
    if layout.stages_per_rank == 1:
        assert found == holdings(model, uneven, None)


def test_stages_that_are_simulated_cost_what_the_parts_say():
    layout = Layout(2, 4, 1, 2, 1, 8, "zb-v", recompute="full")
    stages = stage_seconds(SMALL, A100, layout)
    costs = stage_costs(layout, stages, 0.0).durations
    for name in ("forward", "input_grad", "weight_grad"):
        assert len(costs[name]) == 8
    total = sum(map(sum, (costs[n] for n in ("forward", "input_grad", "weight_grad"))))
    assert total == pytest.approx(sum(stage.busy for stage in stages))


def test_interleaving_holds_more_by_the_published_factor():
    """Korthikanti 2022: 1 + (p − 1)/(p v) times the activations of all layers of a rank."""
    one = Layout(pipeline=4, batch=16)
    two = replace(one, stages_per_rank=2, schedule="interleaved-1f1b")
    first, second = (holdings(SMALL, layout, None)[0].in_flight for layout in (one, two))
    assert second / first == pytest.approx(1 + 3 / 8)


@pytest.mark.parametrize(
    "change",
    [
        {"recompute": "selective"}, {"recompute": "full"}, {"zero": 1}, {"zero": 2}, {"zero": 3},
        {"sequence_parallel": True}, {"flash": True}, {"precision": "fp32"}, {"gradients": "same"},
        {"optimizer": "sgd"}, {"overlap": "none"}, {"overlap": "tensor"}, {"overlap": "all"},
        {"schedule": "gpipe"}, {"microbatch": 2}, {"sizes": (3, 5, 5, 3)},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_changes_the_numbers_and_says_what_it_assumes(change):
    layout = Layout(tensor=2, pipeline=4, data=4, batch=32, overlap="data")
    before, after = (
        estimate(SMALL, each, device=A100) for each in (layout, replace(layout, **change))
    )
    assert (before.seconds, before.bytes) != (after.seconds, after.bytes)
    if not {"microbatch", "sizes", "schedule"} & set(change):
        assert before.assumptions != after.assumptions


def test_published_steps_are_met(bench):
    """Bounds of the issue; one set of constants for each device."""
    rows = bench.read()
    tables = {case[0]: bench.compare(case, rows) for case in bench.CASES[:4]}
    for (name, found), (count, mean, worst) in zip(
        tables.items(), [(10, 0.05, 0.05), (6, 0.08, 0.08), (8, 0.08, 0.08), (13, 0.06, 0.12)],
        strict=True,
    ):  # fmt: skip
        errors = [abs(one[4]) for one in found]
        assert len(errors) == count, name
        assert max(errors) <= worst, name
        assert sum(errors) / count <= mean, name
    full, selective = (tables[bench.CASES[2][0]][start::2] for start in (0, 1))
    assert max(map(abs, bench.ratios(full, selective))) <= 0.03
    scaling = tables[bench.CASES[1][0]][:3]
    assert max(map(abs, bench.ratios(scaling[1:], scaling[:1] * 2))) <= 0.03


def test_bloom_chooses_well_and_rejects_nothing_that_ran(bench):
    prequel = [row for row in bench.read() if row["id"].startswith("bloom")]
    largest = max(bench.groups(prequel).values(), key=len)
    assert bench.regret(bench.compare(bench.CASES[-1], largest)) <= 0.06
    assert "no" not in {one[2].fits for one in bench.compare(bench.CASES[-1], prequel)}


def test_fits_has_two_bounds():
    assert [verdict(share * 80e9, 80) for share in (0.7, 0.8, 0.9)] == ["yes", "tight", "no"]


LINE = "estimate --model gpt-3 --device a100-80 --tensor 8 --pipeline 8 --batch 64"


def run(capsys, line):
    code = main(line.split())
    return code, *capsys.readouterr()


def test_the_command_line_prints_the_contract(capsys):
    code, out, err = run(capsys, f"{LINE} --gpus 64 --recompute full --precision fp16 --json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert list(data) == [
        "seconds", "tflops_per_gpu", "mfu", "bubble_fraction", "seconds_by_part", "bytes", "fits",
        "assumptions",
    ]  # fmt: skip
    assert list(data["seconds_by_part"]) == [
        "compute", "recompute", "tensor", "pipeline", "bubble", "data", "optimizer",
    ]  # fmt: skip
    assert list(data["bytes"]) == [
        "weights", "gradients", "optimizer", "activations", "logits", "total",
    ]  # fmt: skip
    layout = Layout(8, 8, batch=64, recompute="full", precision="fp16")
    assert data == estimate("gpt-3", layout, device="a100-80").to_json()


def test_the_text_shows_parts_and_assumptions(capsys):
    code, out, _ = run(capsys, LINE)
    assert code == 0
    assert "GB on the fullest rank; fits: no" in out
    assert "- Left out: tile and wave quantization" in out


def test_sizes_and_numbers_can_be_given_one_by_one_or_in_files(capsys, tmp_path):
    model = "--layers 96 --hidden 12288 --heads 96 --vocabulary 51200 --sequence 2048"
    machine = (
        "--tflops 312 --memory 80 --memory-bandwidth 2040 --node-size 8 --node-bandwidth 300 "
        "--network-bandwidth 25"
    )
    layout = "--tensor 8 --pipeline 8 --batch 64 --json"
    _, flags, _ = run(capsys, f"estimate {model} {machine} {layout}")
    shape = {"layers": 96, "hidden": 12288, "heads": 96}
    gpu = {"tflops": 312, "memory": 80, "memory_bandwidth": 2040, "node_bandwidth": 300,
           "network_bandwidth": 25}  # fmt: skip
    for name, data in (("model", shape), ("gpu", gpu)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    files = f"--model {tmp_path}/model.json --device {tmp_path}/gpu.json"
    _, read, _ = run(capsys, f"estimate {files} {layout}")
    assert json.loads(flags)["seconds"] == json.loads(read)["seconds"]
    expected = estimate(
        Transformer("", 96, 12288, 96),
        Layout(8, 8, batch=64),
        device=Machine("", 312, 80, 2040, 300, 25),
    )
    assert json.loads(flags)["seconds"] == expected.seconds


def test_a_preset_takes_other_sizes(capsys):
    _, out, _ = run(capsys, f"{LINE} --sequence 4096 --network-bandwidth 50 --json")
    shape, machine = replace(MODELS["gpt-3"], sequence=4096), replace(A100, network_bandwidth=50)
    expected = estimate(shape, Layout(8, 8, batch=64), device=machine)
    assert json.loads(out)["seconds"] == expected.seconds


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{LINE} --gpus 128", "= 64 GPUs, not 128; data = 2 would"),
        (LINE.replace("--tensor 8", "--tensor 5"), "do not divide by tensor = 5; possible: 1, 2"),
        (LINE.replace("--pipeline 8", "--pipeline 7"), "--sizes 13,14,14,14,14,14,13"),
        (LINE.replace("--pipeline 8", "--pipeline 97"), "96 layers cannot fill 97 stages"),
        (f"{LINE} --data 3", "does not divide by data × microbatch = 3 × 1; a batch of 63 does"),
        (f"{LINE} --sizes 1,2", "--sizes has 2 numbers; there are 8 stages"),
        (f"{LINE} --sizes 1,1,1,1,1,1,1,1", "adds up to 8 layers; there are 96"),
        (f"{LINE} --zero 4", "zero is 4; it is 0 | 1 | 2 | 3"),
        (f"{LINE} --overlap some", "overlap is 'some'"),
        (f"{LINE} --schedule gpip", "Did you mean 'gpipe'"),
        (f"{LINE} --schedule zb-v --stages-per-rank 3", "two stages per rank"),
        (f"{LINE} --microbatch 0", "microbatch is 0"),
        (f"{LINE} --tflops 0", "tflops is 0"),
        (f"{LINE} --heads 7", "does not divide by 7 heads"),
        (f"{LINE} --kv-heads 7", "groups of queries"),
        (LINE.replace("a100-80", "a1000"), "There is no device 'a1000'"),
        (LINE.replace("gpt-3", "gpt-9"), "There is no model 'gpt-9'"),
        (LINE.replace("a100-80", "v100-32 --precision bf16"), "The V100 has no bf16"),
        (f"{LINE.replace('--tensor 8', '--tensor 1')} --sequence-parallel", "needs tensor = 2"),
        ("estimate --model gpt-3 --batch 1", "give --device NAME, or also --tflops, --memory,"),
        ("estimate --layers 4 --device h100 --batch 1", "or also --hidden, --heads"),
        (LINE.replace("gpt-3", "nowhere.json"), "No such file"),
    ],
)  # fmt: skip
def test_refusals_say_what_would_work(capsys, line, says):
    code, out, err = run(capsys, line)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a model: an object with some of name, layers"),
        ('{"depth": 3}', "is not a model"),
        ('{"layers": "3"}', "layers is '3'; it is of type int"),
        ('{"layers": true}', "layers is True; it is of type int"),
    ],
)
def test_bad_files_are_refused_in_one_line(capsys, tmp_path, text, says):
    file = tmp_path / "model.json"
    file.write_text(text)
    code, _, err = run(capsys, f"estimate --model {file} --device h100 --batch 1")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_python_raises_what_the_command_line_says():
    with pytest.raises(UsageError, match="80 layers do not divide by 7 stages"):
        estimate("llama-70b", Layout(pipeline=7), device="h100")
