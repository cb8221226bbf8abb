"""Any module as a list of layers: the same function, the same gradients, whatever passes along."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.engine.job.values import MAX_PARTS
from pipelab.errors import UsageError
from pipelab.model import exported

HOW = {"schedule": "1f1b", "ranks": 2, "microbatches": 3}


def through(layers, *inputs):
    """What the layers compute one after the other, as a run calls them."""
    value = inputs if len(inputs) > 1 else inputs[0]
    for layer in layers:
        value = layer(*value) if isinstance(value, tuple) else layer(value)
    return value


def assert_trains_as(module, inputs, target, loss_fn, *, call=None, example=2, least=2, **how):
    """A run of the layers has the gradients of the module itself, under the module's names."""
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    given = tuple(part[:example] for part in parts)
    layers = pipelab.layers(module, given if call is None else dict(zip(call, given, strict=True)))
    assert len(layers) >= least
    run = pipelab.run(layers, inputs, target, loss_fn, **(HOW | how))
    assert run.gradient_error <= 1e-5
    whole = copy.deepcopy(module)
    output = whole(*parts) if call is None else whole(**dict(zip(call, parts, strict=True)))
    loss_fn(output, target).backward()
    true = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    found = {layers.names[name]: gradient for name, gradient in run.gradients.items()}
    assert found.keys() == true.keys()
    for name, gradient in true.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name
    return layers


class Block(nn.Module):
    """The basic block of a ResNet (arXiv 1512.03385, figure 5)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Identity()
        if inputs != outputs:
            self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = self.relu(self.first_norm(self.first(x)))
        return self.relu(self.second_norm(self.second(y)) + self.short(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))


def test_a_resnet():
    """BatchNorm sees micro-batches, so in a run it is another function; in evaluation it is not."""
    module = ResNet().eval()
    x, y = torch.randn(7, 3, 8, 8), torch.randint(0, 5, (7,))
    layers = assert_trains_as(module, x, y, functional.cross_entropy, least=12)
    assert sorted(layers.names.values()) == sorted(dict(module.named_parameters()))
    assert all(
        parameter is dict(module.named_parameters())[layers.names[name]]
        for name, parameter in nn.Sequential(*layers).named_parameters()
    )


def test_a_resnet_in_training_counts_its_statistics():
    module = ResNet()
    layers = pipelab.layers(module, torch.randn(2, 3, 8, 8))
    x, y = torch.randn(6, 3, 8, 8), torch.randint(0, 5, (6,))
    run = pipelab.run(layers, x, y, functional.cross_entropy, **HOW)
    assert run.gradient_error <= 1e-5
    counted = [v for name, v in run.state_dict.items() if name.endswith("num_batches_tracked")]
    assert len(counted) == 7 and all(int(count) == HOW["microbatches"] for count in counted)
    assert int(module.stem[1].num_batches_tracked) == 0


def test_the_number_of_samples_is_free():
    module = ResNet().eval()
    layers = pipelab.layers(module, torch.randn(2, 3, 8, 8))
    for samples in (1, 2, 5):
        x = torch.randn(samples, 3, 8, 8)
        assert torch.allclose(through(layers, x), module(x), atol=1e-6)


class Translator(nn.Module):
    """Encoder and decoder: what the encoder returns goes to every layer of the decoder."""

    def __init__(self, hidden=16):
        super().__init__()
        self.embed = nn.Embedding(11, hidden)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(hidden, 2, 32, 0.0, batch_first=True) for _ in range(2)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(hidden, 2, 32, 0.0, batch_first=True) for _ in range(2)
        )
        self.scores = nn.Linear(hidden, 11)

    def forward(self, source, target):
        memory, x = self.embed(source), self.embed(target)
        for layer in self.encoder:
            memory = layer(memory)
        for layer in self.decoder:
            x = layer(x, memory)
        return self.scores(x)


def per_character(scores, target):
    return functional.cross_entropy(scores.flatten(0, 1), target.flatten())


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_an_encoder_and_a_decoder(schedule):
    source, target = torch.randint(0, 11, (6, 5)), torch.randint(0, 11, (6, 4))
    assert_trains_as(
        Translator(), (source, target), target, per_character, least=15, schedule=schedule
    )


class Named(nn.Module):
    """Named inputs, a mask that travels, two outputs, a tied weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.middle = nn.Linear(8, 8)
        self.extra = nn.Linear(8, 2)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids, mask=None):
        x = self.embed(ids)
        y = torch.tanh(self.middle(x)) * mask.unsqueeze(-1)
        return {"scores": self.head(x + y), "extra": [self.extra(y), None]}


def both(output, target):
    scores, extra = output if isinstance(output, tuple) else (output["scores"], output["extra"][0])
    return functional.mse_loss(scores.sum(1), target) + extra.square().mean()


def test_named_inputs_several_outputs_and_tied_weights():
    ids, mask = torch.randint(0, 7, (6, 5)), torch.randint(0, 2, (6, 5))
    layers = assert_trains_as(
        Named(), (ids, mask), torch.randn(6, 7), both, call=("ids", "mask"), least=3
    )
    assert "embed.weight" in layers.names.values()


