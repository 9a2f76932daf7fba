"""What the names of parameters tell. They are those of the public PyTorch checkpoints, batch norm statistics apart."""
import re

_CLASS_LAYERS = re.compile(r'conf_layer|semantic_seg_conv|maskiou_net\.10\.')
_STATISTICS = {'._mean': '.running_mean', '._variance': '.running_var'}  # ours → the public name


def depends_on_classes(name: str) -> bool:
    """Whether the shape of a parameter depends on the number of classes."""
    return _CLASS_LAYERS.search(name) is not None


def public_name(name: str) -> str:
    """The name of a parameter or of a batch norm statistic in the public PyTorch checkpoints."""
    for ours, public in _STATISTICS.items():
        name = name.replace(ours, public)
    return name
