"""Markers as sharding commits them, of slides that never were."""

from typing import Any

from pathprep.dataset.marker import GridRecord, SlideMarker, SlideRecord
from pathprep.slides.facts import Decision, Facts


def slide_marker(build_id: str, path: str = "a.svs", **changes: Any) -> SlideMarker:
    """A slide's marker; ``changes``: fields that are another than here."""
    values: dict[str, Any] = {
        "source": SlideRecord(path, 1, 0.0),
        "inputs": {},
        "slide_id": "a",
        "target_mpp": 0.5,
        "reader": "openslide",
        "vendor": None,
        "width": 640,
        "height": 640,
        "mpp": 0.5,
        "mpp_source": "tags",
        "grid": GridRecord(10, 10, 64, 64, 64, 0, 4),
        "counts": {},
        "stain": {},
        "stain_fit": None,
        "seconds": {"total": 0.0},
    }
    return SlideMarker(build_id=build_id, **(values | changes))


def facts_with_bounds(*bounds: int) -> Facts:
    """Facts of a slide of which a part was scanned: x, y, width, height."""
    nothing = Decision(None, "")
    return Facts(
        nothing, nothing, nothing, Decision({"origin": "slide", "bounds": list(bounds)}, ""), nothing
    )
