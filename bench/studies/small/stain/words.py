"""The study of stain in words and tables, made from its figures: what holds and what does not alike."""

from collections.abc import Iterator, Mapping
from typing import Any

from pathprep.words import counted
from small.stain.arms import NONE, ON_UNCAST
from small.stain.figures import beyond

# test, figure, the better direction, and what is claimed of the first of a pair against the second
CLAIMS = (
    ("shortcut", "AUROC, fall", -1, "The AUROC of the class falls less with the cast"),
    ("scanners", "AUROC of the class", 1, "The class of mitoses is told better"),
    ("scanners", "balanced accuracy of the scanner", -1, "The scanner is told worse"),
    ("scanners", "robustness index", 1, "Neighbours follow the class more and the scanner less"),
    ("slides", "own share", -1, "Fewer neighbours are of the own slide"),
    ("slides", "content", 1, "Neighbours from other slides tell the class better"),
)
VERDICTS = {1: "holds for", 0: "not beyond the interval for", -1: "the opposite holds for"}
UNSHOWN = "balanced accuracy at"  # of the shortcut: in the results, beside the AUROC
TITLES = {
    "shortcut": "Shortcut: a probe learns where the cast goes with the class",
    "scanners": "Scanners: mitoses of five",
    "slides": "Slides of one cast each, with all classes on every slide",
}


def sentences(tests: Mapping[str, Any]) -> list[str]:
    """One of every claim, with what each pair says of it, and one of the composing itself."""
    found = []
    for test, figure, good, claim in CLAIMS:
        gaps = tests[test]["figures"][figure]["differences"]
        parts = []
        for verdict, words in VERDICTS.items():
            pairs = [f"{gap['of']} against {gap['less']} ({signed(gap)})" for gap in gaps
                     if good * beyond(gap) == verdict]  # fmt: skip
            parts += [f"{words} {', '.join(pairs)}"] if pairs else []
        found.append(f"{claim} ({figure}): {'; '.join(parts)}.")
    plain = tests["slides"]["figures"]["own share"]["rows"][NONE + ON_UNCAST]
    if plain["interval"] is None:
        raise ValueError("slides: an interval needs two slides")
    low, high = plain["interval"]
    words = "the casts'" if low <= 0 <= high else "not the casts' alone"
    found.append(f"The own share with casts is {words}: without any it is {shown(plain)}.")
    return found


def shown(row: Mapping[str, Any]) -> str:
    """A figure with its interval."""
    return _said(row, ".3f")


def signed(row: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    return _said(row, "+.3f")


def _said(row: Mapping[str, Any], how: str) -> str:
    if row["interval"] is None:
        return f"{row['value']:{how}}"
    low, high = row["interval"]
    return f"{row['value']:{how}} [{low:{how}}, {high:{how}}]"


def markdown(result: Mapping[str, Any]) -> str:
    """Tables of all rows and differences, the sentences, and what could not be fitted."""
    lines: list[str] = []
    for test, title in TITLES.items():
        lines += [f"### {title}", "", _about(test, result["tests"][test]), ""]
        lines += _table(result["tests"][test]["figures"])
    lines += ["### What holds, and what does not", "", *(f"- {one}" for one in result["sentences"]), ""]
    lines += [
        "Values are means over seeds. Intervals (95 %) hold groups (BCa, or Student's t of few) and seeds "
        "(Student's t) together; differences are of the same groups and seeds, and nothing is corrected for "
        "their number. A cast is a linear change of haematoxylin and eosin in optical density, which is what "
        "Macenko's method can undo best; scanners differ in more.",
        "",
        *_fits(result["fits"]),
    ]
    return "\n".join(lines)


def _about(test: str, found: Mapping[str, Any]) -> str:
    tiles = f"{found['tiles']} tiles of {found['groups']}"
    if test == "shortcut":
        return f"{' against '.join(found['classes'])}, {tiles} originals in the test, each in both casts."
    if test == "scanners":
        about = found["index"]
        return (
            f"{tiles} cases in the test, {len(found['scanners'])} scanners (chance "
            f"{1 / len(found['scanners']):.2f}). Robustness index by {counted(about['k'], 'neighbour')}, by "
            f"chance {about['chance']:.3f}."
        )
    return f"{tiles} slides, {len(found['classes'])} classes (chance {found['chance']:.2f})."


def _table(every: Mapping[str, Any]) -> Iterator[str]:
    figures = {name: found for name, found in every.items() if not name.startswith(UNSHOWN)}
    first = next(iter(figures.values()))
    yield f"| encoder | {' | '.join(figures)} |"
    yield "| --- |" + " --- |" * len(figures)
    for name in first["rows"]:
        yield f"| {name} | {' | '.join(shown(each['rows'][name]) for each in figures.values())} |"
    yield ""
    yield f"| difference | {' | '.join(figures)} |"
    yield "| --- |" + " --- |" * len(figures)
    for number, gap in enumerate(first["differences"]):
        cells = " | ".join(signed(each["differences"][number]) for each in figures.values())
        yield f"| {gap['of']} - {gap['less']} | {cells} |"
    yield ""


def _fits(fits: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    yield "| tiles | Macenko's fit their own | pooled of slide or case | none, left as they are |"
    yield "| --- | --- | --- | --- |"
    for name, found in fits.items():
        cells = " | ".join(str(found.get(status, 0)) for status in ("fitted", "slide_fit", "unfitted"))
        yield f"| {name} | {cells} |"
    yield ""
