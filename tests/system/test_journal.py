import shutil

import pytest

from system.journal import Journal


def test_what_was_kept_is_read_in_any_order(tmp_path):
    first, second = Journal(tmp_path / 'new/parts'), Journal(tmp_path / 'new/parts')
    for process, (journal, pieces) in enumerate(((first, (0, 4)), (second, (3, 1)))):
        write = journal.writer(process)
        for piece in pieces:
            write(piece, {'text': 'ü\n"', 'piece': piece})
    assert first.pieces() == {0, 1, 3, 4}
    assert [content['piece'] for content in first.read([4, 0, 1])] == [4, 0, 1]
    assert next(second.read([3]))['text'] == 'ü\n"'
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        list(first.read([0, 2]))
    first.remove()
    assert list(tmp_path.glob('new/*')) == []


def test_a_line_that_is_cut_off_anywhere_counts_for_nothing_and_harms_no_other(tmp_path):
    write = Journal(tmp_path).writer(0)
    write(0, [1, 2])
    write(12, [3, 4])
    path, = tmp_path.iterdir()
    whole = path.read_bytes()
    start = whole.index(b'[12')
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal(tmp_path)
        assert journal.pieces() == {0}
        write = journal.writer(0)
        write(7, [])
        assert list(journal.read([0, 7])) == [[1, 2], []]
        write(12, [5])
        assert list(journal.read([12, 0])) == [[5], [1, 2]]


def test_a_folder_that_is_removed_is_noticed_with_the_next_piece(tmp_path):
    journal = Journal(tmp_path / 'parts')
    write = journal.writer(0)
    write(0, 'good')
    shutil.rmtree(tmp_path / 'parts')
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        write(1, 'lost')
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        list(journal.read([0]))
    journal.remove()


@pytest.mark.parametrize('damage', [b'\0' * 50, b'7\n', b'null\n', b'["a"]\n', b'\xff\xfe\n', b'\n\n'])
def test_damage_is_left_out(tmp_path, damage):
    Journal(tmp_path).writer(0)(5, 'good')
    path, = tmp_path.iterdir()
    path.write_bytes(damage + b'\n' + path.read_bytes() + damage)
    journal = Journal(tmp_path)
    assert journal.pieces() == {5}
    assert list(journal.read([5])) == ['good']
