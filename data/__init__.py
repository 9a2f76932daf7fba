"""The COCO loader: annotation files, images, masks, augmentation, batches, ground truth and label formats."""
