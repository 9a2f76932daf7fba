import os

import pytest

from system.limits import MAX_IMAGE, MAX_JSON, check_size


def test_files_of_people_are_within_the_limits():
    assert MAX_JSON > 1_200_000_000  # LVIS
    assert MAX_IMAGE > 3 * 178_000_000  # an uncompressed image of the most pixels


def test_a_file_up_to_the_limit_is_read(tmp_path):
    (tmp_path / 'a').write_bytes(b'12345')
    check_size(tmp_path / 'a', 5)
    with pytest.raises(OSError, match=r'0\.0 GB are more than the 4e-09 GB that are read'):
        check_size(tmp_path / 'a', 4)


@pytest.mark.parametrize('make, reason', [(os.mkfifo, 'not a file'), (os.mkdir, 'Is a directory')])
def test_what_is_no_file_is_not_read(tmp_path, make, reason):
    make(tmp_path / 'a')
    with pytest.raises(OSError, match=reason):
        check_size(tmp_path / 'a', 5)
