import dataclasses
import math

import pytest

from training.recipe import FINETUNING, PUBLISHED, Recipe, choose_recipe, has_mosaics, learning_rate


def recipe(lr_schedule, lr=1e-3, steps=800_000):
    return Recipe(lr, lr_schedule, 'ce_loss', 'ciou', steps)


@pytest.mark.parametrize('step, steps, schedule, expected', [
    (0, 800_000, 'steps', 1e-4), (250, 800_000, 'steps', 5.5e-4), (500, 800_000, 'steps', 1e-3),
    (279_999, 800_000, 'steps', 1e-3), (280_000, 800_000, 'steps', 1e-4), (600_000, 800_000, 'steps', 1e-5),
    (700_000, 900_000, 'steps', 1e-6), (800_000, 900_000, 'steps', 1e-7),  # longer runs keep the published steps
    (3499, 10_000, 'steps', 1e-3), (3500, 10_000, 'steps', 1e-4),  # shorter ones shrink them
    (5000, 10_000, 'cosine', 5e-4), (9999, 10_000, 'constant', 1e-3)])
def test_learning_rate(step, steps, schedule, expected):
    assert learning_rate(recipe(schedule, steps=steps), step) == pytest.approx(expected, rel=1e-3)


def test_the_published_schedule_counts_images():
    for step, expected in ((69_999, 4e-3), (70_000, 4e-4), (150_000, 4e-5)):
        assert learning_rate(recipe('steps', 4e-3), step, world_size=4) == pytest.approx(expected)


def test_a_short_run_warms_up_for_a_tenth_of_its_steps():
    rates = [learning_rate(recipe('constant', 1.1e-3, 50), step) for step in range(7)]
    assert rates == pytest.approx([1e-4, 3e-4, 5e-4, 7e-4, 9e-4, 1.1e-3, 1.1e-3])
    assert learning_rate(recipe('constant', steps=1), 0) == 1e-4


def test_a_low_rate_needs_no_warm_up():
    assert learning_rate(recipe('constant', 1e-5, 1000), 0) == 1e-5


def test_from_scratch_the_published_recipe_is_used_with_a_learning_rate_in_proportion_to_the_images_per_step():
    assert choose_recipe({}, {}, 'published') == PUBLISHED
    assert choose_recipe({}, {}, 'published', world_size=4).lr == 4e-3
    assert choose_recipe({'batch_size': 2}, {}, 'published', world_size=2).lr == 5e-4
    assert choose_recipe({'lr': 0.5}, {}, 'published', world_size=4).lr == 0.5


def test_finetuning_has_its_own_recipe():
    assert choose_recipe({}, {}, 'finetuning', pretrained=True) == FINETUNING
    assert (FINETUNING.lr, FINETUNING.lr_schedule) == (1e-4, 'constant')


def test_a_recipe_comes_from_flags_then_the_checkpoint_then_the_pattern():
    checkpoint_recipe = dict(lr=0.02, lr_schedule='cosine', conf_loss='focal_loss', steps=30, seed=4, batch_size=2)
    found = choose_recipe({'lr': 0.5, 'steps': 40}, checkpoint_recipe, 'finetuning')
    assert found == Recipe(0.5, 'cosine', 'focal_loss', 'ciou', steps=40, seed=4, batch_size=2)


@pytest.mark.parametrize('batch_size, pretrained, checkpoint_recipe, frozen', [
    (5, True, {}, True), (6, True, {}, False), (5, False, {}, False), (5, True, {'freeze_bn': False}, False)])
def test_batch_norm_is_frozen_for_few_images_per_device_and_a_pretrained_backbone(batch_size, pretrained,
                                                                                  checkpoint_recipe, frozen):
    recipe = choose_recipe({'batch_size': batch_size}, checkpoint_recipe, 'finetuning', pretrained=pretrained)
    assert recipe.freeze_bn is frozen


@pytest.mark.parametrize('checkpoint_recipe', [
    {'lr': 'x'}, {'lr': True}, {'lr': math.nan}, {'lr_schedule': 'soon'}, {'conf_loss': None}, {'ema': 1},
    {'freeze_bn': 'no'}, {'alien': 1}, {'steps': 0}, {'steps': 1.0}, {'steps': math.inf}, {'batch_size': True},
    {'seed': -1}, {'pos_threshold': 2}, {'negpos_ratio': 'x'}])
def test_a_damaged_recipe(checkpoint_recipe):
    with pytest.raises(ValueError):
        choose_recipe({}, checkpoint_recipe, 'finetuning')


def test_the_last_tenth_of_a_run_has_no_mosaics():
    assert [has_mosaics(recipe('cosine', steps=100), step) for step in (0, 89, 90, 99)] == [True, True, False, False]
    timed = dataclasses.replace(recipe('cosine'), minutes=10.0)
    assert [has_mosaics(timed, 5, seconds) for seconds in (0, 539, 540, 600)] == [True, True, False, False]
