import json
import os
import re
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest

from data.coco import CocoDataset
from data.images import read_image
from system.command import exit_status
from tests.helpers import ROOT
from tools import visualize
from tools.check import _check_image, check, main
from tools.shapes import write_split


def annotation(id, image_id=1, category_id=5, box=(10, 10, 30, 20), **more):
    x, y, width, height = box
    outline = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {'id': id, 'image_id': image_id, 'category_id': category_id, 'bbox': list(box), 'area': width * height,
            'iscrowd': 0, 'segmentation': [outline], **more}


@pytest.fixture
def dataset(tmp_path):
    def make(*annotations, images=1):
        for i in range(1, images + 1):
            cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((120, 160, 3), 200, np.uint8))
        images = [{'id': i, 'file_name': f'{i}.png', 'width': 160, 'height': 120} for i in range(1, images + 1)]
        content = {'images': images, 'annotations': list(annotations),
                   'categories': [{'id': 5, 'name': 'cat'}, {'id': 9, 'name': 'dog'}]}
        (tmp_path / 'a.json').write_text(json.dumps(content))
        return CocoDataset(tmp_path / 'a.json', tmp_path)
    return make


def problems(dataset, capsys, **more):
    total = check(dataset, **more)
    printed = capsys.readouterr().out
    return total, [line.strip() for line in printed.splitlines() if line.startswith(f'  {dataset.images_folder}/')]


def test_counts_are_those_of_the_dataset(tmp_path, capsys):
    write_split(tmp_path, 'val', 12, width=320, height=240)
    dataset = CocoDataset(tmp_path / 'annotations/instances_val.json', tmp_path / 'val')
    check(dataset)
    lines = capsys.readouterr().out.splitlines()
    start, = (i for i, line in enumerate(lines) if line.startswith('class '))
    rows = {line.split()[0]: [int(part) for part in line.split()[1:]] for line in lines[start + 1:start + 9]}
    records = json.loads(dataset.annotations_path.read_text())['annotations']
    regular = [record for record in records if not record['iscrowd']]
    crowds = len(records) - len(regular)
    assert lines[0].endswith(f': 12 images, {len(regular)} objects, 8 classes' + f', {crowds} crowds' * bool(crowds))
    for name, id in zip(dataset.classes.names, dataset.classes.ids):
        mine = [record for record in regular if record['category_id'] == id]
        sizes = np.histogram([record['area'] for record in mine], [0, 32 ** 2, 96 ** 2, np.inf])[0]
        assert rows[name] == [id, len(mine), len({record['image_id'] for record in mine}), *sizes]


def test_a_good_dataset_has_no_problems(dataset, capsys):
    good = [annotation(i, i, category) for i in range(1, 26) for category in (5, 9)]
    assert check(dataset(*[{**one, 'id': i} for i, one in enumerate(good)], images=25)) == 0
    assert 'No problems found.' in capsys.readouterr().out


@pytest.mark.parametrize(('wrong', 'line'), [
    ([annotation(1), annotation(2)], "'cat' at x 10 to 40, y 10 to 30 is annotated twice"),
    ([annotation(1, box=(10, 10, 30, 0.5))],
     "'cat' at x 10 to 40, y 10 to 10 is thinner than 0.7% of the image, and not trained on"),
    ([annotation(1, bbox=[100, 80, 30, 20])],
     "'cat' at x 100 to 130, y 80 to 100 has a box that does not fit its mask"),
    ([annotation(1, segmentation=[[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]])],
     "'cat' at x 10 to 40, y 10 to 30 has an empty mask")])
def test_suspicious_objects_are_listed_with_their_image_and_place(dataset, capsys, wrong, line):
    made = dataset(*wrong)
    total, lines = problems(made, capsys)
    assert lines == [f'{made.images[0].path}: {line}']
    assert total == 3  # and both classes have few objects


def test_nouns_agree_with_their_numbers(dataset, capsys):
    check(dataset(annotation(1), images=2))
    out = capsys.readouterr().out
    assert ': 2 images, 1 object, 2 classes\n' in out and '; 1 image has none\n' in out
    assert '  cat: 1 object\n  dog: 0 objects\n' in out
    check(dataset(annotation(1)))
    out = capsys.readouterr().out
    assert ': 1 image, 1 object, 2 classes\n' in out and '; 0 images have none\n' in out
    assert 'images: 1 of 1 is 160x120\n' in out


def test_objects_of_two_classes_at_the_same_place_are_no_problem(dataset, capsys):
    assert problems(dataset(annotation(1), annotation(2, category_id=9)), capsys)[1] == []


