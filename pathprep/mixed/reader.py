"""Reading a folder of mixed shards."""

from pathlib import Path
from typing import Any

from pathprep.mixed import format as mixed


class MixedDataset:
    """A folder of mixed shards, read as training reads a dataset.

    Attributes:
        root: the folder.
        info: what mixed.json says; ``build_id`` stands for the mix and all of its tiles.
        params: ``stain`` as in the datasets that were mixed, which agree in it.

    Raises:
        DatasetError: no finished mixed shards there.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        info = mixed.read_info(self.root)
        self.info: dict[str, Any] = {**info, "build_id": info["mix_id"]}
        self.params: dict[str, Any] = info["sources"][0]["params"]

    def tile_counts(self) -> dict[str, int]:
        """Shards and their number of tiles, in their order."""
        return {shard["shard"]: shard["tiles"] for shard in self.info["shards"]}

    def close(self) -> None:
        """There is nothing open; a dataset has tars."""
