import pytest

from training.step_line import join_parts, loss_parts, progress_parts

LOSSES = {'box': 1.0, 'mask': 2.0, 'class': 0.25}


def test_a_run_of_steps_says_how_far_it_is_and_what_is_left():
    assert progress_parts(133, 300, 0, 133 / 300, 754) == ['step 133/300', '44%', '12:34 left']
    assert progress_parts(1, 300, 0, 1 / 300, None) == ['step 1/300', '0%']


def test_a_run_of_minutes_says_how_much_of_its_time_is_used():
    assert progress_parts(133, None, 30, 0.44, 1000) == ['step 133', '44%', '13:12 of 30:00']
    assert progress_parts(7000, None, 1440, 1.001, 0) == ['step 7000', '100%', '24:01:26 of 24:00:00']


def test_the_total_loss_comes_before_its_parts():
    assert loss_parts(LOSSES) == ['loss 3.250', 'box 1.000', 'mask 2.000', 'class 0.250']


@pytest.mark.parametrize('length, text', [
    (None, 'step 1/2  50%  loss 3.250  box 1.000  mask 2.000  class 0.250'),
    (48, 'step 1/2  50%  loss 3.250  box 1.000  mask 2.000'), (47, 'step 1/2  50%  loss 3.250  box 1.000'),
    (30, 'step 1/2  50%  loss 3.250'), (5, 'step ')])
def test_only_whole_parts_are_shown(length, text):
    assert join_parts(['step 1/2', '50%', *loss_parts(LOSSES)], length) == text


@pytest.mark.parametrize('parts', [progress_parts(899_999, 900_000, 0, 0.999, 999_999),
                                   progress_parts(123_456, None, 6000, 1, None)])
def test_sixty_columns_hold_the_longest_run_and_its_loss(parts):
    line = join_parts([*parts, *loss_parts({'box': 1234.567})], 59)
    assert line == '  '.join([*parts, 'loss 1234.567'])
