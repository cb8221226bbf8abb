"""Figure, SVG and page: made from any Timeline, complete, and usable where they are meant to be
used.
"""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from pipelab import Costs, Kind, Schedule, build, plot, simulate
from pipelab.errors import UsageError
from pipelab.layout import LayerProfile, Profile, partition
from pipelab.plots import svg, view, write_page
from pipelab.plots.palette import LOOKS, ink, shade

SPLIT = Schedule.from_rows(
    [["0F0", "0F1", "0I0", "0W0", "0I1", "0W1"], ["1F0", "1I0", "1F1", "1W0", "1I1", "1W1"]]
)


@pytest.fixture(params=["1f1b", "split"])
def timeline(request):
    return simulate(SPLIT if request.param == "split" else build("1f1b", ranks=4, microbatches=16))


def test_figure_has_a_bar_per_action_and_few_traces(timeline):
    figure = plot(timeline)
    assert type(figure).__name__ == "Figure"
    *kinds, memory = figure.data
    assert [trace.name[0] for trace in kinds] == [
        kind.name for kind in sorted(timeline.schedule.kinds)
    ]
    assert sum(len(trace.y) for trace in kinds) == len(timeline.kind)
    for trace, kind in zip(kinds, sorted(timeline.schedule.kinds), strict=True):
        assert np.allclose(trace.base, timeline.started[timeline.kind == kind])
        assert trace.marker.pattern.shape == LOOKS[kind].pattern
    assert memory.name == "memory"


def test_memory_strips_of_a_figure_never_overlap(timeline):
    y = [value for value in plot(timeline).data[-1].y]
    strips, current = [], []
    for value in y:
        if value is None:
            strips.append(current)
            current = []
        else:
            current.append(value)
    assert len(strips) == timeline.schedule.ranks
    for rank, strip in enumerate(strips):
        assert (
            rank + 0.25 < min(strip) <= max(strip) < rank + 0.75
        )  # under the rank's bars, above the next rank's


def test_a_measured_figure_says_its_unit():
    timeline = replace(
        simulate(build("naive", ranks=2, microbatches=2)), unit="s", source="measured"
    )
    figure = plot(timeline)
    assert figure.layout.xaxis.title.text == "time (s)"
    assert "measured" in figure.layout.title.text


def test_svg_is_well_formed_and_needs_no_style_sheet(timeline):
    text = svg(timeline)
    root = ElementTree.fromstring(text)
    tags = {element.tag.split("}")[1] for element in root.iter()}
    assert tags <= {"svg", "title", "text", "rect", "path", "g"}
    assert not any(
        "style" in element.attrib or "class" in element.attrib for element in root.iter()
    )
    assert text.count("M") >= len(timeline.kind)
    assert len(text) < 16_000


def test_svg_names_what_it_shows(timeline):
    text = svg(timeline)
    for kind in timeline.schedule.kinds:
        assert LOOKS[kind].title in text
    assert f"rank {timeline.schedule.ranks - 1}" in text


def test_svg_can_be_read_without_a_kernel():
    """It had no axis, no peaks and no numbers, so that a printed notebook said little."""
    text = svg(simulate(build("1f1b", ranks=4, microbatches=8)))
    assert re.findall(r">peak (\d+)<", text) == ["4", "3", "2", "1"]
    axis = re.search(r'<g text-anchor="middle" font-size="11" fill="#767676">(.*?)</g>', text)
    assert re.findall(r">(\d+)<", axis[1]) == ["0", "5", "10", "15", "20", "25", "30"]
    assert "makespan 33, bubble fraction 27.3%, bubble overhead 37.5%, bubble rate 27.3%" in text


def labels_of(timeline, **changes):
    """What is written on the bars, in the order of the atoms."""
    bars = re.search(r'<g text-anchor="middle" font-size="11">(.*?)</g>', svg(timeline, **changes))
    return re.findall(r">(\w+)</text>", bars[1])


def test_all_actions_of_a_kind_and_rank_have_a_label_in_an_svg_or_none_has():
    """Forwards 0 to 9 had one and forwards 10 to 15, as wide, had none."""
    timeline = simulate(build("1f1b", ranks=4, microbatches=16))
    assert sorted(labels_of(timeline), key=int) == sorted([*map(str, range(16))] * 4, key=int)


def test_a_collective_too_narrow_for_its_letter_takes_no_label_from_others_in_an_svg():
    schedule = build("1f1b", ranks=2, microbatches=4).with_data_parallel(zero=3)
    timeline = simulate(schedule, Costs(unshard=[0.2, 3], reshard=0.01, reduce_grad=2))
    labels = labels_of(timeline, width=640)
    assert labels.count("U") == np.sum((timeline.kind == Kind.UNSHARD) & (timeline.rank == 1))
    assert labels.count("G") == np.sum(timeline.kind == Kind.REDUCE_GRAD)
    assert "H" not in labels and all(labels.count(str(number)) == 4 for number in range(4))


@pytest.mark.parametrize("width", [320, 480, 640, 950])
def test_nothing_below_an_svg_is_clipped(width):
    """At 640 pixels "reduce gradients" ended outside the picture, and all that came after it."""
    schedule = build("1f1b", ranks=2, microbatches=4).with_data_parallel(zero=3)
    timeline = simulate(schedule, Costs(unshard=0.3, reshard=0.1, reduce_grad=0.5))
    root = ElementTree.fromstring(svg(timeline, width))
    texts = [element for element in root if element.tag.endswith("text")]
    said = [text.text for text in texts]
    below = texts[said.index("F forward") :]
    assert said[-len(below) :][:6] == [
        *("F forward", "B backward", "U gather weights", "H give weights back"),
        *("G reduce gradients", "grey: memory of the rank"),
    ]
    assert "bubble rate" in said[-1]
    places = [(int(text.get("y")), int(text.get("x")), 7 * len(text.text)) for text in below]
    assert all(x + wide <= width and y < int(root.get("height")) for y, x, wide in places)
    for (y, x, wide), (next_y, next_x, _) in pairwise(places):
        assert next_y >= y + 12 or (next_y == y and next_x >= x + wide)


