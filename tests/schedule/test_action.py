import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelab.errors import ScheduleFormatError
from pipelab.schedule import Action, Kind, Overlap, parse_cell
from pipelab.schedule.kinds import COLLECTIVES

ids = st.integers(0, 2**31 - 1)
numbered = st.builds(
    Action, st.sampled_from(sorted(set(Kind) - COLLECTIVES)), ids, ids, st.integers(0, 3)
)
unnumbered = st.builds(
    Action, st.sampled_from(sorted(COLLECTIVES)), ids, st.just(0), st.integers(0, 3)
)
actions = numbered | unnumbered


@given(actions)
def test_text_round_trip(action):
    assert Action.parse(str(action)) == action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("2F0", Action(Kind.F, 2, 0)),
        ("11I3", Action(Kind.I, 11, 3)),
        ("2R3", Action(Kind.R, 2, 3)),
        ("2STEP0", Action(Kind.STEP, 2, 0)),
        ("2F3@1", Action(Kind.F, 2, 3, 1)),
        ("0UNSHARD", Action(Kind.UNSHARD, 0, 0)),
        ("3RESHARD", Action(Kind.RESHARD, 3, 0)),
        ("2REDUCE_GRAD@1", Action(Kind.REDUCE_GRAD, 2, 0, 1)),
        (" 0W1 ", Action(Kind.W, 0, 1)),
    ],
)
def test_notation(text, action):
    assert Action.parse(text) == action
    assert str(action) == text.strip()


def test_overlap():
    pair = parse_cell("(0F7;7B3)OVERLAP_F_B")
    assert pair == Overlap(Action(Kind.F, 0, 7), Action(Kind.B, 7, 3))
    assert str(pair) == "(0F7;7B3)OVERLAP_F_B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "F0",
        "0F",
        "0F0garbage",
        "0BW0",
        "0f0",
        "-1F0",
        "0F0.5",
        "0X0",
        "0UNSHARD0",
        "UNSHARD",
        "0REDUCE_GRAD@",
        "0REDUCE-GRAD",
        "(0UNSHARD)OVERLAP_F_B",
        "0F0@",
        "٣F0",
        "(0F0;1B0)",
        "(0F0)OVERLAP_F_B",
    ],
)
def test_anything_else_is_refused_with_the_form(text):
    with pytest.raises(
        ScheduleFormatError, match="An action is .stage..kind..microbatch., such as 2F0"
    ):
        parse_cell(text)


@pytest.mark.parametrize(
    "text",
    [
        "(0F0;1F0)OVERLAP_F_B",
        "(0B0;1B0)OVERLAP_F_B",
        "(0F0;1W0)OVERLAP_F_B",
        "(0F0;1UNSHARD)OVERLAP_F_B",
    ],
)
def test_an_overlap_joins_a_forward_and_a_backward(text):
    with pytest.raises(ScheduleFormatError, match="one forward F with one backward"):
        parse_cell(text)


def test_numbers_beyond_reason_are_refused():
    with pytest.raises(ScheduleFormatError, match="larger than"):
        Action.parse("0F99999999999999999999")
