"""What changes while the tissue stays the same: centres, scanners, stains, and drawn perturbations.

Not called ``robustness``, which is the evaluation's name in pathtrain.evaluate.
"""
