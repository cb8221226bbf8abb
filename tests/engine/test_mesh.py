"""Pipeline × data × tensor and ZeRO, against plain torch: one model, one batch, one process.

Losses, gradients, weights after Adam steps, evaluation and checkpoints are those of a loop that
knows nothing of pipelab; so are the bytes, which are those of formulas.
"""

import pytest
import torch
from torch import nn

import pipelab
from pipelab.catalogue import names
from pipelab.engine.job.where import Where
from pipelab.engine.setup.meshes import require_mesh
from pipelab.engine.setup.rank_jobs import board_sizes
from pipelab.errors import UsageError
from pipelab.model.gpt import gpt, next_character_loss
from pipelab.model.mlp import mlp
from pipelab.schedule import Kind, Mesh

MSE = nn.functional.mse_loss
STEPS = 2
NO_FLUSH = {"pipedream", "pipedream-2bw"}
ALL = sorted(set(names()) - NO_FLUSH)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


def blocks():
    torch.manual_seed(3)
    parts = [
        nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 6))
        for _ in range(4)
    ]
    return nn.Sequential(*parts, *[nn.Linear(6, 6) for _ in range(4)]).double()


def small_gpt(layers=8):
    torch.manual_seed(3)
    return gpt(layers=layers, width=8, vocabulary=12, sequence=6).double()


def small_mlp():
    torch.manual_seed(3)
    return mlp(layers=8, width=8).double()


def data_for(make):
    """An uneven batch: 18 samples do not divide by 8 micro-batches."""
    torch.manual_seed(0)
    if make is small_gpt:
        words = torch.randint(0, 12, (2, 18, 6))
        return words[0], words[1], next_character_loss
    if make is small_mlp:
        x = torch.randn(18, 2, dtype=torch.float64)
        return x, torch.randint(0, 3, (18,)), nn.functional.cross_entropy
    pair = torch.randn(2, 18, 6, dtype=torch.float64)
    return pair[0], pair[1], MSE


def plain(model, x, y, loss_fn, *, steps=STEPS, clip=None, optimizer=adam):
    """A training loop of torch: losses, the last gradients, and the weights."""
    losses, updates = [], optimizer(model.parameters())
    for _ in range(steps):
        updates.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        losses.append(loss.item())
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        updates.step()
    return losses, gradients, model.state_dict()


def require_like_plain(make, schedule, *, clip=None, **options):
    x, y, loss_fn = data_for(make)
    losses, gradients, state = plain(make(), x, y, loss_fn, clip=clip)
    run = pipelab.run(
        make(),
        x,
        y,
        loss_fn,
        schedule=schedule,
        ranks=2,
        microbatches=4,
        steps=STEPS,
        optimizer=adam,
        clip=clip,
        timeout=20,
        **options,
    )
    assert run.losses == pytest.approx(losses, abs=1e-12)
    assert run.gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(run.gradients[name], gradient, rtol=1e-9, atol=1e-12)
    for name, weight in state.items():
        torch.testing.assert_close(run.state_dict[name], weight, rtol=1e-8, atol=1e-9)
    assert run.gradient_error < 1e-12
    return run


@pytest.mark.parametrize("schedule", ALL)
def test_two_copies_of_any_schedule_train_as_one_model(schedule):
    require_like_plain(blocks, schedule, data=2)


@pytest.mark.parametrize("schedule", ["1f1b", "interleaved-1f1b", "zb-v", "dualpipe", "auto"])
def test_weights_that_copies_divide_train_as_whole_ones(schedule):
    require_like_plain(blocks, schedule, data=2, zero=3)


@pytest.mark.parametrize("zero", [1, 2])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1", "dualpipe"])
def test_zero_1_and_2_train_as_one_model(schedule, zero):
    require_like_plain(blocks, schedule, data=2, zero=zero, clip=0.3)


@pytest.mark.parametrize("schedule", ALL)
def test_layers_that_two_workers_share_train_as_whole_ones(schedule):
    require_like_plain(small_gpt, schedule, tensor=2)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved-1f1b", "zb-h1"])
def test_all_three_dimensions_at_once(schedule):
    require_like_plain(small_gpt, schedule, data=2, tensor=2, zero=3, clip=0.3)


def test_four_copies_four_parts_and_a_cut_sequence():
    require_like_plain(blocks, "1f1b", data=4)
    require_like_plain(small_gpt, "1f1b", tensor=4, clip=0.3)
    require_like_plain(small_mlp, "zb-h1", tensor=4)
    run = require_like_plain(
        small_gpt, "zb-h1", data=2, tensor=2, zero=1, sequence_parallel=True, clip=0.3
    )
    whole = require_like_plain(small_gpt, "zb-h1", data=2, tensor=2, zero=1)
    # what passes between stages is cut, too
    assert 2 * run.bytes_by_collective[0]["pipeline"] == whole.bytes_by_collective[0]["pipeline"]


