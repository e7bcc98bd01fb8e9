"""Endings of slide files, and of the folders that are slides."""

ZARR = ".zarr"
# What is picked up from a folder. A file named on the command line is tried whatever its ending.
EXTENSIONS = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".dcm", ".czi"}
    | {ZARR}
)