def test_images_that_cannot_be_used_are_listed(dataset, capsys):
    made = dataset(annotation(1), images=3)
    made.images[1].path.write_bytes(b'')
    cv2.imwrite(str(made.images[2].path), np.zeros((5, 5, 3), np.uint8))
    _, lines = problems(made, capsys)
    assert [line.split(': ')[1][:14] for line in lines] == ['an empty file;', 'is 5x5, but th']


def test_the_objects_of_an_unusable_image_of_a_large_size_take_no_memory(dataset, tmp_path, capsys):
    made = dataset(*[annotation(i, box=(10, 10, 22000, 22000)) for i in range(9)])
    content = json.loads(made.annotations_path.read_text())
    content['images'][0].update(width=23000, height=23000)
    made.annotations_path.write_text(json.dumps(content))
    tracemalloc.start()
    assert _check_image(CocoDataset(made.annotations_path, tmp_path), 0)[1] == []
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


@pytest.mark.parametrize(('area', 'printed'), [(-5, '-5'), (float('inf'), 'inf'), (-float('inf'), '-inf')])
def test_an_impossible_area_is_reported(dataset, capsys, area, printed):
    made = dataset(annotation(1, area=area), annotation(2, category_id=9, bbox=[10, 10, 1e300, 1e300], area=area,
                                                        segmentation=[[10, 10, 160, 10, 160, 120, 10, 120]]))
    _, lines = problems(made, capsys)
    assert lines == [f"{made.images[0].path}: 'cat' at x 10 to 40, y 10 to 30 has an area of {printed} pixels",
                     f"{made.images[0].path}: 'dog' at x 10 to 160, y 10 to 120 has an area of {printed} pixels"]


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other pipes')
def test_a_closed_output_pipe_is_no_error(dataset, tmp_path):
    made = dataset(annotation(1))
    command = [sys.executable, '-m', 'tools.check', str(made.annotations_path), str(tmp_path), '--samples',
               str(tmp_path / 's.jpg')]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, '')


def test_names_that_the_terminal_cannot_show_are_escaped(dataset, tmp_path):
    made = dataset(annotation(1))
    made.annotations_path.write_text(made.annotations_path.read_text().replace('"cat"', '"猫"'), encoding='utf-8')
    done = subprocess.run([sys.executable, '-m', 'tools.check', str(made.annotations_path), str(tmp_path),
                           '--samples', str(tmp_path / 's.jpg')], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONIOENCODING': 'ascii'})
    assert (done.returncode, done.stderr) == (1, '') and '\\u732b' in done.stdout


def test_the_sample_image_shows_the_ground_truth(dataset, tmp_path, capsys):
    check(dataset(annotation(1), images=5), tmp_path / 'samples.png')
    drawn = read_image(tmp_path / 'samples.png')  # one image of them has an object
    assert drawn.shape == (400, 400, 3)
    assert (drawn[50 + 10 * 400 // 160:50 + 30 * 400 // 160, 30:90] != 200).any(2).mean() > 0.9


def test_the_exit_status_says_whether_there_are_problems(dataset, tmp_path, capsys):
    made = dataset(annotation(1), annotation(2, category_id=77))
    flags = [str(made.annotations_path), str(tmp_path), '--samples', str(tmp_path / 'new/s.jpg')]
    assert exit_status(main, flags) == 1
    assert 'annotation 2 is left out: its category_id, 77, is not in the file' in capsys.readouterr().out
    assert exit_status(main, [str(tmp_path / 'none.json'), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f'tools.check: error: {tmp_path / "none.json"}: cannot be read')


def test_a_class_with_few_objects_alone_is_a_problem_and_help_says_so(dataset, tmp_path, capsys):
    annotations = [annotation(2 * i + half, i, category) for i in range(1, 21)
                   for half, category in enumerate((5, 9)) if (i, category) != (20, 9)]
    made = dataset(*annotations, images=20)
    assert main([str(made.annotations_path), str(tmp_path), '--samples', str(tmp_path / 's.jpg')]) == 1
    out = capsys.readouterr().out
    assert 'Classes with few objects: 1\n  dog: 19 objects\n' in out
    with pytest.raises(SystemExit, match='0'):
        main(['--help'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'classes with fewer than 20 objects' in out and 'even such a class alone' in out


def test_the_default_sample_image_is_not_that_of_augmented_samples(capsys):
    defaults = []
    for print_help, flags in ((main, ['--help']), (visualize.main, ['samples', '--help'])):
        with pytest.raises(SystemExit, match='0'):
            print_help(flags)
        defaults += re.findall(r'\(default: (results/\S+)\)', ' '.join(capsys.readouterr().out.split()))
    assert defaults == ['results/check.jpg', 'results/samples.jpg']
