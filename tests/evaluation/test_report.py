"""The report: what is in the page, and what a browser makes of it."""
import base64
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from data.coco import CocoDataset
from evaluation.error_analysis import BACKGROUND, Errors
from evaluation.evaluate import evaluate_results
from evaluation.report import SIDE, write_report
from evaluation.results import to_coco
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.config import preset
from model.yolact import Yolact
from tests.helpers import ROOT
from tests.helpers.ground_truth import ground_truth
from tests.helpers.networks import SMALL
from tools.shapes import write_split
from visualization.drawing import class_colour

EVIL = '</script><script>document.title="evil"</script><img src=x onerror="document.title=1">&amp;"\''
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


def content_of(path):
    text = path.read_text(encoding='ascii')
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """A dataset of 30 images, a class and an image of which have strange names."""
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'val', 30)
    path = folder / 'annotations/instances_val.json'
    content = json.loads(path.read_text())
    content['categories'][0]['name'], content['categories'][1]['name'] = EVIL, '星星'
    content['categories'].append({'id': 99, 'name': 'absent'})
    first = content['images'][0]
    (folder / 'val' / first['file_name']).rename(folder / 'val/<b>&.jpg')
    first['file_name'] = '<b>&.jpg'
    path.write_text(json.dumps(content))
    return CocoDataset(path, folder / 'val')


def results_of(dataset):
    """Nearly what is true: every seventh object is missed, and every fifth is taken for one of the next class."""
    entries, number = [], 0
    for i, image in enumerate(dataset.images):
        truth = ground_truth(dataset, i)
        places = np.arange(number, number + len(truth))
        changed = dataclasses.replace(truth, classes=np.where(places % 5 == 4, (truth.classes + 1) % 8, truth.classes))
        entries += to_coco(changed.select(places % 7 != 6), image.id, dataset.classes, 'mask')
        number += len(truth)
    return entries


@pytest.fixture(scope='module')
def results(shapes):
    return results_of(shapes)


@pytest.fixture(scope='module')
def page(shapes, results, tmp_path_factory):
    """The report on the results, with a training run's log of 1,000 steps and a problem."""
    path = tmp_path_factory.mktemp('report') / 'new/report.html'
    errors = Errors(len(shapes.classes))
    metrics = evaluate_results(shapes, results, results, errors=errors)
    steps = {step: {'step': step, 'loss': 9 / step, 'box': 3 / step, 'mask': 6 / step, 'lr': 1e-3,
                    **({'box_ap': step / 2000, 'mask_ap': step / 3000} if step % 250 == 0 else {})}
             for step in range(1, 1001)}
    write_report(path, shapes, metrics, errors, {'weights': EVIL}, ['val/x.jpg: <b>damaged</b>'], steps, workers=2)
    return path, metrics, errors


def test_the_page_holds_the_figures(page, shapes):
    path, metrics, errors = page
    content = content_of(path)
    for row, kind in [(row, kind) for row in content['metrics'] for kind in ('box', 'mask')]:
        assert row[kind] == pytest.approx(getattr(metrics, kind)[row['name']], abs=6e-5)
    assert content['by_iou']['mask'] == [[iou, pytest.approx(value, abs=6e-5)]
                                         for iou, value in metrics.by_iou['mask'].items()]
    for label, one in enumerate(content['classes'][:-1]):
        assert (one['id'], one['name']) == (shapes.classes.ids[label], shapes.classes.names[label])
        assert one['mask']['AP'] == pytest.approx(metrics.by_class['mask'][label], abs=6e-5)
        assert one['objects'] == metrics.objects[label]
        assert bytes.fromhex(one['colour'][1:]) == bytes(class_colour(label)[::-1])
    absent = content['classes'][-1]
    assert (absent['objects'], absent['mask']['AP'], absent['mask']['large']) == (0, None, None)
    assert sum(number for *_, number in content['pairs']) == errors.pairs.total()
    assert content['images'] == 30
    missed = sum(number for true, found, number in content['pairs'] if found == BACKGROUND)
    assert missed >= sum(metrics.objects) // 7


