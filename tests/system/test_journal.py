import errno
import shutil
import sys

import pytest

from system.journal import Journal
from tests.helpers import run


def test_results_are_read_in_any_order(tmp_path):
    first, second = Journal(tmp_path / 'new/parts'), Journal(tmp_path / 'new/parts')
    for rank, (journal, pieces) in enumerate(((first, (0, 4)), (second, (3, 1)))):
        writer = journal.open(rank)
        for piece in pieces:
            writer.write(piece, {'text': 'ü\n"', 'piece': piece})
        writer.close()
    assert first.finished() == {0, 1, 3, 4}
    assert [result['piece'] for result in first.read([4, 0, 1])] == [4, 0, 1]
    assert next(second.read([3]))['text'] == 'ü\n"'
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        list(first.read([0, 2]))
    first.remove()
    assert list(tmp_path.glob('new/*')) == []


def test_a_result_is_there_as_soon_as_it_is_written(tmp_path):
    writer = Journal(tmp_path).open(0)
    for piece in range(3):
        writer.write(piece, piece)
        assert list(Journal(tmp_path).read([piece])) == [piece]


def test_a_provisional_result_is_used_until_a_later_run_replaces_it(tmp_path):
    journal = Journal(tmp_path)
    writer = journal.open(0)
    writer.write(0, 'provisional', final=False)
    writer.write(1, 'final')
    assert journal.finished() == {1}
    assert list(journal.read([0, 1])) == ['provisional', 'final']
    writer.write(0, 'later', final=False)
    writer.write(1, 'later', final=False)
    assert list(journal.read([0, 1])) == ['later', 'final']
    writer.write(0, 'final')
    assert journal.finished() == {0, 1}
    assert list(journal.read([0, 1])) == ['final', 'final']


def test_a_line_that_is_cut_off_anywhere_is_ignored_and_harms_no_other(tmp_path):
    writer = Journal(tmp_path).open(0)
    writer.write(0, [1, 2])
    writer.write(12, [3, 4])
    path, = tmp_path.iterdir()
    complete = path.read_bytes()
    start = complete.index(b'[12')
    for end in range(start, len(complete)):
        path.write_bytes(complete[:end])
        journal = Journal(tmp_path)
        assert journal.finished() == {0}
        writer = journal.open(0)
        writer.write(7, [])
        assert list(journal.read([0, 7])) == [[1, 2], []]
        writer.write(12, [5])
        assert list(journal.read([12, 0])) == [[5], [1, 2]]


def test_a_folder_that_is_removed_is_noticed_with_the_next_piece(tmp_path):
    journal = Journal(tmp_path / 'parts')
    writer = journal.open(0)
    writer.write(0, 'good')
    shutil.rmtree(tmp_path / 'parts')
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        writer.write(1, 'lost')
    with pytest.raises(FileNotFoundError, match='parts was removed'):
        list(journal.read([0]))
    journal.remove()


@pytest.mark.parametrize('damage', [b'\0' * 50, b'7\n', b'null\n', b'["a"]\n', b'[[1],true,0]\n', b'["5",true,0]\n',
                                    b'\xff\xfe\n', b'\n\n'])
def test_damaged_lines_are_ignored(tmp_path, damage):
    Journal(tmp_path).open(0).write(5, 'good')
    path, = tmp_path.iterdir()
    path.write_bytes(damage + b'\n' + path.read_bytes() + damage)
    journal = Journal(tmp_path)
    assert journal.finished() == {5}
    assert list(journal.read([5])) == ['good']


def test_a_full_disk_is_told_with_the_file_and_what_was_written_before_stays(tmp_path):
    """A limit of the size of files stands for the disk."""
    script = ('import resource, signal, sys; from system.journal import Journal\n'
              'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
              'writer = Journal(sys.argv[1]).open(0); writer.write(0, "good")\n'
              'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
              'try:\n    writer.write(1, "a" * 2000)\n'
              'except OSError as error:\n    print(error.errno, error.filename)\n')
    process = run(sys.executable, '-c', script, tmp_path)
    assert (process.stdout, process.stderr) == (f'{errno.EFBIG} {tmp_path / "0.jsonl"}\n', '')
    journal = Journal(tmp_path)
    assert journal.finished() == {0} and list(journal.read([0])) == ['good']
