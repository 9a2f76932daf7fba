import os

import numpy as np
import pytest

from system.errors import UserError
from tests.helpers.training_log import write_run
from visualization.curves import draw_curves
from visualization.training_log import moving_average, read_training_log


def test_the_later_attempt_at_a_repeated_step_counts(tmp_path):
    write_run(tmp_path, 1, 6, 4.0, ap_at=[2, 6])
    write_run(tmp_path, 4, 5, 3.0, ap_at=[5])  # from a checkpoint of step 3
    steps = read_training_log(tmp_path / 'log.jsonl')
    assert {step: numbers['loss'] for step, numbers in steps.items()} == {1: 4, 2: 4, 3: 4, 4: 3, 5: 3}
    assert [step for step, numbers in steps.items() if 'mask_ap' in numbers] == [2, 5]
    assert steps[5]['box'] == 1.5


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    write_run(tmp_path, 1, 3, 4.0)
    file = tmp_path / 'log.jsonl'
    file.write_text(file.read_text()[:-10] + '\n7\n[]\n{"epoch": 1}\n{"step": "x"}\n')
    assert list(read_training_log(file)) == [1, 2]


@pytest.mark.parametrize('content', ['', '{"step": 3, "mask_ap": 0.1, "box_ap": 0.2}', '\0\n'])
def test_a_log_without_losses_is_refused(tmp_path, content):
    (tmp_path / 'log.jsonl').write_text(content)
    with pytest.raises(UserError, match='has no losses in it'):
        read_training_log(tmp_path / 'log.jsonl')


@pytest.mark.parametrize('line', [b'[' * 100_000, b'{"step": 2, "loss": 1' + b'0' * 400 + b'}', b'\xff\xfe',
                                  b'{"step": NaN}', b'{"step": Infinity}', b'{"step": 1e300}', b'{"step": 2'])
def test_damaged_lines_are_left_out(tmp_path, line):
    write_run(tmp_path, 1, 3, 4.0)
    file = tmp_path / 'log.jsonl'
    file.write_bytes(file.read_bytes() + line + b'\n{"step": 4, "loss": NaN, "box": 1e300}\n')
    steps = read_training_log(file)
    assert list(steps) == [1, 2, 3, 4]
    draw_curves(steps, 'a $damaged_ run')


def test_a_pipe_instead_of_a_log_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'log.jsonl')
    with pytest.raises(UserError, match='cannot be read: not a file'):
        read_training_log(tmp_path / 'log.jsonl')


def test_moving_averages_are_over_a_twentieth_of_the_series():
    values = np.random.default_rng(0).random(80)
    expected = [values[max(i - 2, 0):i + 3].mean() for i in range(80)]
    np.testing.assert_allclose(moving_average(values), expected)
    np.testing.assert_allclose(moving_average(values[:5]), values[:5])
