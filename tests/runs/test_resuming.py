from dataclasses import asdict
from types import SimpleNamespace

import pytest

from dfad_fast.engine.recipe import Recipe
from dfad_fast.engine.settings import recorded_by_value
from dfad_fast.errors import UsageError
from dfad_fast.runs.resuming import changes

NOW = {
    **recorded_by_value(), "method": "dfad", "terms": {}, "image_shape": [1, 8, 8], "recipe": {}, "levers": {},
    "taps": [], "versions": {}, "processes": 1,
}  # fmt: skip
OF_BEFORE = {key: NOW[key] for key in ("method", "latent_dim", "batch_size", "seed")}


def folder(**config):
    return SimpleNamespace(path="run", read_config=lambda: {**OF_BEFORE, **config})


def test_a_run_of_before_some_settings_had_their_defaults():
    assert changes(folder(), NOW, accept=False) == {}
    with pytest.raises(UsageError, match=r"other settings \(replay: 0 then, 3 now\): resume"):
        changes(folder(), {**NOW, "replay": 3}, accept=False)


def test_a_recipe_of_before_some_of_its_entries_had_their_defaults():
    recipe = asdict(Recipe(student_lr=0.3))
    of_before = {key: value for key, value in recipe.items() if key != "generator_decays"}
    old = folder(recipe=of_before)
    assert changes(old, {**NOW, "recipe": recipe}, accept=False) == {}
    with pytest.raises(UsageError, match=r"{'generator_decays': True} then, {'generator_decays': False} now"):
        changes(old, {**NOW, "recipe": {**recipe, "generator_decays": False}}, accept=False)


def test_a_lever_that_there_was_not_yet_is_taken_up():
    old = folder(levers={"winograd": True})
    assert changes(old, {**NOW, "levers": {"winograd": True, "fused_norms": True}}, accept=False) == {}
    with pytest.raises(UsageError, match=r"{'winograd': True} then, {'winograd': False} now"):
        changes(old, {**NOW, "levers": {"winograd": False, "fused_norms": True}}, accept=False)


def test_the_teacher_of_before_it_had_a_precision_computed_as_the_others():
    old = folder(levers={"precision": "float32"})
    same, other = ({"precision": "float32", "teacher_precision": name} for name in ("same", "bfloat16"))
    assert changes(old, {**NOW, "levers": same}, accept=False) == {}
    with pytest.raises(UsageError, match=r"{'teacher_precision': 'same'} then"):
        changes(old, {**NOW, "levers": other}, accept=False)


def test_settings_that_older_runs_wrote_together_are_read_one_by_one():
    old = folder(cures={"student_ema": 0.9, "replay": 2, "generator_ema": None}, sync_batch_norm=False)
    assert changes(old, {**NOW, "student_ema": 0.9, "replay": 2}, accept=False) == {}
    changed = changes(old, {**NOW, "student_ema": 0.5, "replay": 2}, accept=True)
    assert changed == {"student_ema": 0.5}


def test_the_last_change_counts():
    later = folder(changes=[{"at_iteration": 3, "seed": 4}, {"at_iteration": 5, "cures": {"replay": 7}}])
    assert changes(later, {**NOW, "seed": 4, "replay": 7}, accept=False) == {}


@pytest.mark.parametrize("damaged", [None, 3, ["replay"]])
def test_what_is_no_mapping_there_is_passed_over(damaged):
    assert changes(folder(cures=damaged), NOW, accept=False) == {}
