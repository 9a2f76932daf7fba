"""How large the files may be that are read, so that a damaged or hostile one does not take all memory.

SECURITY.md lists them. A file of a limit's size may take several times as much memory.
"""
import errno
import os
import stat
from pathlib import Path

MAX_JSON = 4_000_000_000  # bytes of annotations or results; COCO's largest file has 543 MB, LVIS's 1.2 GB
MAX_LABEL_FILE = 200_000_000  # bytes; labelme may embed the image
MAX_CLASS_LIST = 1_000_000  # bytes of class names, data.yaml among them; 1203 classes of LVIS take 30 kB
MAX_LOG = 500_000_000  # bytes of log.jsonl; a million steps take less than a tenth
MAX_IMAGE = 1_000_000_000  # bytes; 178 million pixels, which is the most that is decoded, take 534 MB as a BMP
MAX_WEIGHTS = 4_000_000_000  # bytes of a file of tensors; the largest network here has 220 MB
MAX_ONNX = 2_000_000_000  # bytes, which is the most that ONNX can have


def check_size(path: str | Path, maximum: int) -> None:
    """Make sure that a path leads to a file that is not too large to be read.

    Raises:
        OSError: it is larger than `maximum` bytes, or a pipe or a device, which may never end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(code, os.strerror(code) if code == errno.EISDIR else 'not a file', str(path))
    if found.st_size > maximum:
        raise OSError(errno.EFBIG, f'{found.st_size / 1e9:.1f} GB are more than the {maximum / 1e9:g} GB that are read',
                      str(path))
