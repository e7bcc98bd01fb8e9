"""Names of the published tile sets that import-tiles knows; quick to import, so that help is instant."""

from typing import Literal

Partition = Literal["train", "val", "test"]
PresetName = Literal["bach", "bracs", "breakhis", "crc-100k", "crc-100k-nonorm", "gleason", "mhist", "pcam"]
