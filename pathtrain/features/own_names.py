"""What files of features are called: after the slides' own names, by which other tools look them up."""

from collections import Counter
from collections.abc import Sequence

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.slides.own_names import file_name


def file_names(dataset: Dataset, slides: Sequence[str]) -> dict[str, str]:
    """The name of each slide's file, without its ending: no two are equal.

    The own name, at one of several resolutions with its ending; the safe name where the own one is too long,
    is no name of a file, or several slides share it.
    """
    wanted = {}
    for slide in slides:
        marker = dataset.marker(slide)
        wanted[slide] = slide
        if isinstance(marker, SlideMarker) and marker.own_name is not None:
            ending = slide.removeprefix(marker.slide_id or slide)
            wanted[slide] = file_name(marker.own_name + ending, slide)
    shared = Counter(name.casefold() for name in wanted.values())
    return {slide: name if shared[name.casefold()] == 1 else slide for slide, name in wanted.items()}
