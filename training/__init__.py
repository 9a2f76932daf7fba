"""What train.py is made of: how a run learns, what it says, how it ends."""