def test_recomputation_runs_the_collectives_again():
    whole = require_like_plain(small_gpt, "1f1b", tensor=2)
    for how in ("in-backward", "early"):
        again = require_like_plain(small_gpt, "1f1b", tensor=2, recompute=how)
        sent = [run.bytes_by_collective[2]["tensor"] for run in (whole, again)]
        assert sent[1] > 1.2 * sent[0]
        require_like_plain(blocks, "1f1b", data=2, zero=3, recompute=how)


def test_sums_over_copies_have_the_bits_of_a_loop():
    """The gradient is that of copy 0, plus that of copy 1, and so on, in float32.

    Each copy has its examples in memory of its own, here too: on some processors a matrix product
    rounds otherwise where its operand does not begin at a vector's boundary.
    """
    torch.manual_seed(0)
    model, x, y = nn.Linear(5, 5), torch.randn(12, 5), torch.randn(12, 5)
    run = pipelab.run([model], x, y, MSE, schedule="gpipe", ranks=1, microbatches=1, data=4)
    total = None
    for xs, ys in zip(x.tensor_split(4), y.tensor_split(4), strict=True):
        loss = MSE(model(xs.clone()), ys.clone()) * (3 / 12)
        (own,) = torch.autograd.grad(loss, model.weight)
        total = own if total is None else total + own
    assert torch.equal(run.gradients["0.weight"], total)


class Scores(nn.Module):
    """A head that shares the embedding's weights."""

    def __init__(self, embedding):
        super().__init__()
        self.scores = nn.Linear(8, 12, bias=False)
        self.scores.weight = embedding.weight

    def forward(self, x):
        return self.scores(x)


def tied():
    torch.manual_seed(5)
    embedding = nn.Embedding(12, 8)
    model = nn.Sequential(embedding, nn.Linear(8, 8), nn.Tanh(), Scores(embedding)).double()
    model[3].scores.weight = model[0].weight
    return model