def test_the_page_holds_the_curves(page):
    path, metrics, _ = page
    curves = content_of(path)['curves']['mask']
    for k, iou in enumerate(('0.50', '0.75', '0.90')):
        assert np.mean(curves[0][k]) / 1000 == pytest.approx(metrics.by_iou['mask'][iou], abs=1e-3)
    of_class = [np.mean(one[0]) for one in curves[1:-1]]
    assert np.mean(of_class) == pytest.approx(np.mean(curves[0][0]), abs=0.5)
    assert curves[-1] == [None, None, None]


def test_the_page_holds_the_training_run(page):
    training = content_of(page[0])['training']
    assert set(training) == {'loss', 'box', 'mask', 'lr', 'box_ap', 'mask_ap'}
    assert training['box_ap'] == [[250, 500, 750, 1000], [0.125, 0.25, 0.375, 0.5]]
    at, values = training['loss']
    assert len(at) == len(values) == 300 and (at[0], at[-1]) == (1, 1000)
    assert values == sorted(values, reverse=True)


def filled(outlines):
    """Pixels that are inside outlines by the even-odd rule. Those of holes run the other way round."""
    return abs(sum(cv2.contourArea(np.float32(outline).reshape(-1, 2) / 10, oriented=True) for outline in outlines))


def test_the_gallery_shows_the_worst_images_first_with_what_is_true_and_what_was_found(page, shapes, results):
    content = content_of(page[0])
    cards = content['gallery']
    overall = [dict(card['quality'])[BACKGROUND] for card in cards]
    assert len(cards) > 12 and overall == sorted(overall) and overall[0] < 0.7
    assert '<b>&.jpg' in [card['name'] for card in cards]
    for card in cards:
        i = [image.id for image in shapes.images].index(card['id'])
        image, truth = shapes.images[i], ground_truth(shapes, i)
        scale = min(1, SIDE / max(image.width, image.height))
        assert max(card['size']) == pytest.approx(scale * max(image.width, image.height), abs=0.5)
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(card['pixels']), np.uint8), cv2.IMREAD_COLOR)
        small = cv2.resize(image.read(), card['size'], interpolation=cv2.INTER_AREA)
        assert np.abs(pixels.astype(int) - small).mean() < 8
        mine = [one for one in results if one['image_id'] == image.id]
        assert (len(card['true']), len(card['found'])) == (len(truth), len(mine))
        hit = sum(one.get('hit') is not None for one in card['true'])
        assert hit == sum(one.get('hit') is not None for one in card['found'])
        areas = sorted(mask.sum() * scale ** 2 for mask in truth.masks)
        drawn = sorted(filled(one['outline']) for one in card['true'])
        np.testing.assert_allclose(drawn, areas, rtol=0.12, atol=8)


def test_a_page_without_images_and_of_boxes_alone(shapes, results, tmp_path):
    dataset = CocoDataset(shapes.annotations_path, tmp_path / 'gone')
    boxes = [entry for i, image in enumerate(dataset.images)
             for entry in to_coco(ground_truth(dataset, i), image.id, dataset.classes, 'box')]
    errors = Errors(len(dataset.classes))
    metrics = evaluate_results(dataset, boxes, None, errors=errors)
    write_report(tmp_path / 'report.html', dataset, metrics, errors, {})
    content = content_of(tmp_path / 'report.html')
    assert list(content['curves']) == ['box'] and content['training'] is None
    for card in content['gallery']:
        assert card['pixels'] is None
        assert all(len(one['outline'][0]) == 8 for one in card['found'])
        assert dict(card['quality'])[BACKGROUND] == pytest.approx(1, abs=0.1)


def run_eval(folder, *flags):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, str(ROOT / 'eval.py'), *map(str, flags), '--valid_anno_path',
                           str(folder / 'annotations/instances_val.json'), '--valid_images_path', str(folder / 'val')],
                          cwd=folder, env=environment, capture_output=True, text=True)


