"""True downsamples of levels whose declared size is whole native tiles, and of all others as before."""

from pathlib import Path

import pytest

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers.levels import Declared, settle

HERE = Path("a.tif")
CAMELYON16 = [
    (97792, 221184), (49152, 110592), (24576, 55296), (12288, 27648), (6144, 13824), (3072, 7168),
    (1536, 3584), (1024, 2048), (512, 1024), (512, 512),
]  # fmt: skip
# Philips DICOM of the WG-26 connectathon: even numbers of tiles
CONNECTATHON = [
    (104448, 55296), (53248, 28672), (26624, 14336), (14336, 8192), (8192, 4096), (4096, 2048), (2048, 2048),
]  # fmt: skip
SHORT = [(3072, 6656), (1536, 3584), (1024, 2048), (512, 1024), *[(512, 512)] * 4]


def declared(sizes: list[tuple[int, int]], tile: int, spacings: list[float] | None = None) -> list[Declared]:
    return [Declared(*size, tile, tile, spacings[i] if spacings else None) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "tile"),
    [(CAMELYON16, 512), (CONNECTATHON, 1024), (SHORT, 512), ([(2560, 2560), (1536, 1536)], 512)],
)
@pytest.mark.parametrize("stated", [True, False])
def test_padded_levels_are_halves_of_halves(sizes: list[tuple[int, int]], tile: int, stated: bool) -> None:
    spacings = [0.25 * 2**i for i in range(len(sizes))] if stated else None
    found = settle(HERE, declared(sizes, tile, spacings))
    width, height = sizes[0]
    assert [each.level for each in found] == [(width >> i, height >> i, 2.0**i) for i in range(len(sizes))]
    for each in found[1:]:
        assert (
            f"1/{each.level.downsample:g} by its {'spacing' if stated else 'whole native tiles'}" in each.note
        )


def test_a_stated_spacing_tells_what_the_tiles_do_not() -> None:
    # a quarter in one tile after level 0: any of 1/4 to 1/8 and beyond would be padded to it
    sizes = [(2048, 1400), (512, 512)]
    assert [each.number for each in settle(HERE, declared([(900, 700), (512, 512)], 512))] == [0]
    found = settle(HERE, declared(sizes, 512, [0.25, 1.25]))
    assert found[1].level == (409, 280, 5.0)


def test_levels_that_are_not_used_are_named() -> None:
    (found,) = settle(HERE, declared([(900, 700), (512, 512)], 512))
    reason = "their size does not tell their downsample"
    assert found.note == f"further levels are not used, as {reason}: 512x512 px"


@pytest.mark.parametrize("spacings", [[0.25, 352.0, 352.0], [0.25, 0.25, 0.25], [0.25, 352.0, 400.0]])
def test_the_resolution_of_a_screen_is_no_spacing(spacings: list[float]) -> None:
    sizes = [(3072, 6656), (1536, 3584), (1024, 2048)]
    found = settle(HERE, declared(sizes, 512, spacings))
    assert [each.level.downsample for each in found] == [1, 2, 4]


@pytest.mark.parametrize(
    ("sizes", "tile"),
    [
        ([(46000, 32914), (11500, 8228), (2875, 2057), (1438, 1030), (22, 16), (1, 1)], 240),
        ([(2220, 2967), (1110, 1483), (555, 741), (277, 370), (138, 185)], 256),
        ([(2664, 3561), (1332, 1781), (666, 891), (333, 445), (166, 222)], 256),
        ([(4096, 4096), (2048, 2048), (1024, 1024), (512, 512), (256, 256)], 256),
        ([(3000, 3000), (1000, 1000)], 256),
        ([(10000, 8000), (2000, 1600), (400, 320)], 240),
    ],
)
def test_ordinary_levels_keep_their_sizes_and_means(sizes: list[tuple[int, int]], tile: int) -> None:
    (width, height), *_ = sizes
    found = settle(HERE, declared(sizes, tile))
    assert [each.level for each in found] == [(w, h, (width / w + height / h) / 2) for w, h in sizes]
    assert not any(each.note for each in found)


def test_a_level_whose_downsample_is_not_certain_is_not_used() -> None:
    # a third, or a quarter with padding
    assert [each.number for each in settle(HERE, declared([(3072, 3072), (1024, 1024)], 512))] == [0]
    # no reduction within a per cent, and not of whole tiles
    sizes = [(4000, 3000), (1000, 780), (500, 375)]
    assert [each.number for each in settle(HERE, declared(sizes, 256))] == [0, 2]


def test_another_picture_is_refused() -> None:
    with pytest.raises(UnreadableSlide, match="level 0 .*no reduction|no reduction of level 0"):
        settle(HERE, declared([(4000, 3000), (2000, 800)], 256))
