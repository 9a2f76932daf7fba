"""What touches the machine: processes, files, devices, signals. It knows no network and no dataset."""
from system import early_interrupt  # isort: skip  # the first import

early_interrupt.end_at_once()

import warnings  # noqa: E402

from system import cpu, environment, streams, telemetry  # noqa: E402

streams.open_missing()  # before any file is opened
environment.prepare()
telemetry.disable()  # before ONNX Runtime and OpenVINO are imported
cpu.configure()  # before Paddle is imported, from whichever package comes first
warnings.filterwarnings('ignore', message='No ccache found')  # from Paddle's import; nothing is compiled here
warnings.filterwarnings('ignore', message='You are using GPU version Paddle, but')  # find_device says what is used
warnings.filterwarnings('ignore', message='When training, we now always track')  # as in every framework
