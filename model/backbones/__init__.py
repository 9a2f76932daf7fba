"""ResNet, deformable or not, and DarkNet-53."""
