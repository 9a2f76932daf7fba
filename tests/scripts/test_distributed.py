"""Data-parallel training, on a CPU with gloo."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from model.checkpoint import load_checkpoint
from tests.helpers import ROOT, run, wait_until
from tests.helpers.networks import SMALL
from tools.shapes import write_dataset

LAUNCH = ('-m', 'paddle.distributed.launch', '--nproc_per_node', '2', '--backend', 'gloo')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=4, val=0, test=0, width=160, height=120)
    return folder


ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


def python(tmp_path: Path, *arguments: object) -> str:
    """Run a Python program in a folder to its end. Returns what it prints."""
    process = run(sys.executable, *arguments, cwd=tmp_path, env=ENVIRONMENT)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def training(folder: Path, *more: str, processes: int = 2) -> list[object]:
    """The arguments of a run with two images per step."""
    return [*(LAUNCH if processes == 2 else ()), ROOT / 'train.py', f'--batch_size={2 // processes}',
            '--num_workers=1', '--log_interval=1', '--save_dir=out', f'--train_images_path={folder / "train"}',
            f'--train_anno_path={folder / "annotations/instances_train.json"}', *more]


def from_scratch(folder: Path, steps: int, *more: str, processes: int = 2) -> list[object]:
    return training(folder, '--pattern=0', f'--backbone_name={SMALL["backbone_name"]}', '--input_size=256',
                    f'--steps={steps}', *more, processes=processes)


def processes_of(folder: Path) -> list[int]:
    """The ids of processes whose command names a folder."""
    return [int(path.parent.name) for path in Path('/proc').glob('[0-9]*/cmdline') if f'{folder}' in read(path)]


def read(path: Path) -> str:
    """The text of a file; '' if there is none, as of a process that has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ''


