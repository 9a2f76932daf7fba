"""The losses by name. Importing this does not import Paddle.

Adding a loss is an entry here and a function of that name in `model.class_losses` or `model.box_losses`.
"""
# How the logits that each class loss trains become scores (`Config.scores`).
CLASS_LOSSES = {'ce_loss': 'softmax', 'ohem_loss': 'softmax', 'focal_loss': 'sigmoid', 'ghm_c_loss': 'sigmoid'}
BOX_LOSSES = ('ciou', 'smooth_l1')
