"""Pictures of a mesh: who has which colour, which groups leave a node, bytes as long bars."""

import re
from xml.etree import ElementTree

import pytest
import torch

import pipelab
from pipelab.course import held, traffic, workers
from pipelab.errors import UnknownName, UsageError
from pipelab.schedule import Mesh

MESH = Mesh(data=2, tensor=2)
SVG = "{http://www.w3.org/2000/svg}"


def filled(picture):
    """Colour by number of a worker."""
    boxes = re.findall(r'height="34" rx="4" fill="(#\w+)"/><text[^>]*>(\d+)<', picture.svg)
    return {int(number): colour for colour, number in boxes}


@pytest.mark.parametrize(
    ("group", "members"),
    [
        ("tensor", [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
        ("pipeline", [{0, 2}, {1, 3}, {4, 6}, {5, 7}]),
        ("data", [{0, 4}, {1, 5}, {2, 6}, {3, 7}]),
    ],
)
def test_workers_of_a_group_have_one_colour(group, members):
    colours = filled(workers(MESH, ranks=2, group=group))
    found = {colour: {w for w in colours if colours[w] == colour} for colour in colours.values()}
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, members))


def test_groups_that_cross_nodes_are_counted():
    def said(group, node):
        return workers(MESH, ranks=2, group=group, node=node).svg

    assert "tensor: 4 groups of 2 workers, none crosses a node" in said("tensor", 2)
    assert "pipeline: 4 groups of 2 workers, 4 of them cross nodes" in said("pipeline", 2)
    assert "pipeline: 4 groups of 2 workers, none crosses a node" in said("pipeline", 4)
    assert "data: 4 groups of 2 workers, 4 of them cross nodes" in said("data", 4)
    # a node of three workers ends in the middle of a group
    assert "tensor: 4 groups of 2 workers, 1 of them crosses nodes" in said("tensor", 3)
    assert said("data", 4).count("node 0") == 1 and said("data", 8).count("node 0") == 2


def test_a_mesh_of_sixteen_fits_the_picture():
    picture = ElementTree.fromstring(workers(Mesh(2, 2), ranks=4, node=8).svg)
    assert len(list(picture.iter(f"{SVG}rect"))) == 16 + 2
    for box in picture.iter(f"{SVG}rect"):
        assert float(box.get("x")) + float(box.get("width")) <= 640


def test_what_is_no_group_is_refused():
    with pytest.raises(UnknownName, match="pipeline"):
        workers(MESH, ranks=2, group="pipelin")
    with pytest.raises(UsageError, match="node is 0"):
        workers(MESH, ranks=2, node=0)


class Kept:
    """What two workers sent and held."""

    bytes_by_collective = (
        {"tensor": 4096, "reduce_grad": 1024, "unshard": 0, "pipeline": 2048},
        {"tensor": 4096, "reduce_grad": 1024, "unshard": 0, "pipeline": 1024},
    )
    peak_bytes = (
        {"weights": 1024, "gathered": 0, "gradients": 1024, "optimizer": 2048, "versions": 0,
         "activations": 8192},
    )  # fmt: skip


def test_bytes_are_bars_of_parts():
    said = traffic(Kept()).svg
    assert "worker 0: 7 KiB (inside layers 4, between stages 2, gradients 1)" in said
    assert "worker 1: 6 KiB" in said and "unshard" not in said and ">weights<" not in said
    assert "worker 0" not in traffic(Kept(), workers=[1]).svg
    lengths = [float(one) for one in re.findall(r'width="([\d.]+)" height="18"', said)]
    assert lengths[0] == pytest.approx(4 * lengths[2], abs=0.2)
    assert lengths[1] == pytest.approx(2 * lengths[4], abs=0.2)


def test_activations_are_drawn_only_if_asked_for():
    assert "a: 4 KiB (weights 1, gradients 1, optimizer 2)" in held({"a": Kept()}).svg
    assert "a: 12 KiB" in held({"a": Kept()}, activations=True).svg


def test_a_real_run_is_drawn():
    layers = torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(4)))
    x, y = torch.randn(2, 8, 16)
    run = pipelab.run(
        layers, x, y, torch.nn.functional.mse_loss, schedule="1f1b", ranks=2, microbatches=2,
        data=2, zero=3, optimizer=torch.optim.Adam, timeout=20,
    )  # fmt: skip
    assert "between stages" in traffic(run).svg and "gathered" in held({"ZeRO 3": run}).svg
