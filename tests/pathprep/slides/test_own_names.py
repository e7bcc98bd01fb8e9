"""Own names of slides, safe names that follow from them, and finding slides by either."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pathprep.errors import UsageError
from pathprep.slides.own_names import LONGEST, SlideNames, file_name, own_name, plain_name, safe_name

TCGA = "TCGA-AA-1000-01Z-00-DX1.00000000-38cf-40ea-8213-45c2b100ac01"
ODD = [
    "胃癌一号", "胃癌二号", "正常一号", "正常二号", "S19-1234 A1", "S19-1234.A1", "Müller", "Muller", "🔬",
    "🧫", "50%", "50#", "a'b", 'a"b', "A", "A ", " A", "con", "NUL.1", "x" * 251, "x" * 250, "é" * 120, TCGA,
    f"{TCGA}!", "a__b", "a_b-", "-rf", "a\tb", "a\nb", "*", "?", "[x]", "{x}", "x.svs", "x.ome", "\udcff",
    "\udcfe", "A (1)",
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "own", "safe"),
    [
        (f"{TCGA}.svs", TCGA, TCGA.replace(".", "_")),
        ("slide_1-A.tif", "slide_1-A", "slide_1-A"),
        ("x.ome.tif", "x.ome", "x_ome"),
        ("S19.1234", "S19.1234", "S19_1234"),  # no ending that a slide has
        ("odd.xyz", "odd.xyz", "odd_xyz"),
        ("noending", "noending", "noending"),
    ],
)
def test_ordinary_names_stay(file: str, own: str, safe: str) -> None:
    assert own_name(Path("/archive") / file) == own
    assert safe_name(own) == safe


def test_other_names_get_a_hash() -> None:
    assert safe_name("S19-1234 A1").startswith("S19-1234_A1-")
    assert len(safe_name("x" * 250)) == LONGEST
    made = [safe_name(own) for own in ODD]
    assert len(set(made)) == len(ODD)
    assert [safe_name(name) for name in made] == made
    # as macOS writes it, and as others do
    assert safe_name(unicodedata.normalize("NFD", "Müller")) == safe_name("Müller")


def test_names_of_files() -> None:
    for own in ("胃癌一号", TCGA, "Müller", "A (1)", "50%"):
        assert file_name(own, "safe") == own
    for own in ("x" * 251, "é" * 120, ".hidden", "a\nb", "\ufffd", "a/b"):
        assert file_name(own, "safe") == "safe"


def test_every_way_to_name_a_slide() -> None:
    own = {safe_name(name): (name,) for name in ODD}
    names = SlideNames.of(own, own)
    for safe, (name,) in own.items():
        assert names.find(name) == safe
        assert names.find(safe) == safe
        assert names.find(unicodedata.normalize("NFD", name)) == safe
        assert names.find(f"{name}.svs") == safe
        assert names.find(f"{safe}.tif") == safe
    assert names.find("胃癌三号") is None
    assert names.find("S19-1234_A1 ") == "S19-1234_A1"  # the safe name of "S19-1234.A1"
    # what a table names is not taken for another slide whose safe name looks alike
    assert SlideNames.of({"A_1"}, {"A_1": ("A.1",)}).find("A 1") is None


def test_safe_names_alone_are_found_by_own_names() -> None:
    names = SlideNames.of({safe_name(name) for name in ODD})
    assert [names.find(name) for name in ODD if name.strip() == name] == [
        safe_name(name) for name in ODD if name.strip() == name
    ]
    # datasets of version 1 had no hashes
    assert SlideNames.of({plain_name("S19 A1")}).find("S19 A1") == "S19_A1"


def test_what_may_be_two_slides_is_refused() -> None:
    names = SlideNames.of({"A-11111111", "A-22222222"}, {"A-11111111": ("A",), "A-22222222": ("A",)})
    with pytest.raises(UsageError, match="slide A may be A-11111111 or A-22222222; name it so"):
        names.find("A")
    assert names.find("A-22222222") == "A-22222222"
    # one slide's own name is the safe name of another
    names = SlideNames.of({"A_1", "A_1-12345678"}, {"A_1": ("A.1",), "A_1-12345678": ("A_1",)})
    assert names.find("A.1") == "A_1"
    with pytest.raises(UsageError, match="slide A_1 may be A_1 or A_1-12345678"):
        names.find("A_1")


@pytest.mark.parametrize("seed", range(5))
def test_any_names(seed: int) -> None:
    rng = np.random.default_rng(seed)
    letters = [
        *"aA1_-. %#'\"()[]&+,;=@~!",
        "ä",
        "é",
        "e\u0301",
        "ß",
        "胃",
        "癌",
        "🔬",
        "\u0627",
        "\u200f",
        "\u0439",
        "\udc80",
    ]
    made = {"".join(rng.choice(letters, rng.integers(1, 90)).tolist()) for _ in range(400)}
    composed = {unicodedata.normalize("NFC", name).strip(): name for name in made if name.strip(". ")}
    own: dict[str, tuple[str, ...]] = {}
    for name in composed.values():
        safe = safe_name(name)
        assert safe.isascii()
        assert 0 < len(safe) <= LONGEST
        assert plain_name(safe) == safe
        if safe not in own:  # "a.b" and "a_b": with_names tells them apart by their paths
            own[safe] = (name,)
    collided = len(composed) - len(own)
    assert collided <= 3
    names = SlideNames.of(own, own)
    for safe, (name,) in own.items():
        assert names.find(name) == safe
        assert names.find(f"{name}.svs") == safe
