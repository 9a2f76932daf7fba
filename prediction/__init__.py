"""From an image to detections, and to files."""
