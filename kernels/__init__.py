"""The pixel operations: for each, a float64 reference that defines it and fast versions that match it."""
