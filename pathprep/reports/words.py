"""What the page says in words: parameters, reasons, and the findings at its top."""

from collections import Counter
from typing import Any, NamedTuple

from pathprep.dataset.failed import FailedShard
from pathprep.params import quality
from pathprep.params.notes import in_words as in_words_of
from pathprep.reports.measure import FlagKind, Measured, unlike_others
from pathprep.words import counted

REASONS = {
    "kept": "kept",
    "little_tissue": "dropped: too little tissue",
    "no_tissue": "dropped: no tissue",
    "over_max_tiles": "dropped: over --max-tiles",
    "small_pieces": "dropped: on pieces of tissue under --min-piece",
    "blurred": "dropped: blurred (--min-focus)",
    "pen": "dropped: pen marks (--max-pen)",
    "white": "dropped: white (--max-white)",
    "hsv": "dropped: colour (--min-hsv)",
    "damaged": "left out: damaged or missing",
}
STATUS_WORDS = {
    "fitted": "own fit",
    "slide_fit": "the slide's fit",
    "unfitted": "no fit, left as it was",
    "none": "not asked for",
}
LEVELS = ("bad", "look", "good")
FAILURES_SHOWN = 1000  # more rows than anybody reads; the files hold all


class Finding(NamedTuple):
    """``level``: one of LEVELS."""

    level: str
    text: str


def findings(slides: list[Measured], failures: dict[str, FailedShard], stale: int) -> list[Finding]:
    """What matters most, worst first; each says how many slides or tiles it is about."""
    return sorted(_findings(slides, failures, stale), key=lambda finding: LEVELS.index(finding.level))


def _findings(slides: list[Measured], failures: dict[str, FailedShard], stale: int) -> list[Finding]:
    found: list[Finding] = []
    total: Counter[str] = Counter()
    for slide in slides:
        total.update(slide.marker.counts)
    if total["damaged"]:
        text = (
            f"{_of(total['damaged'], total.total(), 'image')} damaged or missing: left out, named in failed/."
        )
        found.append(Finding("bad", text))
        # their shards are done, and stand in failed/ for the list only
        failures = {name: entry for name, entry in failures.items() if entry.kind != "images"}
    asked = len(slides) + len(failures)
    if failures:
        kinds = Counter(entry.kind for entry in failures.values())
        names = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        found.append(Finding("bad", f"{_of(len(failures), asked, 'slide')} failed ({names})."))
    damaged = sum(bool(slide.problem) for slide in slides)
    if damaged:
        text = (
            f"{_of(damaged, len(slides), 'slide')} damaged on disk since: run `pathprep shard` on them again."
        )
        found.append(Finding("bad", text))
    if not asked:
        found.append(Finding("look", "No slide is done yet: `pathprep shard SLIDES --out` this folder."))
    if stale:
        text = f"{counted(stale)} of another build in the folder: not part of the dataset, not on this page."
        found.append(Finding("look", text))
    if not slides:
        return found
    empty = sum(not slide.marker.tiles for slide in slides)
    if empty:
        found.append(Finding("look", f"{_of(empty, len(slides), 'slide')} done, but without a single tile."))
    found += _stain_findings(slides)
    assumed = sum(slide.marker.mpp_source == "--default-mpp" for slide in slides)
    if assumed:
        text = f"The MPP of {_of(assumed, len(slides), 'slide')} was assumed (--default-mpp)."
        found.append(Finding("look", text))
    kinds_of_flags: tuple[tuple[FlagKind, str], ...] = (
        ("few", "far fewer tiles than usual"),
        ("blurred", "blurred against the others"),
    )
    found += [
        Finding("look", f"{_of(len(names), len(slides), 'slide')}: {in_words_of(code)}.")
        for code, names in unlike_others(slides).items()
        if code != "no_tissue"  # without a tile, which is said above
    ]
    for kind, text in kinds_of_flags:
        count = sum(slide.has(kind) for slide in slides)
        if count:
            found.append(Finding("look", f"{_of(count, len(slides), 'slide')}: {text}."))
    if not failures and not damaged and not total["damaged"]:
        found.append(Finding("good", "No slide failed, and every file of the dataset has its recorded size."))
    return found


