"""Two pictures that answer: the tradeoff of a link, and the family of schedules over a lab."""

import pytest

import pipelab
from pipelab.errors import UnknownName, UsageError
from pipelab.widgets import Settings, family, tradeoff


def test_the_curves_are_what_the_lab_says():
    made = tradeoff(latency=1)
    times = {v: made.rest[made.at] + made.bubble[i] + made.trips[made.at][i]
             for i, v in enumerate(made.stages)}  # fmt: skip
    assert made.latencies[made.at] == 1
    for v, name in ((1, "1f1b"), (2, "interleaved-1f1b"), (4, "interleaved-1f1b")):
        lab = Settings(name, stages_per_rank=v, latency=1.0)
        assert times[v] == pytest.approx(lab.predict().makespan)
    assert made.trips[0] == [0] * len(made.stages), "no latency, no time lost to it"
    assert "to more trips" in made._repr_mimebundle_()[0]["image/svg+xml"]
    with pytest.raises(UsageError, match="the slider goes from 0 to 1.5"):
        tradeoff(latency=2)


def test_a_point_shows_its_schedule_in_the_lab():
    lab = pipelab.lab("1f1b", ranks=4, microbatches=8)
    made = family(lab, ["1f1b", "zb-h1", "dualpipe"])
    assert made.chosen == "1f1b"
    memory = {name: held for name, held, _ in made.points}
    assert memory["1f1b"] == pytest.approx(12.5)
    made.chosen = "zb-h1"
    assert lab.schedule == "zb-h1"
    lab.schedule = "dualpipe"
    assert made.chosen == "dualpipe"
    assert lab.facts["copies"] == 2
    assert "zb-h1" in made._repr_mimebundle_()[0]["image/svg+xml"]
    with pytest.raises(UnknownName):
        family(lab, ["1f2b"])
    lab.close()
