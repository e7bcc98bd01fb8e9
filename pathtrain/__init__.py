"""Self-supervised training of a pathology tile encoder on pathprep's datasets."""