@pytest.mark.parametrize("schedule", ["1f1b", "dualpipe"])
@pytest.mark.parametrize(
    "options",
    [
        {"data": 2},
        {"data": 2, "zero": 2},
        {"tensor": 2, "tensor_plan": {"0": "vocabulary", "3.scores": "vocabulary"}},
        {"data": 2, "zero": 3},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_tied_embeddings(schedule, options):
    torch.manual_seed(0)
    words = torch.randint(0, 12, (2, 18))
    loss_fn = nn.functional.cross_entropy
    losses, gradients, state = plain(tied(), *words, loss_fn)
    run = pipelab.run(
        tied(),
        *words,
        loss_fn,
        schedule=schedule,
        ranks=2,
        microbatches=4,
        steps=STEPS,
        optimizer=adam,
        timeout=20,
        **options,
    )
    assert run.losses == pytest.approx(losses, abs=1e-12)
    torch.testing.assert_close(run.gradients["0.weight"], gradients["0.weight"])
    torch.testing.assert_close(run.state_dict["3.scores.weight"], state["0.weight"])


def drawing():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(6, 9),
        nn.Dropout(0.3),
        nn.Tanh(),
        nn.Linear(9, 6),
        nn.Dropout(0.2),
        nn.BatchNorm1d(6),
        nn.Linear(6, 4),
    ).double()


PLAN = {"0": "column", "1": "column", "3": "row"}


def test_dropout_does_not_depend_on_tensor_nor_on_data():
    torch.manual_seed(0)
    x, y = torch.randn(16, 6, dtype=torch.float64), torch.randn(16, 4, dtype=torch.float64)

    def losses(microbatches, **options):
        run = pipelab.run(
            drawing(),
            x,
            y,
            MSE,
            schedule="1f1b",
            ranks=2,
            microbatches=microbatches,
            seed=1,
            steps=3,
            optimizer=adam,
            **options,
        )
        assert run.gradient_error < 1e-12
        return run.losses

    alone = losses(4)
    assert losses(4, tensor=3, tensor_plan=PLAN) == pytest.approx(alone, abs=1e-13)
    assert losses(2, data=2) == pytest.approx(alone, abs=1e-13)
    assert losses(2, data=2, zero=3, tensor=3, tensor_plan=PLAN) == pytest.approx(alone, abs=1e-13)


@pytest.mark.parametrize(
    "options",
    [{"data": 3, "zero": 3}, {"data": 2, "zero": 1, "tensor": 3, "tensor_plan": PLAN}],
    ids=["data", "both"],
)
def test_checkpoints_do_not_depend_on_the_mesh(tmp_path, options):
    torch.manual_seed(0)
    x, y = torch.randn(18, 6, dtype=torch.float64), torch.randn(18, 4, dtype=torch.float64)
    file = tmp_path / "half.pt"

    def model():
        torch.manual_seed(3)
        layers = nn.Linear(6, 9), nn.Identity(), nn.Tanh(), nn.Linear(9, 6), nn.Linear(6, 4)
        return nn.Sequential(*layers).double()

    def trained(steps, **more):
        return pipelab.run(
            model(),
            x,
            y,
            MSE,
            schedule="1f1b",
            ranks=2,
            microbatches=3,
            steps=steps,
            optimizer=adam,
            **more,
        )

    options = {**options}
    if "tensor_plan" in options:
        options["tensor_plan"] = {"0": "column", "3": "row"}
    whole = trained(4).state_dict
    trained(2, **options).save(file)
    saved = torch.load(file, weights_only=True)
    adam(model().parameters()).load_state_dict(saved["optimizer"])  # as the unsplit model's
    for again in (trained(2, resume=file), trained(2, resume=file, **options)):
        for name, value in whole.items():
            torch.testing.assert_close(again.state_dict[name], value, rtol=1e-12, atol=1e-14)


def test_evaluation_of_a_mesh():
    x, y, loss_fn = data_for(small_gpt)
    model = small_gpt()
    for options in (
        {"data": 2},
        {"tensor": 2},
        {"data": 2, "tensor": 2, "sequence_parallel": True},
    ):
        found = pipelab.evaluate(
            model, x, y, loss_fn, schedule="1f1b", ranks=2, microbatches=3, outputs=True, **options
        )
        torch.testing.assert_close(found.outputs[0], model(x))
        assert found.losses == pytest.approx([loss_fn(model(x), y).item()], abs=1e-12)


def test_bytes_are_those_of_the_formulas():
    """Rajbhandari et al. 2020, §7; Shoeybi et al. 2019, §3. Float64: 8 bytes a number."""
    copies, m = 2, 4
    for zero in range(4):
        run = require_like_plain(blocks, "1f1b", data=copies, zero=zero)
        sizes = [sum(p.nbytes for p in part.parameters()) for part in (blocks()[:4], blocks()[4:])]
        for worker, sent in enumerate(run.bytes_by_collective):
            whole = sizes[worker % 2]
            share = (copies - 1) / copies * whole
            reduced = {0: 2 * share, 1: share, 2: m * share, 3: m * share}[zero]
            gathered = {0: 0, 1: share, 2: share, 3: 2 * m * share}[zero]
            assert sent["reduce_grad"] == pytest.approx(reduced, rel=0.1)
            assert sent["unshard"] == pytest.approx(gathered, rel=0.1)
            held = run.peak_bytes[worker]
            assert held["weights"] == pytest.approx(whole / (copies if zero == 3 else 1), rel=0.2)
            assert held["gradients"] == pytest.approx(whole / (copies if zero >= 2 else 1), rel=0.2)
            assert held["optimizer"] == pytest.approx(2 * whole / (copies if zero else 1), rel=0.2)
            assert held["gathered"] == (whole if zero == 3 else 0)


def test_traffic_inside_layers_is_that_of_the_formula():
    """Of each block four all-reduces of b·s·h numbers, at 2(t − 1)/t each."""
    x, y, loss_fn = data_for(small_gpt)
    for parts in (2, 4):
        run = pipelab.run(
            small_gpt(),
            x[:16],
            y[:16],
            loss_fn,
            schedule="1f1b",
            ranks=3,
            microbatches=4,
            tensor=parts,
            partition=[1, 6, 1],
        )
        blocks_here, tokens, hidden = 6, 16 * 6, 8
        expected = 4 * blocks_here * tokens * hidden * 8 * 2 * (parts - 1) / parts
        sent = run.bytes_by_collective[1 * parts]["tensor"]
        assert sent == pytest.approx(expected, rel=0.01)
        timeline = run.timeline
        in_w = timeline.collective_bytes[timeline.kind == Kind.W]
        assert not in_w.any()


def test_each_worker_has_its_place_in_the_timeline():
    x, y, loss_fn = data_for(small_gpt)
    run = pipelab.run(
        small_gpt(), x, y, loss_fn, schedule="zb-h1", ranks=2, microbatches=2, data=2, tensor=2
    )
    timeline, mesh = run.timeline, Mesh(2, 2)
    for worker, (low, high) in enumerate(timeline.schedule.slices):
        place = mesh.place(2, worker)
        assert set(timeline.data[low:high].tolist()) == {place.data}
        assert set(timeline.tensor[low:high].tolist()) == {place.tensor}
        assert worker == (place.data * 2 + place.rank) * 2 + place.tensor
    columns = timeline.to_json()["events"]
    assert len(columns["data"]) == len(columns["tensor"]) == len(timeline.kind)
    assert (timeline.collective <= timeline.compute + 1e-9).all()
    assert board_sizes(run._setup)["ranks"] == 8


def test_schedules_without_a_flush_have_copies_too():
    for schedule in sorted(NO_FLUSH):
        run = pipelab.run(
            blocks(),
            *data_for(blocks)[:2],
            MSE,
            schedule=schedule,
            ranks=2,
            microbatches=4,
            data=2,
            steps=2,
            optimizer=adam,
        )
        assert run.losses[1] < run.losses[0]
        assert run.peak_bytes[0]["versions"] > 0


def test_a_schedule_of_ones_own_says_when_copies_meet():
    schedule = pipelab.build("1f1b", ranks=2, microbatches=4)
    kept = schedule.with_data_parallel(zero=3, reshard=False)
    x, y, loss_fn = data_for(blocks)
    run = pipelab.run(blocks(), x, y, loss_fn, schedule=kept, data=2, zero=3)
    size = sum(p.nbytes for p in blocks()[:4].parameters())
    assert run.bytes_by_collective[0]["unshard"] == pytest.approx(size / 2, rel=0.1)  # once
    assert run.gradient_error < 1e-12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": 0}, "data is 0"),
        ({"tensor": 1.5}, "tensor is 1.5"),
        ({"zero": 4, "data": 2}, "stage of ZeRO"),
        ({"zero": 1}, "data=2 or more"),
        ({"sequence_parallel": True}, "tensor=2 or more"),
        ({"data": 9}, "18 workers, and a mesh may have 16"),
        ({"data": 6}, "at most 3 with 6 copies"),
        ({"tensor": 2}, "nothing says which"),
        ({"tensor": 2, "tensor_plan": {"7.up": "column"}}, "no module of the model is called so"),
        ({"tensor": 2, "tensor_plan": {"4": "colum"}}, "it is one of column"),
        ({"tensor": 2, "tensor_plan": {"0.2": "column"}}, "LayerNorm"),
        ({"tensor": 2, "tensor_plan": {"0.0": "column"}}, "does not divide the 7 outputs"),
        ({"tensor": 2, "tensor_plan": {"4": "row"}, "sequence_parallel": True}, "scatter"),
        ({"data": 2, "workers": "threads"}, "runs in processes"),
        ({"data": 2, "executor": "torch"}, "runs in processes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_mesh_that_cannot_be_is_refused_with_what_would_work(options, words):
    x, y, loss_fn = data_for(blocks)
    with pytest.raises(UsageError, match=words):
        pipelab.run(blocks(), x, y, loss_fn, schedule="1f1b", ranks=2, microbatches=4, **options)


def test_attention_is_divided_by_heads():
    x, y, loss_fn = data_for(small_gpt)
    with pytest.raises(UsageError, match=r"4 attention heads .* tensor=2, 4 would"):
        pipelab.run(small_gpt(), x, y, loss_fn, schedule="1f1b", ranks=2, microbatches=2, tensor=3)


def test_collectives_that_the_mesh_does_not_know_are_refused():
    x, y, loss_fn = data_for(blocks)
    schedule = pipelab.build("1f1b", ranks=2, microbatches=4)
    for given, options, words in (
        (schedule.with_data_parallel(zero=3), {}, "data=2 or more with zero=3"),
        (schedule.with_data_parallel(zero=1), {"data": 2}, "UNSHARD"),
        (schedule.with_data_parallel(zero=0), {"data": 2, "zero": 1}, "gathers weights"),
    ):
        with pytest.raises(UsageError, match=words):
            pipelab.run(blocks(), x, y, loss_fn, schedule=given, **options)
    with pytest.raises(UsageError, match="says already"):
        schedule.with_data_parallel().with_data_parallel()


def test_torchruns_machines_may_have_more_workers_than_one_does():
    schedule, many = pipelab.build("1f1b", ranks=8, microbatches=8), Mesh(data=4)
    require_mesh(schedule, many, Where(workers="torchrun"))
    with pytest.raises(UsageError, match="32 workers"):
        require_mesh(schedule, many, Where(workers="processes"))
