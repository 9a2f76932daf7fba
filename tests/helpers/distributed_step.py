"""The gradients of one step, for test_distributed.py: a program that runs alone or as one of several processes.

    distributed_step.py DATA OUT.npz BATCH_SIZE CONF_LOSS
"""
import sys

import numpy as np

from data.coco import CocoDataset
from data.loader import Batches
from model.config import preset


def main(folder: str, out: str, batch_size: int, conf_loss: str) -> None:
    import paddle

    from model.losses import Criterion
    from model.yolact import Yolact
    from system.distributed import all_reduce, all_reduce_gradients, init_process_group
    from training.step import targets_of
    paddle.device.set_device('cpu')
    rank, world_size = init_process_group()
    paddle.seed(0)
    network = Yolact(preset('resnet18dcn_half', num_classes=9, input_size=256))
    network.train()
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()  # each process would use the statistics of its own images
    dataset = CocoDataset(f'{folder}/annotations/instances_train.json', f'{folder}/train')
    batch = Batches(dataset, network.config, batch_size, rank=rank, world_size=world_size)[0]
    targets = targets_of(batch)
    positives = int(all_reduce(paddle.to_tensor(len(targets.positives))))
    losses = Criterion(conf_loss)(network, network(paddle.to_tensor(batch.images)), targets, positives,
                                  batch_size * world_size)
    sum(losses.values()).backward()
    all_reduce_gradients(network.parameters())
    if rank == 0:
        np.savez(out, **{name: parameter.grad.numpy() for name, parameter in network.named_parameters()
                         if parameter.grad is not None})


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
