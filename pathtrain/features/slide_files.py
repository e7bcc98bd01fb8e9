"""Files of features that are made straight from slides: their names, what they depend on, what is kept.

    <out>/<slide>.h5             (or .parquet, .h5ad, .zarr) see pathtrain.features.files
    <out>/failed/<slide>.json    why a slide has none: a quarantine file as of a dataset
    <out>/empty/<slide>.json     that a slide has no tile, and from what that was found

A file fits, and is kept, if it was made by the same model from the same slide with the same parameters.
Moving a
slide changes nothing: its bytes count, not its path.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.dataset.failed import FailedShard, write_failed
from pathprep.dataset.marker import AT_NEED, SlideMarker, SourceRecord
from pathprep.dataset.schema import STATUSES, build_id
from pathprep.errors import SlideError
from pathprep.launchers.base import Failure
from pathprep.params.shard import ShardParams
from pathprep.slides.find import SlideSource
from pathprep.slides.find_remote import RemoteSlide
from pathprep.slides.identity import file_size, is_there
from pathprep.slides.own_names import file_name, hashed, safe_name
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed
from pathprep.streaming.sender import Columns
from pathtrain.features.files import Kind
from pathtrain.features.part import Arrays, Part, origin
from pathtrain.features.write import FAILED, remove

EMPTY = "empty"
# What of a dataset's parameters plays no part: how tiles are stored, which these are not
NO_PART = ("quality", "subsampling", "encoder", "region")


def as_params(params: ShardParams) -> dict[str, Any]:
    """What shapes the tiles, as the files have it; hashed, it is their ``build_id``."""
    return {key: value for key, value in params.as_dict().items() if key not in NO_PART}


@dataclass(frozen=True)
class Target:
    """A slide and its file.

    Attributes:
        source: the slide; its name is that of ``failed/``. file: the file's name without its ending.
        remote: where it is, of a slide in a store: then ``source`` has but its name.
    """

    source: SlideSource
    file: str
    remote: RemoteSlide | None = None

    @property
    def name(self) -> str:
        """Of the slide."""
        return self.source.name


@dataclass(frozen=True)
class SlideFiles:
    """The files of a run.

    Attributes:
        out: their folder. kind: their format. made, about: what all have, see pathtrain.features.part.
        params: what shapes tiles. mpp: what the model sees, of a tile with so many micrometres a side.
    """

    out: Path
    kind: Kind
    made: Mapping[str, Any]
    about: Mapping[str, Any]
    params: ShardParams
    mpp: Callable[[float], float]

    def targets(
        self, sources: list[SlideSource], remote: Mapping[Path, RemoteSlide] | None = None
    ) -> list[Target]:
        """Names of files: after the slides' own names; by a hash of its path where another slide has it.

        A slide keeps the file that it has, whatever other slides a run is about.
        """
        wanted = [file_name(source.own_name, source.name) for source in sources]
        shared = Counter(name.casefold() for name in wanted)
        at = [(remote or {}).get(source.path) for source in sources]
        known = [
            self._kept(source, name, there) for source, name, there in zip(sources, wanted, at, strict=True)
        ]
        taken = {target.file for target in known if target is not None}
        found = []
        for source, name, there, kept in zip(sources, wanted, at, known, strict=True):
            if kept is not None:
                found.append(kept)
                continue
            file = name if shared[name.casefold()] == 1 else source.name
            if file in taken or self._is_of_another(file, source, None if there is None else there.path):
                own = hashed(safe_name(source.own_name), source.recorded)
                source, file = replace(source, name=own, slide=own), own
            found.append(Target(source, file, there))
        return found

    def _kept(self, source: SlideSource, name: str, there: RemoteSlide | None) -> Target | None:
        """A slide's file that was made from the same place, under either of its names; None without one."""
        for file in (name, hashed(safe_name(source.own_name), source.recorded)):
            said = self.kind.made(self.out / f"{file}{self.kind.ending}")
            mine = (source.recorded, None if there is None else there.path)
            if "inputs" in said and said.get("source") in mine and "slide" in said:
                slide = str(said["slide"])
                return Target(replace(source, name=slide, slide=slide), file, there)
        return None

    def path(self, target: Target) -> Path:
        """The file of a slide."""
        return self.out / f"{target.file}{self.kind.ending}"

    def _is_of_another(self, file: str, source: SlideSource, url: str | None) -> bool:
        """Whether a file stands under a slide's name that was made from another one."""
        there = self.kind.made(self.out / f"{file}{self.kind.ending}")
        if "inputs" not in there or there.get("source") in (source.recorded, url):
            return False
        if url is not None:
            return True
        made, (size, ends) = json.loads(there["inputs"]), source.measures()
        return size is not None and (made.get("size"), made.get("ends_sha256")) != (size, ends)

    def forget_failures(self, done: Iterable[Target]) -> None:
        """Remove what is recorded of failures of slides that are done: an archive was not mounted once."""
        names = {target.name for target in done}
        for path in (self.out / FAILED).glob("*.json"):  # few; slides may be many
            if path.stem in names:
                path.unlink(missing_ok=True)

    def is_done(self, target: Target) -> bool:
        """Whether a slide's file fits, or it is known to have no tile."""
        path = self.path(target)
        empty = read_json(self.out / EMPTY / f"{target.name}.json")
        if empty is not None and seal_of(empty) is Seal.WHOLE:
            same = empty["made"] == self._made(target, json.loads(empty["made"]["inputs"]))
            return bool(same) and _is_there_still(target, empty)
        there = self.kind.made(path)
        if "inputs" not in there or not _is_there_still(target, there):
            return False
        made = self._made(target, json.loads(there["inputs"]))
        part = Part(target.name, target.file, range(int(there["tiles"])), made, dict, {})
        return bool(made) and self.kind.fits(path, part)

    def _made(self, target: Target, before: Mapping[str, Any]) -> dict[str, Any]:
        """What a slide's file would be made from now; nothing if the slide cannot be looked at.

        Args:
            before: what it was made from: what the slide does not depend on is not in it.
        """
        if target.remote is not None:  # its ends are not read: size and time stand for them
            source = target.source
            said = {"mpp": source.mpp, "default_mpp": source.default_mpp}
            return self.made_of(target, {**before, **{key: said[key] for key in said if key in before}})
        with suppress(SlideError, OSError):
            inputs = target.source.inputs()
            return self.made_of(
                target, {key: value for key, value in inputs.items() if key not in AT_NEED or key in before}
            )
        return {}

    def made_of(self, target: Target, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a slide's file is made from."""
        text = json.dumps(inputs, sort_keys=True)
        return {
            **self.made,
            "slide": target.name,
            "build_id": build_id(as_params(self.params)),
            "inputs": text,
            "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }

    def part(self, target: Target, marker: SlideMarker, columns: list[Columns]) -> Part:
        """A slide's file, whose tiles have these columns."""
        rows = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
        params = self.params
        coords = np.stack([rows["x"], rows["y"]], axis=1).astype(np.int64)
        return Part(
            name=target.name,
            file=target.file,
            tiles=range(marker.tiles),
            made=self.made_of(target, marker.inputs),
            arrays=lambda: {"coords": coords},
            coords_attributes={
                "patch_size": params.tile,
                "patch_size_level0": marker.grid.side,
                "overlap": params.overlap,
                "level0_magnification": round(10 / marker.mpp),
                "target_magnification": round(10 / params.mpp),
                "name": marker.own_name or target.name,
                **origin(marker),
            },
            about={
                **self.about,
                "mpp": self.mpp(marker.mpp * marker.grid.side),
                "tiles": marker.tiles,
                **_place(target, marker),
                "params": json.dumps(as_params(params), sort_keys=True),
            },
            columns=partial(_columns, rows),
        )

    def write(self, part: Part, features: Any) -> None:
        """Write a slide's file, and forget what was recorded of it before."""
        self.kind.write(self.out / f"{part.file}{self.kind.ending}", part, features)
        for folder in (FAILED, EMPTY):
            (self.out / folder / f"{part.name}.json").unlink(missing_ok=True)

    def write_empty(self, target: Target, marker: SlideMarker) -> None:
        """Record that a slide has no tile."""
        remove(self.path(target))
        (self.out / EMPTY).mkdir(exist_ok=True)
        values = {"slide": target.name, "made": self.made_of(target, marker.inputs), "counts": marker.counts}
        values |= _place(target, marker)
        write_sealed(self.out / EMPTY / f"{target.name}.json", values)
        (self.out / FAILED / f"{target.name}.json").unlink(missing_ok=True)

    def write_failed(self, target: Target, failure: Failure) -> FailedShard:
        """Record why a slide has no file; one of other tiles or another model is removed, unless the slide is
        merely not there at the moment.
        """
        source = target.source
        entry = FailedShard(
            **vars(failure),
            slide=target.name,
            source=SourceRecord(source.recorded, file_size(source.path)),
            build_id=build_id(as_params(self.params)),
        )
        (self.out / FAILED).mkdir(exist_ok=True)
        write_failed(self.out / FAILED / f"{target.name}.json", entry)
        if target.remote is None and is_there(source.path):
            remove(self.path(target))
        return entry


def _place(target: Target, marker: SlideMarker) -> dict[str, str]:
    """Where a slide was, and of a store what its files looked like."""
    if target.remote is None:
        return {"source": marker.source.path}
    return {"source": target.remote.path, "state": target.remote.state}


def _is_there_still(target: Target, said: Mapping[str, Any]) -> bool:
    """Whether a slide in a store is that which a file was made from; of others, their bytes tell."""
    return target.remote is None or said.get("state") == target.remote.state


def _columns(rows: Columns) -> Arrays:
    """What Parquet and AnnData say of each tile beside its place."""
    plain = {name: rows[name] for name in rows if name not in ("x", "y", "stain_status", "mpp")}
    statuses = np.array(STATUSES, dtype=object)[rows["stain_status"]]
    return {**plain, "stain_status": statuses}
