"""The COCO loader: annotation files, images, masks, augmentation, batches, ground truth and label formats."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