def _stain_findings(slides: list[Measured]) -> list[Finding]:
    total: Counter[str] = Counter()
    for slide in slides:
        total.update(slide.marker.stain)
    tiles = total.total()
    if not tiles or total["none"] == tiles:
        return []
    found = []
    if total["unfitted"]:
        text = f"{_of(total['unfitted'], tiles, 'tile')} without any stain fit: they were left as they were."
        found.append(Finding("look", text))
    outliers = sum(slide.stain_outlier for slide in slides)
    if outliers:
        text = f"The stain of {_of(outliers, len(slides), 'slide')} is unlike that of the others."
        found.append(Finding("look", text))
    if total["slide_fit"]:
        text = (
            f"{_of(total['slide_fit'], tiles, 'tile')} took their slide's stain fit, for want of their own."
        )
        found.append(Finding("look" if total["slide_fit"] > tiles / 10 else "good", text))
    if total["fitted"] == tiles:
        found.append(Finding("good", "Every tile has a stain fit of its own."))
    return found


def _of(part: int, whole: int, thing: str) -> str:
    return f"{part:,} of {counted(whole, thing)} ({part / whole:.1%})"


def in_words(params: dict[str, Any]) -> list[tuple[str, str]]:
    """The parameters as a person would say them."""
    if params.get("kind") == "tiles":
        mpp = "not known" if params["mpp"] is None else f"{params['mpp']:g} MPP"
        coding = f"JPEG of quality {params['quality']}, {':'.join(params['subsampling'])}"
        return [
            ("Tiles", f"imported (`pathprep import-tiles`); resolution: {mpp}."),
            ("Stain", _stain_words(params["stain"])),
            ("Files", f"{coding}; plain JPEGs whose pixels were not changed keep their bytes."),
        ]
    tile, tissue, stained = params["tile"], params["tissue"], params["stain"]
    mpps = params["mpp"] if isinstance(params["mpp"], list) else [params["mpp"]]
    mpp = mpps[0]
    sizes = ", ".join(f"{mpp:g} MPP ({tile * mpp:g} µm)" for mpp in mpps)
    if params["mode"] == "native":
        pixels = (
            f"stored with the slide's own pixels ({tile * mpp / 0.25:.0f} px a side on a slide of 0.25 MPP)"
        )
    else:
        pixels = f"resampled to {tile} px"
    overlap = f"overlapping by {params['overlap']} px" if params["overlap"] else "without overlap"
    limit = f", at most {params['max_tiles']:,} a slide, at random" if params["max_tiles"] else ""
    if "model" in tissue:
        model = tissue["model"]
        finder = (
            f"Found by a tissue model at {model['mpp']:g} µm/px (SHA-256 {model['sha256'][:12]}...), classes "
            f"{', '.join(model['classes'])}"
        )
    else:
        finder = {
            "stained": f"Saturation above that of the glass by {tissue['threshold']} on average",
            "threshold": f"Saturation above {tissue['threshold']}, as in CLAM",
            "otsu": "Saturation above Otsu's threshold, as in CLAM",
        }[tissue["method"]]
    whole = f"whole regions of {params['region']} px are kept"
    kept = whole if params.get("whole_regions") else "tiles are kept"
    return [
        ("Tiles", f"{tile} px at {sizes}, {overlap}{limit}; {pixels}."),
        (
            "Tissue",
            f"{finder}; {kept} from {params['min_tissue']:.0%} tissue.",
        ),
        ("Quality", quality.in_words(params.get("qc", {}))),
        ("Stain", _stain_words(stained)),
        ("Files", f"JPEG of quality {params['quality']}, {':'.join(params['subsampling'])}."),
    ]


def _stain_words(stained: dict[str, Any]) -> str:
    if stained["mode"] == "none":
        return "Not touched and not measured (--stain none)."
    rule = "all channels" if stained["keep"] == "all" else "any channel"
    fit = f"fitted on pixels with {rule} at an optical density of {stained['beta']:g} or more"
    if stained["mode"] == "fit":
        return f"Macenko, {fit}; tiles are stored as they are, with their fits beside them (--stain fit)."
    return f"Macenko, {fit}; tiles are stored normalised (--stain bake)."