def test_eval_writes_a_report_on_a_checkpoint_beside_its_log(tmp_path):
    write_split(tmp_path, 'val', 4)
    path = tmp_path / 'annotations/instances_val.json'
    dataset = CocoDataset(path, tmp_path / 'val')
    dataset.images[1].path.write_bytes(b'damaged')
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    save_checkpoint(tmp_path / 'run/random.pd', Checkpoint(network.config, dataset.classes, tensors_of(network)))
    (tmp_path / 'run/log.jsonl').write_text('{"step": 20, "loss": 3.5}\n{"step": 40, "loss": 3}\n')
    done = run_eval(tmp_path, '--model_path', 'run/random.pd', '--report', 'out/report.html', '--max_images', 3)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == 'Open out/report.html in a browser'
    content = content_of(tmp_path / 'out/report.html')
    assert content['about'] == {
        'weights': 'run/random.pd', 'annotations': str(path), 'images': 'the first 3',
        'thresholds': 'obj_threshold 0.05, nms_threshold 0.5, top_k 200, cross_class_nms False'}
    assert content['images'] == 3
    assert content['training'] == {'loss': [[20, 40], [3.5, 3]]}
    assert [line.partition(':')[0] for line in content['problems']] == [str(dataset.images[1].path)]
    assert not list(tmp_path.glob('out/.*'))


def test_a_report_that_cannot_be_written_is_told_before_the_work(shapes, results, tmp_path):
    (tmp_path / 'results.json').write_text(json.dumps(results))
    folder = shapes.annotations_path.parent.parent
    done = run_eval(folder, '--results', tmp_path / 'results.json', '--report', tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith(f'eval.py: error: {tmp_path}: Is a directory; ')
    done = run_eval(folder, '--results', tmp_path / 'results.json', '--report', tmp_path / 'report.html')
    assert done.returncode == 0
    assert content_of(tmp_path / 'report.html')['gallery'][0]['pixels']


@pytest.fixture(scope='module')
def browser():
    """Chromium, without a window."""
    api = pytest.importorskip('playwright.sync_api')
    with api.sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip('there is no Chromium; install it, for example by: apt install chromium')
        opened = playwright.chromium.launch(executable_path=path)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, page):
    """A function that opens the page on a screen. Afterwards it has had no error, and asked nothing of the network."""
    complaints, asked = [], []

    def open_page(**options):
        tab = browser.new_context(offline=True, **options).new_page()
        tab.on('console', lambda message: complaints.append(message.text))
        tab.on('pageerror', lambda error: complaints.append(str(error)))
        tab.on('request', lambda request: asked.append(request.url))
        tab.goto(page[0].as_uri())
        return tab
    yield open_page
    assert complaints == []
    assert [url for url in asked if not url.startswith('data:image/jpeg;base64,')] == [page[0].as_uri()]


def column(tab, k):
    return tab.locator(f'#classes tbody td:nth-child({k})').all_text_contents()


def numbers(texts):
    return [float(text) for text in texts if text != '–']


def test_the_table_of_classes_is_sorted_and_searched(opened):
    tab = opened()
    assert column(tab, 1)[:2] == [EVIL, '星星'] and tab.title() == 'YOLACT++ evaluation'
    assert tab.locator('#about dd').all_text_contents() == [EVIL]
    heading = tab.locator('#classes thead th:nth-child(3)')
    heading.locator('button').click()
    falling = column(tab, 3)
    assert heading.get_attribute('aria-sort') == 'descending'
    assert numbers(falling) == sorted(numbers(falling), reverse=True) and falling[-1] == '–'
    heading.locator('button').click()
    assert numbers(column(tab, 3)) == sorted(numbers(falling)) and column(tab, 3)[-1] == '–'
    of_masks = column(tab, 3)
    tab.locator('#classes select').select_option('box')
    assert len(column(tab, 3)) == 9 and column(tab, 3) != of_masks
    tab.locator('#classes input').fill('GEAR')
    assert column(tab, 1) == ['gear']


