"""The file of a profile: what is written is read again, and what is broken says where."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelab
from pipelab.errors import UsageError
from pipelab.layout import LayerProfile, Profile

LAYER = {
    "name": "0 Linear", "forward": 0.1, "input_grad": 0.1, "weight_grad": 0.1,
    "activation_bytes": 8, "saved_input_bytes": 0, "output_bytes": 8, "parameter_bytes": 16,
}  # fmt: skip
LOSS = {name: 0 for name in LAYER if name != "name"}
FILE = {
    "format": "pipelab-profile-1", "device": "cpu", "dtype": "float32", "microbatch": 4,
    "layers": [LAYER], "loss": LOSS,
}  # fmt: skip

seconds = st.floats(0, 10)
sizes = st.integers(0, 2**40)
optional = st.none() | sizes
layers = st.builds(
    LayerProfile, st.text(max_size=5), seconds, seconds, seconds, sizes, sizes, sizes, sizes,
    optional, optional, st.none() | seconds,
)  # fmt: skip
profiles = st.builds(
    Profile, st.sampled_from(["cpu", "cuda"]), st.just("float32"), st.integers(1, 99),
    st.lists(layers, min_size=1, max_size=4).map(tuple), layers, sizes,
)  # fmt: skip


@given(profiles)
def test_what_is_saved_is_loaded(profile):
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_a_file_of_the_contract_is_a_profile(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(FILE | {"made by": "hand"}))
    profile = pipelab.Profile.load(path)
    assert profile.layers[0].deferred_activation_bytes is None and profile.loss.name == "loss"
    assert profile.seconds == pytest.approx(0.3)
    profile.save(path)
    assert Profile.load(path) == profile


def without(data, name):
    return {key: value for key, value in data.items() if key != name}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("{", "is not JSON (Expecting property name"),
        (b"\xff\xfe", "is not JSON ('utf-8' codec"),
        ([], 'this is not a profile ("format": "pipelab-profile-1"): make one with pipelab'),
        (FILE | {"format": "other"}, "this is not a profile"),
        (without(FILE, "loss"), "the profile has no loss: make one"),
        (FILE | {"layers": []}, "A profile without layers"),
        (FILE | {"layers": "many"}, "layers is a str; it is a list"),
        (FILE | {"layers": [7]}, "layer 0 is a int; it is an object"),
        (FILE | {"layers": [LAYER, without(LAYER, "forward")]}, "layer 1 has no forward: make"),
        (FILE | {"layers": [LAYER | {"forward": -1}]}, "layer 0: forward is -1; it is a number of"),
        (FILE | {"layers": [LAYER | {"forward": None}]}, "layer 0: forward is None"),
        (FILE | {"loss": LOSS | {"output_bytes": "8"}}, "loss: output_bytes is '8'; it is a numb"),
        (FILE | {"layers": [LAYER | {"forward": float("nan")}]}, "layer 0: forward is nan"),
        (FILE | {"microbatch": 0}, "microbatch is 0; it is a number, 1 or more"),
    ],
)  # fmt: skip
def test_a_broken_file_says_where_in_one_line(data, text, tmp_path):
    path = tmp_path / "p.json"
    content = data if isinstance(data, str | bytes) else json.dumps(data)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        Profile.load(path)
    assert text in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)