class Changing(nn.Module):
    """A view of what is changed in place two weights later: no cut may come between."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        y = self.a(x) * 1
        seen = y.view(-1, 2, 2)
        y.add_(self.b(x))
        return self.c(seen.flatten(1))


def test_what_is_changed_in_place_is_not_torn_apart():
    module, x = Changing(), torch.randn(6, 4)
    layers = pipelab.layers(module, x)
    assert torch.allclose(through(layers, x), module(x))
    homes = [
        {layers.names[f"{i}.{n}"][0] for n, _ in p.named_parameters()} for i, p in enumerate(layers)
    ]
    assert {"a", "b"} <= homes[0] and homes[-1] == {"c"}
    assert_trains_as(module, x, x, functional.mse_loss)


class Dense(nn.Module):
    """Every layer reads all before it (arXiv 1608.06993): ever more tensors would pass."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))

    def forward(self, x):
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.stack(seen).sum(0)))
        return torch.stack(seen).sum(0)


def test_no_more_tensors_pass_than_a_run_can_send():
    assert exported.MOST == MAX_PARTS
    module, x = Dense(), torch.randn(6, 4)
    layers = assert_trains_as(module, x, x, functional.mse_loss)
    value = x
    for layer in layers[:-1]:
        value = layer(*value) if isinstance(value, tuple) else layer(value)
        assert isinstance(value, torch.Tensor) or len(value) <= MAX_PARTS


def test_auto_cuts_what_was_exported():
    module, x = ResNet().eval(), torch.randn(6, 3, 8, 8)
    layers = pipelab.layers(module, x)
    y = torch.randint(0, 5, (6,))
    run = pipelab.run(layers, x, y, functional.cross_entropy, **HOW, partition="auto")
    assert sum(run.partition) == len(layers) and run.gradient_error <= 1e-5


class Echo(nn.Module):
    """Returns one value twice, a weight, and an input as it came."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.b(self.a(x))
        return y, y, self.a.bias, x


def test_outputs_stay_as_many_as_they_are():
    module, x = Echo(), torch.randn(3, 4)
    layers = pipelab.layers(module, x)
    found, true = through(layers, x), module(x)
    assert len(layers) == 2 and len(found) == 4
    assert all(torch.equal(a, b) for a, b in zip(found, true, strict=True))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        if self.a(x).sum() > 0:
            return x
        return -x


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x) + torch.ones(2, 4)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x), x.shape[0]


@pytest.mark.parametrize(
    ("module", "example", "text"),
    [
        (
            Branching(),
            torch.randn(2, 4),
            r"Branching cannot be exported: .* \(test_exported.py, line \d+: if self.a\(x\).sum",
        ),
        (Fixed(), torch.randn(2, 4), "Fixed cannot be exported: "),
        (Counting(), torch.randn(2, 4), "Counting returns .* beside its tensors"),
        (
            nn.Linear(3, 4),
            torch.randn(2, 4),
            "Linear cannot be exported: a and b must have same reduction dim",
        ),
        (nn.Linear(4, 4), torch.randn(1, 4), "have 1 samples; torch.export leaves"),
        (nn.Bilinear(4, 4, 4), (torch.randn(2, 4), torch.randn(3, 4)), "have 2/3 samples"),
        (nn.Linear(4, 4), 7, "example_inputs is a tensor, a tuple of tensors or a dict"),
        (nn.Linear(4, 4), {}, "example_inputs is a tensor"),
        (torch.relu, torch.randn(2, 4), "layers takes an nn.Module, not a builtin"),
    ],
)
def test_refusals(module, example, text):
    with pytest.raises(UsageError, match=text) as error:
        pipelab.layers(module, example)
    assert "\n" not in str(error.value)


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="in the test extra, which CI installs")


@pytest.mark.filterwarnings("ignore")
def test_a_gpt2(transformers):
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 11, "n_positions": 16}
    quiet = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "use_cache": False}
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **quiet, **ends))
    ids = torch.randint(0, 11, (6, 8))

    def loss(output, target):
        scores = output if isinstance(output, torch.Tensor) else output.logits
        return per_character(scores, target)

    assert_trains_as(module, ids, ids, loss, call=("input_ids",), least=15)


@pytest.mark.filterwarnings("ignore")
def test_a_bert(transformers):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32, "vocab_size": 11, "max_position_embeddings": 16}  # fmt: skip
    quiet = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    module = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, **quiet))
    ids, mask = torch.randint(0, 11, (6, 8)), torch.ones(6, 8, dtype=torch.long)
    mask[:, 5:] = 0

    def loss(output, target):
        scores = output if isinstance(output, torch.Tensor) else output.logits
        return functional.cross_entropy(scores, target)

    y = torch.randint(0, 2, (6,))
    assert_trains_as(module, (ids, mask), y, loss, call=("input_ids", "attention_mask"), least=15)