def test_times_on_the_axis_of_a_narrow_svg_do_not_touch():
    timeline = replace(simulate(build("1f1b", ranks=2, microbatches=4)), unit="s")
    axis = re.search(r'<g text-anchor="middle" font-size="11" fill.*?</g>', svg(timeline, 320))
    times = re.findall(r'x="([\d.]+)" y="\d+">([^<]+)<', axis[0])
    assert len(times) > 1
    for (x, text), (next_x, after) in pairwise(times):
        assert float(next_x) - float(x) > 6 * (len(text) + len(after)) / 2


def embedded(page: str) -> list[dict]:
    return json.loads(re.search(r'id="timelines">(.*?)</script>', page, re.DOTALL)[1])


def test_page_carries_its_timelines_and_asks_for_nothing(tmp_path, timeline):
    path = write_page(tmp_path / "page.html", timeline, timeline)
    page = path.read_text(encoding="utf-8")
    first, second = embedded(page)
    assert base64.b64decode(first["bars"]) == view(timeline)["bars"]
    assert second["numbers"] == view(timeline)["numbers"]
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|plotly", page)
    assert "https://" not in page


def test_page_survives_a_hostile_name(tmp_path):
    schedule = Schedule.from_rows([["0F0", "0B0"]], name="</script><b>$title")
    page = write_page(tmp_path / "page.html", simulate(schedule)).read_text(encoding="utf-8")
    assert len(embedded(page)) == 1
    assert "<b>" not in page
    assert "<title>&lt;/script&gt;&lt;b&gt;$title: 1 rank" in page


def test_page_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("the old page")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pipelab.plots.page.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(path, simulate(build("gpipe", ranks=2, microbatches=2)))
    assert path.read_text() == "the old page"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_page_refuses_what_has_no_common_axis(tmp_path):
    abstract = simulate(build("gpipe", ranks=2, microbatches=2))
    with pytest.raises(UsageError, match="same unit"):
        write_page(tmp_path / "page.html", abstract, replace(abstract, unit="s"))
    with pytest.raises(UsageError, match="at least one"):
        write_page(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_every_kind_has_its_own_look():
    assert set(LOOKS) == set(Kind)
    assert list(LOOKS) == list(range(len(Kind)))  # the front end finds a look by its kind's number
    looks = [(look.colour, look.pattern) for look in LOOKS.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("kind", LOOKS)
def test_labels_are_readable_on_every_shade(kind):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in {LOOKS[kind].colour, LOOKS[kind].dark}:
        for fraction in np.linspace(0, 1, 9):
            fill = shade(colour, fraction)
            light, dark = sorted([luminance(fill), luminance(ink(fill))], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.0, f"{kind.name} {fill}"


def test_actions_for_all_micro_batches_show_their_letter_in_their_own_colour():
    rows = ["0UNSHARD 0F0 0B0 0RESHARD 0REDUCE_GRAD".split()]
    timeline = simulate(Schedule.from_rows(rows), Costs(unshard=1, reshard=1, reduce_grad=1))
    text, figure = svg(timeline), plot(timeline)
    traces = {trace.name[0]: trace for trace in figure.data}
    for kind in (Kind.UNSHARD, Kind.RESHARD, Kind.REDUCE_GRAD):
        look = LOOKS[kind]
        assert f">{look.letter}</text>" in text and f'fill="{look.colour.lower()}"' in text
        trace = traces[look.letter]
        assert list(trace.text) == [look.letter] and trace.marker.color[0] == look.colour.lower()
        assert "customdata[1]" not in trace.hovertemplate
    plain = simulate(build("1f1b", ranks=2, microbatches=2))
    assert LOOKS[Kind.UNSHARD].title not in svg(plain)


def test_plotly_is_imported_only_for_a_figure():
    code = "import sys, pipelab, pipelab.plots; assert not {'plotly', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_latency_shows_as_a_gap():
    plain, late = (
        simulate(build("gpipe", ranks=2, microbatches=1), Costs(latency=latency))
        for latency in (0, 3)
    )
    assert plot(late).data[0].base[1] - plot(plain).data[0].base[1] == 3


def test_a_partition_beside_even_cuts_in_one_figure():
    nothing = LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0)
    layers = tuple(LayerProfile(str(i), t, t, 2 * t, 8, 0, 8, 4) for i, t in enumerate((1, 1, 4)))
    found = partition(Profile("cpu", "float32", 1, layers, nothing), ranks=2)
    figure = plot(found)
    assert [trace.name for trace in figure.data] == ["forward", "input gradient", "weight gradient"]
    assert figure.data[0].x == figure.data[1].x == (2e3, 4e3, 2e3, 4e3, 2e3, 4e3)
    assert figure.data[2].x == (4e3, 8e3, 4e3, 8e3, 4e3, 8e3)
    assert list(figure.data[0].y[0]).count("even: slowest 1.6e+04 ms") == 2
    assert figure.data[0].hovertext[0] == "stage 0: 2 layers<br>64 bytes"
