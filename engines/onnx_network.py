"""The network in ONNX, from a checkpoint's config and weights. It needs no Paddle.

Each function here adds to a graph what the layer of its name in `model` computes; the tests compare the two.
"""
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engines.onnx_engine import IMAGES, MASK_IOU, MASKS, OnnxFiles
from engines.onnx_graph import Graph
from engines.onnx_layers import Layers, Map, Weights
from engines.onnx_nms import add_fast_nms, detections_of
from model.anchors import MAX_LOG_SCALE, VARIANCES, anchors
from model.checkpoint import Checkpoint
from model.config import LEAK, Config


def network_files(checkpoint: Checkpoint, path: str | Path, metadata: Mapping[str, str], with_nms: bool = False,
                  winograd: bool = False) -> OnnxFiles:
    """The network of a checkpoint as ONNX, for any number of images.

    Args:
        checkpoint: `Checkpoint` of a whole network.
        path: where it came from, for messages.
        metadata: text by name, for the files.
        with_nms: append Fast NMS to the network.
        winograd: compute large 3×3 convolutions as Winograd convolutions.
    Raises:
        UserError: the checkpoint's tensors are not those of its network.
    """
    config, weights = checkpoint.config, Weights(checkpoint, path)
    network = _network(config, weights, with_nms, winograd).file('network', metadata)
    mask_iou_net = _mask_iou_net(config, weights).file('mask_iou', metadata) if config.rescore_masks else None
    classes = config.num_classes - 1
    weights.take('semantic_seg_conv.weight', classes, config.fpn_channels, 1, 1)  # which only training uses
    weights.take('semantic_seg_conv.bias', classes)
    weights.check_all_used()
    return OnnxFiles(network, mask_iou_net)


def _network(config: Config, weights: Weights, with_nms: bool, winograd: bool) -> Graph:
    """From images to what `engines.exported_network.ExportedNetwork` returns."""
    graph = Graph()
    layers = Layers(graph, weights, winograd)
    backbone = _darknet if config.block == 'darknet' else _resnet
    levels = _fpn(layers, backbone(layers, _normalized(graph, config), config), config.fpn_channels)
    prototypes = _proto_net(layers, levels[0], config.mask_dim)
    offsets, logits, coefficients = _predictions(layers, levels, config)
    boxes = _decoded(graph, offsets, anchors(config))
    scores = graph.node('Softmax', logits, axis=-1) if config.scores == 'softmax' else graph.node('Sigmoid', logits)
    count, classes = config.anchors_per_cell * sum(side ** 2 for side in config.level_sizes), config.num_classes - 1
    if with_nms:
        found = add_fast_nms(graph, boxes, scores, coefficients, count, classes)
        boxes, coefficients, count = found.boxes, found.coefficients, detections_of(count, classes)
    graph.output('boxes', boxes, count, 4)
    if with_nms:
        graph.output('classes', found.classes, count, dtype='int64')
        graph.output('scores', found.scores, count)
    else:
        graph.output('scores', scores, count, config.num_classes)
    graph.output('coefficients', coefficients, count, config.mask_dim)
    graph.output('prototypes', prototypes, config.prototype_size, config.prototype_size, config.mask_dim)
    return graph


def _mask_iou_net(config: Config, weights: Weights) -> Graph:
    graph = Graph()
    layers, side, classes = Layers(graph, weights), config.prototype_size, config.num_classes - 1
    x = Map(graph.input(MASKS, 1, side, side), 1, side)
    for i, channels in enumerate((8, 16, 32, 64, 128)):
        x = layers.relu(layers.conv(x, f'maskiou_net.maskiou_net.{2 * i}', channels, 3, 2, padding=0))
    x = layers.relu(layers.conv(x, 'maskiou_net.maskiou_net.10', classes, 1))
    graph.output(MASK_IOU, graph.node('ReduceMax', x.name, [2, 3], keepdims=0), classes)
    return graph


def _normalized(graph: Graph, config: Config) -> Map:
    """Images as the backbone wants them: RGB, channels first."""
    side = config.input_size
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (config.pixel_mean, config.pixel_std))
    x = graph.node('Transpose', graph.input(IMAGES, side, side, 3), perm=[0, 3, 1, 2])
    x = graph.node('Gather', x, [2, 1, 0], axis=1)  # BGR to RGB
    return Map(graph.node('Div', graph.node('Sub', x, mean), std), 3, side)


def _resnet(layers: Layers, x: Map, config: Config) -> list[Map]:
    """C3, C4 and C5."""
    block = _bottleneck if config.block == 'bottleneck' else _basic_block
    x = layers.max_pool(layers.relu(layers.conv(x, 'backbone.conv1', config.width, 7, 2, norm='backbone.bn1')))
    maps = []
    for stage, depth in enumerate(config.depths):
        for i in range(depth):
            deformable = stage in config.dcn_stages and i % config.dcn_interval == 0
            stride = 2 if stage > 0 and i == 0 else 1
            x = block(layers, x, f'backbone.layers.{stage}.{i}', config.width * 2 ** stage, stride, deformable)
        maps.append(x)
    return maps[1:]


def _bottleneck(layers: Layers, x: Map, name: str, channels: int, stride: int, deformable: bool) -> Map:
    """1x1, 3x3, 1x1, to four times the channels."""
    shortcut = _shortcut(layers, x, name, 4 * channels, stride)
    x = layers.relu(layers.conv(x, f'{name}.conv1', channels, 1, norm=f'{name}.bn1'))
    x = layers.relu(_conv3x3(layers, x, name, channels, stride, deformable))
    return layers.relu(layers.add(layers.conv(x, f'{name}.conv3', 4 * channels, 1, norm=f'{name}.bn3'), shortcut))


