import re

from training.log import Log


def lines_of(capsys, tmp_path, monkeypatch, seconds_a_step, steps=10, interval=5):
    """The numbers of the steps that are printed where standard error is no terminal."""
    monkeypatch.setattr('training.log.time.time', lambda: now[0])
    now = [0.0]
    log = Log(tmp_path / 'log.jsonl', 0, steps, interval)
    for step in range(1, steps + 1):
        now[0] += seconds_a_step
        log.step(step, 0, 1e-3, {'box': 1.0, 'mask': 2.0}, 3.0, step / steps)
    log.close()
    return [int(number) for number in re.findall(r'^step (\d+)/', capsys.readouterr().err, re.MULTILINE)]


def test_quick_steps_print_a_line_at_each_interval_and_for_the_first_step(capsys, tmp_path, monkeypatch):
    assert lines_of(capsys, tmp_path, monkeypatch, 0.1) == [1, 5, 10]
    assert len((tmp_path / 'log.jsonl').read_text().splitlines()) == 2


def test_slow_steps_print_a_line_every_half_minute(capsys, tmp_path, monkeypatch):
    assert lines_of(capsys, tmp_path, monkeypatch, 12) == [1, 4, 5, 8, 10]
    assert len((tmp_path / 'log.jsonl').read_text().splitlines()) == 2