def assert_same_step(folder: Path, tmp_path: Path, batch_size: int, conf_loss: str = 'ce_loss') -> None:
    """Check that two processes have the gradients of one with twice the batch."""
    python(tmp_path, ROOT / 'tests/helpers/distributed_step.py', folder, 'alone.npz', 2 * batch_size, conf_loss)
    python(tmp_path, *LAUNCH, ROOT / 'tests/helpers/distributed_step.py', folder, 'together.npz', batch_size, conf_loss)
    with np.load(tmp_path / 'alone.npz') as alone, np.load(tmp_path / 'together.npz') as together:
        assert set(alone) == set(together) and len(alone.files) > 50
        largest = max(np.abs(alone[name]).max() for name in alone)
        for name in alone:
            scale = max(np.abs(alone[name]).max(), 1e-3 * largest)
            np.testing.assert_allclose(together[name], alone[name], atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize('conf_loss', ['ce_loss', 'ohem_loss', 'focal_loss', 'ghm_c_loss'])
def test_two_processes_take_the_step_of_one_with_twice_the_batch(folder, tmp_path, conf_loss):
    assert_same_step(folder, tmp_path, 2, conf_loss)


def test_a_process_whose_images_have_no_objects_takes_the_same_step(tmp_path):
    write_dataset(tmp_path, train=2, val=0, test=0, width=160, height=120)
    path = tmp_path / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    objects = content['annotations']
    full = max(content['images'], key=lambda image: sum(thing['image_id'] == image['id'] for thing in objects))
    content['annotations'] = [thing for thing in objects if thing['image_id'] == full['id']]
    path.write_text(json.dumps(content))
    assert_same_step(tmp_path, tmp_path, 1)


def test_only_the_main_process_writes_and_logs(folder, tmp_path):
    printed = python(tmp_path, *from_scratch(folder, 2))
    checkpoint, = (tmp_path / 'out').glob('step*.pd')
    assert load_checkpoint(checkpoint).step == 2
    assert checkpoint.name.startswith('step0000002-ep001-')  # two steps of two images are an epoch of four
    assert 'step 2/2 ' in printed
    second = next((tmp_path / 'log').glob('workerlog.1')).read_text()
    assert 'step 2/2 ' not in second and 'Traceback' not in second


def test_another_world_size_resumes_with_the_same_steps(folder, tmp_path):
    python(tmp_path, *from_scratch(folder, 4, '--save_interval=2', '--freeze_bn=true', '--lr=1e-6'))
    second, fourth = sorted((tmp_path / 'out').glob('step*.pd'))
    python(tmp_path, *training(folder, '--pattern=1', f'--model_path={second}', '--steps=4', '--save_dir=alone',
                               processes=1))
    alone, = (tmp_path / 'alone').glob('step*.pd')
    assert alone.name.partition('-loss')[0] == fourth.name.partition('-loss')[0]
    started, together, alone = (load_checkpoint(path, training=True).tensors for path in (second, fourth, alone))
    moved = max(np.abs(together[name] - started[name]).max() for name in started)
    apart = max(np.abs(together[name] - alone[name]).max() for name in started)
    assert apart < 1e-3 * moved


@pytest.mark.parametrize('number, send', [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_a_launcher_that_is_stopped_leaves_a_checkpoint_and_no_processes(folder, tmp_path, number, send):
    with open(tmp_path / 'printed', 'w') as printed:
        launcher = subprocess.Popen([sys.executable, *map(str, from_scratch(folder, 1000))], cwd=tmp_path,
                                    env=ENVIRONMENT, stdout=printed, stderr=printed, start_new_session=True)
    log = tmp_path / 'log/workerlog.0'
    try:
        wait_until(lambda: 'step 2/' in read(log))
        send(launcher.pid, number)
        launcher.wait(60)
        wait_until(lambda: 'saved out/step' in log.read_text())
        checkpoint, = (tmp_path / 'out').glob('step*.pd')
        assert load_checkpoint(checkpoint, training=True).optimizer_state
        wait_until(lambda: not processes_of(folder))
    finally:
        for process in processes_of(folder):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize('victim', [0, 1])
def test_when_a_process_is_killed_the_other_says_so_and_training_resumes(folder, tmp_path, victim):
    for attempt in range(3):  # the launcher gives the other a second to say so, which a busy machine may not have
        place = tmp_path / f'{attempt}'
        place.mkdir()
        printed = kill_one_of_two(folder, place, victim)
        assert 'Traceback' not in printed
        lines = [line for line in printed.splitlines() if line.startswith('train.py: ')]
        if lines:
            break
    assert lines == ['train.py: error: another process has ended or cannot be reached; its own log may tell why. The '
                    'last checkpoint is whole: go on with --pattern=1']
    newest = max((place / 'out').glob('step*.pd'))
    step = load_checkpoint(newest, training=True).step
    assert step % 3 == 0
    python(place, *training(folder, '--pattern=1', f'--model_path={newest}', f'--steps={step + 1}', processes=1))
    assert len(list((place / 'out').glob(f'step{step + 1:07d}*.pd'))) == 1


def kill_one_of_two(folder: Path, place: Path, victim: int) -> str:
    """Kill one of two processes that train, after a checkpoint. Returns what the other one prints."""
    with open(place / 'printed', 'w') as printed:
        launcher = subprocess.Popen([sys.executable, *map(str, from_scratch(folder, 1000, '--save_interval=3'))],
                                    cwd=place, env=ENVIRONMENT, stdout=printed, stderr=printed)
    try:
        wait_until(lambda: 'step 4/' in read(place / 'log/workerlog.0'))
        process, = (child for child in psutil.Process(launcher.pid).children()
                    if child.environ().get('PADDLE_TRAINER_ID') == str(victim))
        process.kill()
        assert launcher.wait(60) != 0
        wait_until(lambda: not processes_of(folder))
    finally:
        for left in processes_of(folder):
            os.kill(left, signal.SIGKILL)
    return (place / f'log/workerlog.{1 - victim}').read_text()


def start_two(tmp_path: Path, *arguments: object) -> list[subprocess.Popen[bytes]]:
    """Start two processes as on two machines, where no launcher watches both. What they print is in files 0 and 1."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(('127.0.0.1', 0))).getsockname()[1] for _ in range(2)]
    endpoints = [f'127.0.0.1:{port}' for port in free]
    processes = []
    for rank, endpoint in enumerate(endpoints):
        environment = {**ENVIRONMENT, 'PADDLE_TRAINERS_NUM': '2', 'PADDLE_TRAINER_ID': f'{rank}',
                       'PADDLE_TRAINER_ENDPOINTS': ','.join(endpoints), 'PADDLE_CURRENT_ENDPOINT': endpoint,
                       'PADDLE_DISTRI_BACKEND': 'gloo'}
        with open(tmp_path / f'{rank}', 'w') as printed:
            processes.append(subprocess.Popen([sys.executable, *map(str, arguments)], cwd=tmp_path, env=environment,
                                              stdout=printed, stderr=printed))
    return processes


@pytest.mark.parametrize('victim', [0, 1])
def test_a_process_that_waits_for_one_that_is_killed_ends_without_a_launcher(tmp_path, victim):
    script = tmp_path / 'wait.py'
    script.write_text("import sys, time\nfrom system.distributed import DistributedError, barrier, init_process_group\n"
                      f"if init_process_group()[0] == {victim}:\n    print('joined', flush=True)\n    time.sleep(600)\n"
                      "try:\n    barrier()\nexcept DistributedError as error:\n    sys.exit(f'{error}')\n")
    processes = start_two(tmp_path, script)
    try:
        wait_until(lambda: 'joined' in (tmp_path / f'{victim}').read_text())
        time.sleep(1)
        assert processes[1 - victim].poll() is None
        processes[victim].kill()
        assert processes[1 - victim].wait(5) == 1
    finally:
        for process in processes:
            process.kill()
            process.wait()
    lines = (tmp_path / f'{1 - victim}').read_text().splitlines()
    assert lines.count('another process has ended or cannot be reached; its own log may tell why') == 1


def test_sigterm_after_a_process_is_killed_ends_the_other_within_a_long_step(folder, tmp_path):
    processes = start_two(tmp_path, *from_scratch(folder, 1000, '--batch_size=16', processes=1))
    try:
        wait_until(lambda: 'step 1/' in (tmp_path / '0').read_text())
        time.sleep(0.5)  # into the second step
        processes[1].kill()
        time.sleep(0.2)
        for _ in range(2):  # as the launcher does
            processes[0].send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert processes[0].wait(10) == 2
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = (tmp_path / '0').read_text()
    assert 'step 2/' not in said and 'stopping' not in said and 'Traceback' not in said
    assert said.count('\ntrain.py: error: another process has ended or cannot be reached; ') == 1


@pytest.mark.slow
def test_a_barrier_waits_longer_than_an_all_reduce_may_take(tmp_path):
    """With gloo an all-reduce fails after half a minute. Evaluation or saving may take longer."""
    script = tmp_path / 'wait.py'
    script.write_text("import time\nfrom system.distributed import barrier, init_process_group\n"
                      "rank, _ = init_process_group()\nbegan = time.time()\n"
                      "time.sleep(35 * (rank == 0))\nbarrier()\n"
                      "print(f'process {rank} waited {time.time() - began > 34}', flush=True)\n")
    python(tmp_path, *LAUNCH, script)
    for rank in range(2):
        assert (tmp_path / f'log/workerlog.{rank}').read_text().count(f'process {rank} waited True') == 1
