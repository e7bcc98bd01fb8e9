"""Which mask of a folder belongs to which slide: by name."""

from collections.abc import Mapping
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.slides.identity import is_same
from pathprep.words import counted

GEOJSON = (".geojson", ".geojson.gz")
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")
# A .json may be anything that a program says of a slide: it is a mask where there is no other
JSON = (".json", ".json.gz")
ENDINGS = (*GEOJSON, *JSON, *PICTURES)
NAMED = 5  # slides that an error names


def masks_for(slides: Mapping[Path, str], folder: Path) -> dict[Path, Path]:
    """Slide -> its mask: <own name>, <stem>, <file name> or <stem>_mask, and one of the endings in any case.

    Args:
        slides: absolute paths, with the slides' own names. folder: of masks; one file does for one slide.

    Raises:
        UsageError: no such folder, or a slide without a mask or with two, or a mask of two slides.
    """
    if folder.is_file():
        if len(slides) != 1:
            raise UsageError(
                f"{folder}: one mask for {counted(len(slides))}; give a folder of masks named after "
                "the slides"
            )
        return dict.fromkeys(slides, folder.absolute())
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such file or folder")
    there: dict[str, list[Path]] = {}
    others: dict[str, Path] = {}
    for path in sorted(folder.absolute().iterdir()):
        ending = next((e for e in ENDINGS if path.name.lower().endswith(e)), "")
        if ending and path.is_file():
            there.setdefault(path.name[: -len(ending)], []).append(path)
        else:
            others[path.stem] = path
    found, missing = {}, []
    for slide, own in slides.items():
        named = dict.fromkeys((own, slide.stem, slide.name, f"{slide.stem}_mask"))
        candidates = [path for name in named for path in there.get(name, ()) if path != slide]
        sure = [path for path in candidates if not path.name.lower().endswith(JSON)] or candidates
        if len(sure) > 1:
            raise UsageError(
                f"{folder}: several masks for {slide.name}: {', '.join(path.name for path in sure)}; "
                "leave one, or name the mask in a CSV of slides (columns slide, mask)"
            )
        if sure:
            found[slide] = sure[0]
        else:
            missing.append(own)
    if missing:
        kinds = f"{GEOJSON[0]}, {', '.join(PICTURES)}"
        near = next((others[name] for name in missing if name in others), None)
        count = counted(len(missing))
        hint = f"; {near.name} is there, but is no such file" if near else ""
        raise UsageError(f"{folder}: no mask ({kinds}) for {', '.join(missing[:NAMED])} ({count}){hint}")
    _check_shared(found)
    return found


def _check_shared(found: dict[Path, Path]) -> None:
    owners: dict[Path, Path] = {}
    for slide, mask in found.items():
        first = owners.setdefault(mask, slide)
        if first != slide and not is_same(first, slide):  # of copies, one is taken
            raise UsageError(
                f"{mask}: would be the mask of {first} and of {slide}; name each one's mask in a CSV of "
                "slides (columns slide, mask)"
            )
