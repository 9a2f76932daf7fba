"""What touches the machine: processes, files, devices, signals. It knows no network and no dataset."""
import warnings

from system import cpu, environment, streams, telemetry

streams.open_missing()  # before any file is opened
environment.prepare()
telemetry.disable()  # before ONNX Runtime and OpenVINO are imported
cpu.configure()  # before Paddle is imported, from whichever package comes first
warnings.filterwarnings('ignore', message='No ccache found')  # from Paddle's import; nothing is compiled here
warnings.filterwarnings('ignore', message='When training, we now always track')  # as in every framework
