"""Which classes a network knows, and what a dataset calls them."""
from dataclasses import dataclass

from system.messages import one_line


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset, in the order of the network's outputs (background is not among them).

    Attributes:
        names: str for each class, on one line.
        ids: int for each class, its category id in the dataset. They may have gaps and start anywhere.
    Raises:
        ValueError: names and ids differ in number, there are none, or an id repeats.
    """
    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'names', tuple(one_line(name) for name in self.names))
        object.__setattr__(self, 'ids', tuple(int(id) for id in self.ids))
        if len(self.names) != len(self.ids):
            raise ValueError(f'{len(self.names)} class names but {len(self.ids)} category ids')
        if not self.names:
            raise ValueError('no classes')
        if len(set(self.ids)) != len(self.ids):
            raise ValueError('a category id stands for two classes')

    def __len__(self) -> int:
        return len(self.names)

    def difference(self, other: 'Classes') -> str | None:
        """The first difference to other classes, in words; None if there is none."""
        if len(self) != len(other):
            return f'{len(self)} classes against {len(other)}'
        for name, id, *others in zip(self.names, self.ids, other.names, other.ids):
            if [name, id] != others:
                return f'{name!r} (id {id}) against {others[0]!r} (id {others[1]})'
        return None


_COCO_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse',
    'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie',
    'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat', 'baseball glove',
    'skateboard', 'surfboard', 'tennis racket', 'bottle', 'wine glass', 'cup', 'fork', 'knife', 'spoon',
    'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut',
    'cake', 'chair', 'couch', 'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse',
    'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}

COCO = Classes(_COCO_NAMES, tuple(id for id in range(1, 91) if id not in _COCO_GAPS))