def test_the_gallery_goes_from_the_worst_on_and_is_filtered_by_class(opened, page):
    cards = content_of(page[0])['gallery']
    tab = opened()
    names = tab.locator('#cards h3')
    assert names.all_text_contents() == [card['name'] for card in cards[:12]]
    for _ in range(len(cards) // 12):
        tab.locator('#gallery .more').click()
    assert names.all_text_contents() == [card['name'] for card in cards]
    assert tab.locator('#gallery .more').is_hidden()
    label = 5
    with_class = sorted((dict(card['quality'])[label], k) for k, card in enumerate(cards)
                        if label in dict(card['quality']))
    tab.locator('#gallery select').select_option(str(label))
    assert names.all_text_contents() == [cards[k]['name'] for _, k in with_class[:12]]
    assert f'{len(with_class)} images' in tab.locator('#gallery .controls').text_content()
    first = cards[with_class[0][1]]
    drawn = tab.locator('#cards article').first.locator('svg').first.locator('path')
    assert drawn.count() == len(first['true'])
    dashed = [one for one in first['true'] if one.get('hit') != one['label']]
    assert tab.locator('#cards article').first.locator('svg').first.locator('path.error').count() == len(dashed)
    assert tab.evaluate("Array.from(document.querySelectorAll('#cards image')).length") > 0


def test_a_class_that_is_clicked_is_shown_in_the_curves_and_in_the_gallery(opened):
    tab = opened()
    before = tab.locator('#curves path').first.get_attribute('d')
    tab.locator('#classes tbody tr', has_text='gear').click()
    assert tab.locator('#curves select').first.input_value() == tab.locator('#gallery select').input_value() == '7'
    assert tab.locator('#curves path').first.get_attribute('d') != before
    tab.locator('#curves select').first.select_option('8')
    assert 'There are no objects of this class.' in tab.locator('#curves').text_content()


def test_the_confusion_counts_what_was_taken_for_what(opened, page):
    tab = opened()
    cells = {(true, found): number for true, found, number in content_of(page[0])['pairs']}
    rows = [row.locator('td').all_text_contents() for row in tab.locator('.confusion tbody tr').all()]
    for true in range(9):
        assert rows[true] == [str(cells.get((true, found), '·')) for found in [*range(9), BACKGROUND]]
    taken = [number for (true, found), number in cells.items() if true != found and BACKGROUND not in (true, found)]
    told = tab.locator('#confusion .side-by-side > div').nth(1).locator('tbody td:nth-child(2)').all_text_contents()
    assert [int(number) for number in told] == sorted(taken, reverse=True)[:12]


def test_the_curves_tell_what_is_under_the_pointer(opened, page):
    tab = opened()
    curve = content_of(page[0])['curves']['mask'][0][0]
    tab.locator('#curves svg').scroll_into_view_if_needed()
    box = tab.locator('#curves svg').bounding_box()
    tab.mouse.move(box['x'] + box['width'] * (56 + 0.4 * (560 - 68)) / 560, box['y'] + box['height'] / 2)
    legend = tab.locator('#curves .legend')
    assert legend.text_content().endswith('at 0.40')
    assert legend.locator('span').first.text_content() == f'IoU 0.50 {curve[40] / 1000:.2f}'
    assert tab.locator('#training svg').count() == 4


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_fits_a_phone_by_day_and_by_night(opened, scheme):
    tab = opened(viewport={'width': 360, 'height': 740}, color_scheme=scheme)
    assert tab.evaluate('document.documentElement.scrollWidth') == 360
    assert tab.evaluate("""() => {
        const size = parseFloat(getComputedStyle(document.querySelector('#curves svg text')).fontSize);
        const svg = document.querySelector('#curves svg');
        return size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    }""") > 10  # pixels
    red, *_ = map(int, re.findall(r'\d+', tab.evaluate('getComputedStyle(document.body).backgroundColor')))
    assert red < 60 if scheme == 'dark' else red > 200
