"""Videos by names that a decoder might take for something else."""
import numpy as np
import pytest

from data.images import ImageError
from prediction import video
from prediction.video import VideoWriter

NAMES = ['12:30.mp4', 'http:127.0.0.1:8765?x.mp4', 'tcp:127.0.0.1:8766?listen&x.mp4', 'frame%03d.mp4', 'concat:a|b.mp4']


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """The content of a video of four grey frames, and a folder to be in."""
    with VideoWriter(tmp_path / 'clip.mp4', 5.0) as writer:
        for grey in (0, 80, 160, 240):
            writer.write(np.full((64, 96, 3), grey, np.uint8))
    monkeypatch.chdir(tmp_path)
    return (tmp_path / 'clip.mp4').read_bytes()


@pytest.mark.parametrize('name', NAMES)
def test_a_file_name_is_no_address_and_no_pattern(clip, tmp_path, name):
    (tmp_path / name).write_bytes(clip)
    frames = [frame for frame in video.Video(name)]
    assert len(frames) == 4
    assert [round(float(frame.mean()), -1) for frame in frames] == [0, 80, 160, 240]


@pytest.mark.parametrize('name', NAMES)
def test_a_video_may_be_written_under_such_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with VideoWriter(tmp_path.relative_to(tmp_path) / name, 5.0) as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
    assert (tmp_path / name).stat().st_size > 100


def test_frames_that_are_too_large_are_refused(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'MAX_PIXELS', 96 * 64 - 1)
    with pytest.raises(ImageError, match='clip.mp4: frames of 96x64 pixels; make it smaller'):
        list(video.Video(tmp_path / 'clip.mp4'))
