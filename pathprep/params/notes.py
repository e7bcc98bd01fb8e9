"""What slides are unlike the others in: codes, as markers hold them, and words. slides.unlike finds them."""

from typing import Literal, get_args

Note = Literal["all_tissue", "no_tissue", "dark_background", "not_he"]

WORDS: dict[Note, str] = {
    "all_tissue": "the whole slide (100 %) counts as tissue: a field within tissue, or glass that was not "
    "told from it",
    "no_tissue": "no tissue was found",
    "dark_background": "no light passes the background (fluorescence, or not a picture of a slide): stain "
    "is not normalised",
    "not_he": "does not look like H&E: hardly anything is pink (IHC, or another stain)",
}
ODD_MPP = "odd_mpp"  # a slide of a run, by the others: no marker holds it
ODD_MPP_WORDS = "MPP further than 20 % from those that the other slides share"


def in_words(code: str) -> str:
    """A code as a sentence; one of a later version as it is."""
    if code == ODD_MPP:
        return ODD_MPP_WORDS
    return next((WORDS[each] for each in get_args(Note) if each == code), code)
