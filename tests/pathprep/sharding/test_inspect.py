"""What is told about a slide before it is sharded."""

from pathlib import Path

import numpy as np
from helpers.slides import tissue, write_tiff

from pathprep.sharding.inspect import inspect, look


def test_cells_become_tiles_or_are_counted_by_reason(tmp_path: Path) -> None:
    pixels = np.full((600, 900, 3), 245, np.uint8)
    pixels[:, :400] = tissue(600, 400, seed=1)
    made = inspect(write_tiff(tmp_path / "a.b.tif", pixels), tile=128)
    cells = made["grid"][0] * made["grid"][1]
    assert made["tiles"] + made["little_tissue"] + made["no_tissue"] == cells
    assert min(made["tiles"], made["no_tissue"]) > 0
    assert made["decided"]["mpp"]["value"] == made["mpp"] == 0.5
    assert made["decided"]["name"]["value"] == {"name": "a_b", "own_name": "a.b"}
    assert len(made["picture"]) <= 8100


def test_a_slide_without_mpp_is_told_too_with_its_picture(tmp_path: Path) -> None:
    text = "Aperio Image Library v1\r\n300x300|AppMag = 20|MPP = 0,2,5"
    path = write_tiff(tmp_path / "a.svs", tissue(300, 300), mpp=None, description=text)
    seen = look(path, default_mpp=0.25)
    assert (seen.facts["mpp"], seen.facts["tiles"], seen.mask) == (None, None, None)
    assert "MPP = 0,2,5" in seen.facts["problem"]
    assert seen.facts["stated_mpp"][0]["problem"] == "it is no number"
    assert seen.facts["decided"]["mpp"]["others"] == ["aperio.MPP: MPP = 0,2,5, it is no number"]
    assert seen.as_dict()["picture"].startswith("data:image/jpeg;base64,")
