"""Cells of labels: which ones say that nothing is known, and which ones are one class.

Programs write a missing value in many ways: pandas leaves it empty or writes NaN, None or <NA>, R writes NA,
Excel #N/A, the GDC '-- or "not reported", TCGA's own files [Not Available]. Capitals do not matter, and the
bracketed words count without their brackets too. A single ``-`` is a class: the opposite of ``+``.
"""

import re
import unicodedata

# In small letters, without brackets; the one list of the house
MISSING = frozenset(
    {
        "",
        # pandas, numpy, R, SQL, SAS, JSON
        *("na", "n/a", "n.a.", "nan", "-nan", "nat", "none", "null", "nil", ".", "?"),
        # Excel: cells that could not be worked out
        *("#n/a", "#n/a n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#div/0!", "#num!"),
        # Windows' numbers that are none
        *("1.#ind", "1.#qnan", "-1.#ind", "-1.#qnan"),
        # the GDC and TCGA
        *("--", "'--", "---", "not available", "not applicable", "not reported", "not evaluated"),
        *("not recorded", "not allowed to collect", "unknown", "missing"),
        # people
        *(
            "n.d.",
            "no data",
            "no label",
            "unlabeled",
            "unlabelled",
            "not known",
            "not determined",
        ),
        *("n/a.", "n / a", "pd.na", "np.nan", "tbd"),
    }
)
# Words that say so only in brackets: TCGA's own files
BRACKETED = frozenset({"discrepancy", "completed", "pending", "not performed", "not tested", "not done"})

_BRACKETS = re.compile(r"[\[<(](.*)[\])>]")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)([.]0+|,0)")
_UNSEEN = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060"))  # marks without a width


def clean(cell: str) -> str:
    """One spelling of a cell: composed letters, single spaces, none around it, no marks that nobody sees."""
    if cell.isascii():
        return " ".join(cell.split())
    return " ".join(unicodedata.normalize("NFC", cell.translate(_UNSEEN)).split())


def is_missing(cell: str) -> bool:
    """Whether a cell says that nothing is known; see MISSING."""
    text = clean(cell).casefold()
    inner = _BRACKETS.fullmatch(text)
    if inner is None:
        return text in MISSING
    word = inner[1].strip()
    return word in MISSING or word in BRACKETED


def known(cell: str) -> str:
    """The cell as ``clean`` spells it; "" if it is missing."""
    return "" if is_missing(cell) else clean(cell)


def label(cell: str) -> str:
    """The class that a cell names; "" if it is missing.

    A column with a missing number is one of floats for pandas, which then writes 1.0 for 1: one class.
    """
    text = known(cell)
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return text
    return "0" if whole[1] == "0" else text[: whole.start(2)]
