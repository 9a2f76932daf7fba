import numpy as np
import pytest

from tests.helpers.training_log import write_run
from visualization.curves import draw_curves
from visualization.training_log import read_training_log


def test_curves_show_the_log(tmp_path):
    write_run(tmp_path, 1, 40, 4.0, ap_at=[20, 40])
    figure = draw_curves(read_training_log(tmp_path / 'log.jsonl'), 'a run')
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ['loss', 'loss terms, smoothed', 'AP on the validation images', 'learning rate',
                            'seconds per step']
    _, mean = panels['loss'].lines
    np.testing.assert_allclose(mean.get_xydata(), [[step, 4.0] for step in range(1, 41)])
    assert [text.get_text() for text in panels['loss terms, smoothed'].get_legend().texts] == ['box', 'mask']
    box, mask = panels['AP on the validation images'].lines
    np.testing.assert_array_equal(box.get_xydata(), [[20, 0.3], [40, 0.3]])
    np.testing.assert_array_equal(mask.get_xydata(), [[20, 0.2], [40, 0.2]])
    assert panels['AP on the validation images'].get_ylim() == pytest.approx((0, 0.33))


@pytest.mark.parametrize(('steps', 'title', 'marker'), [(1, 'loss terms', 'o'), (2, 'loss terms', 'o'),
                                                        (3, 'loss terms', 'None'), (39, 'loss terms', 'None'),
                                                        (40, 'loss terms, smoothed', 'None')])
def test_few_points_are_dots_and_only_smoothed_curves_are_called_smoothed(tmp_path, steps, title, marker):
    write_run(tmp_path, 1, steps, 4.0)
    loss, terms, rate, time = draw_curves(read_training_log(tmp_path / 'log.jsonl'), 'a run').axes
    assert terms.get_title() == title
    for axes in (loss, terms, rate, time):
        assert {line.get_marker() for line in axes.lines} == {marker}
        assert all(len(line.get_xdata()) == steps for line in axes.lines)
