"""Everything that touches a dataset: reading, augmenting, drawing, judging."""
