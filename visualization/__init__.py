"""Drawing: detections on images, training curves, plots."""
