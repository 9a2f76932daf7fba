"""Short runs of train.py."""
from tests.helpers.networks import SMALL


def training_flags(folder, **more):
    """Flags of a short run on the dataset of a folder, in order."""
    usual = dict(pattern=0, backbone_name=SMALL['backbone_name'], input_size=256, batch_size=2, num_workers=1,
                 log_interval=1, train_images_path=folder / 'train', valid_images_path=folder / 'val',
                 train_anno_path=folder / 'annotations/instances_train.json',
                 valid_anno_path=folder / 'annotations/instances_val.json')
    return [f'--{name}={value}' if value is not True else f'--{name}' for name, value in {**usual, **more}.items()]
