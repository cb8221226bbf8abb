"""An option of training is a field of Recipe, a check beside it, and the place that uses it."""

import inspect
from dataclasses import fields

import pytest
import torch

import pipelab
from pipelab.engine.job.recipe import Recipe
from pipelab.errors import UsageError

OF_EVALUATION = {"evaluate", "outputs"}


def test_run_and_start_have_one_real_signature():
    run, start = inspect.signature(pipelab.run), inspect.signature(pipelab.start)
    assert list(run.parameters.values()) == list(start.parameters.values())
    assert not {p.kind for p in run.parameters.values()} & {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }


@pytest.mark.parametrize("field", fields(Recipe), ids=lambda field: field.name)
def test_every_field_of_the_recipe_is_an_option_of_run_with_its_default(field):
    options = inspect.signature(pipelab.run).parameters
    if field.name in OF_EVALUATION:
        assert field.name not in options
    else:
        assert options[field.name].default == field.default


def test_the_docstring_of_run_names_every_option_on_a_line_of_its_own():
    lines = [line.strip() for line in pipelab.run.__doc__.splitlines()]
    for name in inspect.signature(pipelab.run).parameters:
        assert any(line.startswith(f"{name}: ") for line in lines), name


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"steps": 0}, "steps is 0; a run takes a whole number of steps"),
        ({"dtype": "float64"}, "There is no dtype 'float64'"),
        ({"recompute": "never"}, "There is no way of recomputing 'never'"),
        ({"clip": 0}, "clip is 0, which leaves nothing of the gradients"),
        ({"clip": 1.0}, "clip without an optimizer changes nothing"),
        ({"scheduler": torch.nn.Linear}, "scheduler without an optimizer changes nothing"),
        ({"latency": -1}, "latency is -1; it is a finite number of seconds"),
        ({"timeout": 0}, "timeout is 0; a wait needs some time"),
        ({"optimizer": 3}, "optimizer is not callable"),
    ],
)
def test_values_that_cannot_work_together_are_refused_when_it_is_made(values, text):
    with pytest.raises(UsageError, match=text):
        Recipe(**values)


def test_what_the_processes_of_torchrun_compare_can_be_sent():
    recipe = Recipe(steps=2, optimizer=lambda ps: torch.optim.SGD(ps, lr=0.1), clip=1.0)
    assert (
        recipe.comparable()
        == Recipe(steps=2, optimizer=lambda ps: torch.optim.Adam(ps), clip=1.0).comparable()
    )
    assert recipe.comparable() != Recipe(steps=2).comparable()
