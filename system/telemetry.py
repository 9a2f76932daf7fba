"""Nothing that is used here may send anything anywhere."""
import os
import sys


def disable() -> None:
    """Turn off the telemetry of ONNX Runtime and of OpenVINO. To be called before either is imported."""
    os.environ['ORT_DISABLE_TELEMETRY'] = '1'
    # OpenVINO does without this package where it cannot be imported; its own switch is a file in the user's home.
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]  # which makes an import fail