def _basic_block(layers: Layers, x: Map, name: str, channels: int, stride: int, deformable: bool) -> Map:
    """3x3, 3x3."""
    shortcut = _shortcut(layers, x, name, channels, stride)
    x = layers.relu(layers.conv(x, f'{name}.conv1', channels, 3, stride, norm=f'{name}.bn1'))
    return layers.relu(layers.add(_conv3x3(layers, x, name, channels, 1, deformable), shortcut))


def _conv3x3(layers: Layers, x: Map, name: str, channels: int, stride: int, deformable: bool) -> Map:
    """The second convolution of a block, which may be deformable."""
    if deformable:
        return layers.deform_conv(x, f'{name}.conv2', channels, stride, f'{name}.bn2')
    return layers.conv(x, f'{name}.conv2', channels, 3, stride, norm=f'{name}.bn2')


def _shortcut(layers: Layers, x: Map, name: str, channels: int, stride: int) -> Map:
    """The input of a block, at the size of its output."""
    if stride == 1 and x.channels == channels:
        return x
    return layers.conv(x, f'{name}.downsample.0', channels, 1, stride, norm=f'{name}.downsample.1')


def _darknet(layers: Layers, x: Map, config: Config) -> list[Map]:
    """C3, C4 and C5."""
    x = _conv_unit(layers, x, 'backbone._preconv', config.width, 3)
    maps = []
    for stage, depth in enumerate(config.depths):
        channels, name = config.width * 2 ** (stage + 1), f'backbone.layers.{stage}'
        x = _conv_unit(layers, x, f'{name}.0', channels, 3, 2)
        for i in range(1, depth + 1):
            inner = _conv_unit(layers, x, f'{name}.{i}.conv1', channels // 2, 1)
            x = layers.add(_conv_unit(layers, inner, f'{name}.{i}.conv2', channels, 3), x)
        maps.append(x)
    return maps[2:]


def _conv_unit(layers: Layers, x: Map, name: str, channels: int, kernel: int, stride: int = 1) -> Map:
    """Convolution, batch norm, leaky ReLU."""
    return layers.leaky_relu(layers.conv(x, f'{name}.0', channels, kernel, stride, norm=f'{name}.1'), LEAK)


def _fpn(layers: Layers, maps: Sequence[Map], channels: int) -> list[Map]:
    """P3 to P7."""
    levels: list[Map] = []
    x = None
    for i, feature in enumerate(reversed(maps)):
        inward = layers.conv(feature, f'fpn.lat_layers.{i}', channels, 1)
        x = inward if x is None else layers.add(inward, layers.resize(x, inward.side))
        levels.insert(0, layers.relu(layers.conv(x, f'fpn.pred_layers.{i}', channels)))
    for i in range(2):
        levels.append(layers.conv(levels[-1], f'fpn.downsample_layers.{i}', channels, 3, 2))
    return levels


def _proto_net(layers: Layers, x: Map, mask_dim: int) -> str:
    """Prototypes, float32 [n, h, w, mask_dim]."""
    channels = x.channels
    for i in (0, 2, 4):
        x = layers.relu(layers.conv(x, f'proto_net.{i}', channels))
    x = layers.relu(layers.conv(layers.resize(x, 2 * x.side), 'proto_net.8', channels))
    return layers.channels_last(layers.relu(layers.conv(x, 'proto_net.10', mask_dim, 1)))


def _predictions(layers: Layers, levels: Sequence[Map], config: Config) -> tuple[str, str, str]:
    """Offsets, logits and coefficients of all anchors, float32 [n, a, 4], [n, a, num_classes] and [n, a, mask_dim]."""
    name, widths = 'prediction_layers.0', dict(bbox_layer=4, conf_layer=config.num_classes, mask_layer=config.mask_dim)
    parts: dict[str, list[str]] = {layer: [] for layer in widths}
    for level in levels:
        x = layers.relu(layers.conv(level, f'{name}.upfeature.0', config.fpn_channels))
        for layer, width in widths.items():
            out = layers.conv(x, f'{name}.{layer}', config.anchors_per_cell * width)
            parts[layer].append(layers.graph.node('Reshape', layers.channels_last(out), [0, -1, width]))
    offsets, logits, coefficients = (layers.graph.node('Concat', *values, axis=1) for values in parts.values())
    return offsets, logits, layers.graph.node('Tanh', coefficients)


def _decoded(graph: Graph, offsets: str, anchors: np.ndarray) -> str:
    """As of `model.boxes.decode`."""
    at, sizes = anchors[:, :2], anchors[:, 2:]
    shift, growth = graph.nodes(2, 'Split', offsets, [2, 2], axis=-1)
    centres = graph.node('Add', graph.node('Mul', graph.node('Mul', shift, VARIANCES[0]), sizes), at)
    growth = graph.node('Exp', graph.node('Min', graph.node('Mul', growth, VARIANCES[1]), MAX_LOG_SCALE))
    box = graph.node('Mul', growth, sizes)
    low = graph.node('Sub', centres, graph.node('Mul', box, 0.5))
    return graph.node('Concat', low, graph.node('Add', low, box), axis=-1)
