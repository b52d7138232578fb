from dataclasses import replace

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.recipe import RECIPES, Recipe, choose_recipe
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS


def test_the_published_recipe_is_dfads():
    recipe = choose_recipe("published", nn.Identity())
    student = recipe.student([nn.Parameter(torch.zeros(1))])
    assert isinstance(student, torch.optim.SGD)
    group = student.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)
    generator = recipe.generator([nn.Parameter(torch.zeros(1))])
    assert isinstance(generator, torch.optim.Adam)
    assert generator.param_groups[0]["lr"] == 1e-3
    # Epochs 100 and 200 of 500.
    factors = [recipe.rate_factor(epoch / 500) for epoch in (0, 99, 100, 199, 200, 499)]
    assert factors == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_the_cosine_goes_from_one_to_nothing():
    factors = [Recipe(lr_decay="cosine").rate_factor(p) for p in (0, 0.5, 1)]
    assert factors == pytest.approx([1, 0.5, 0])
    assert Recipe(lr_decay="constant").rate_factor(0.9) == 1


def test_the_generators_rate_may_stay_as_it_is():
    assert Recipe(lr_decay="cosine").generator_rate_factor(0.5) == pytest.approx(0.5)
    assert Recipe(lr_decay="cosine", generator_decays=False).generator_rate_factor(0.5) == 1


@pytest.mark.parametrize(
    ("name", "generator_lr", "student_lr"),
    [
        ("fast-2", 5e-3, 0.2),
        ("fast-5", 3e-3, 0.2),
        ("fast-10", 2e-3, 0.2),
        ("nayer", 4e-3, 0.2),
        ("cmi", 1e-3, 0.1),
    ],
)
def test_recipes_of_model_inversion_are_as_published(name, generator_lr, student_lr):
    recipe = choose_recipe("auto", nn.Identity(), METHODS[name].recipe)
    parameter = nn.Parameter(torch.zeros(1))
    student, generator = recipe.student([parameter]), recipe.generator([parameter])
    group = student.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (student_lr, 0.9, 1e-4)
    assert (generator.param_groups[0]["lr"], generator.param_groups[0]["betas"]) == (
        generator_lr,
        (0.5, 0.999),
    )
    assert (recipe.rate_factor(0.5), recipe.generator_rate_factor(0.5)) == (pytest.approx(0.5), 1)


@pytest.mark.parametrize("name", ["student_lr", "generator_lr"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_rates_that_cannot_be_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} must be > 0"):
        Recipe(**{name: value})


def test_every_recipe_makes_optimisers_that_step():
    for recipe in RECIPES.values():
        parameter = nn.Parameter(torch.ones(3))
        for optimizer in (recipe.student([parameter]), recipe.generator([parameter])):
            before = parameter.detach().clone()
            parameter.grad = torch.ones(3)
            optimizer.step()
            assert bool((parameter < before).all())


def test_auto_looks_at_the_students_batch_norm_layers():
    assert choose_recipe("auto", nn.BatchNorm2d(3)) is RECIPES["sgd"]
    assert choose_recipe("auto", nn.Conv2d(3, 3, 1)) is RECIPES["adam"]
    assert choose_recipe(RECIPES["adam"], nn.BatchNorm2d(3)) is RECIPES["adam"]


def test_rates_stand_over_the_recipes(pair):
    recipe = Recipe("sgd", student_lr=0.3, generator_lr=0.2)
    trainer = DFADTrainer(*pair, (1, 8, 8), "dfad", recipe=recipe, student_lr=0.7, batch_size=8, latent_dim=4)
    assert trainer.recipe == replace(recipe, student_lr=0.7)
