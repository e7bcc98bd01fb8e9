"""Names that no text is: each slide gets a usable name, and none stops the archive.

Names as tools' users report them: Latin-1 from an old file server ("Neue Stra\\xe1en (1981)",
ahupp/python-magic#144), bytes of no encoding at all (arsenetar/dupeguru#335), and what attackers may try.
"""

import json
import os
from pathlib import Path

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.folders import verify
from pathprep.params.shard import ShardParams
from pathprep.reports.page import report
from pathprep.sharding import run
from pathprep.sharding.repair import repair
from pathprep.slides import find

NAMES = [
    b"inv\xff\xfe.tif",
    b"Neue Stra\xe1en (1981).tif",
    b"two\nlines.tif",
    b"esc\x1b[31mred.tif",
    b"x" * 251 + b".tif",
    "ü".encode() * 125 + b".tif",
    b"plain.tif",
]
BAD = b"bad\xfe\x1b[2J\n.tif"


@pytest.mark.slow
def test_slides_of_any_name_are_sharded_checked_and_repaired(tmp_path: Path) -> None:
    folder, root = tmp_path / "slides", tmp_path / "d"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        write_tiff(folder / "made.tif", tissue(400, 400, seed=number, margin=60))
        (folder / "made.tif").rename(folder / os.fsdecode(name))
    (folder / os.fsdecode(BAD)).write_bytes(b"II*\0")
    params = ShardParams(tile=64, mpp=0.5)
    summary = run.shard(find.find([folder]), root, params, workers=2)
    assert len(summary.markers) == len(NAMES)
    assert [name[:4] for name in summary.failures] == ["bad_"]
    assert "plain" in summary.markers
    json.dumps(summary.as_dict()).encode()
    # by its name in the dataset, each is the same slide for the next run and for repair
    assert len(run.shard(find.find([folder]), root, params, workers=2).skipped) == len(NAMES)
    files = [path.name for path in root.rglob("*")]
    assert all(name.isascii() and name.isprintable() and len(name) < 100 for name in files)
    assert not any(found.problems or found.tiles for found in verify(root))
    for name in summary.markers:
        (root / "previews" / f"{name}.jpg").unlink()
    done = repair(root, workers=2)
    assert done.summary is not None
    assert (len(done.summary.markers), done.summary.failures) == (len(NAMES), {})
    assert not any(found.problems for found in verify(root))
    own = {os.fsencode(Path(marker.source.path).name) for marker in Dataset(root).markers.values()}
    assert own == set(NAMES)
    assert "plain" in Path(report(root, tmp_path / "report.html")).read_text()
