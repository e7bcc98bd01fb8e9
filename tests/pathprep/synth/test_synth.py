"""Drawn slides: what readers see, what the truth says, and that the same request gives the same bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide
import pytest
from cucim import CuImage
from PIL import Image
from skimage.draw import polygon2mask

from pathprep.errors import UsageError
from pathprep.synth import archive as synth
from pathprep.synth import pyramid
from pathprep.synth.paint import paint
from pathprep.synth.scene import CLASSES, make_scene

SIZE = 3000  # not a multiple of 240, 256 or 16


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth")
    synth.synthesize(out, slides=3, size=SIZE, seed=5)
    return out


def truth(archive: Path, slide: int) -> dict:
    return json.loads((archive / f"truth/synth-{slide:03d}.json").read_text())


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(slide: openslide.OpenSlide, x: int, y: int, level: int, side: int) -> npt.NDArray[np.uint8]:
    return np.asarray(slide.read_region((x, y), level, (side, side)).convert("RGB"))


def test_the_archive_is_complete(archive: Path) -> None:
    names = [f"synth-{n:03d}" for n in range(3)]
    expected = [f"{n}.tif" for n in names] + [
        f"truth/{n}{s}" for n in names for s in (".json", "-tissue.png", ".geojson")
    ]
    assert sorted(digests(archive)) == sorted(expected)


@pytest.mark.parametrize(("size", "tile"), [(2500, 240), (2500, 256), (1024, 256), (1111, 16), (512, 240)])
def test_both_readers_see_the_same_pyramid(tmp_path: Path, size: int, tile: int) -> None:
    (path,) = synth.synthesize(tmp_path, slides=1, size=size, native_tile=tile, mpp=0.25)
    levels = [(size // d, size // d) for d in (1, 4, 16) if d == 1 or size // d >= 256]
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple(levels)
        assert slide.level_downsamples == pytest.approx([size / side for side, _ in levels])
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        image = CuImage(str(path))
        assert tuple(image.resolutions["level_dimensions"]) == tuple(levels)
        assert image.spacing()[:2] == pytest.approx([0.25, 0.25])
        assert image.spacing_units()[:2] == ["micrometer", "micrometer"]
        for level, (side, _) in enumerate(levels):
            whole = np.asarray(image.read_region((0, 0), (side, side), level))
            ours = read(slide, 0, 0, level, side)
            assert whole.std() > 5  # not a blank page
            assert int(np.abs(whole.astype(int) - ours).max()) <= 3, f"level {level}"


def test_levels_are_averages_of_the_base(archive: Path) -> None:
    """In luminance, as 4:2:0 keeps colour at half the resolution; a shift by one pixel would show."""
    with openslide.OpenSlide(archive / "synth-000.tif") as slide:
        base = read(slide, 0, 0, 0, SIZE).astype(float) @ [0.299, 0.587, 0.114]
        side = SIZE // 4
        expected = base.reshape(side, 4, side, 4).mean((1, 3))
        luminance = read(slide, 0, 0, 1, side) @ [0.299, 0.587, 0.114]
    error = np.abs(luminance - expected).mean()
    assert error < 2.0
    assert np.abs(luminance[:, 1:] - expected[:, :-1]).mean() > 2 * error
    assert np.abs(luminance[1:] - expected[:-1]).mean() > 2 * error


def test_reduce_is_the_rounded_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    mean = pixels.reshape(12, 4, 8, 4, 3).mean((1, 3))
    assert np.array_equal(pyramid.reduce(pixels), np.floor(mean + 0.5).astype(np.uint8))


def test_bigtiff_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (classic,) = synth.synthesize(tmp_path / "classic", slides=1, size=1100)
    monkeypatch.setattr(pyramid, "BIG_PIXELS", 1000)
    (big,) = synth.synthesize(tmp_path / "big", slides=1, size=1100)
    assert classic.read_bytes()[:4] == b"II\x2a\x00"
    assert big.read_bytes()[:4] == b"II\x2b\x00"
    with openslide.OpenSlide(classic) as a, openslide.OpenSlide(big) as b:
        assert a.level_dimensions == b.level_dimensions
        assert a.properties["openslide.mpp-x"] == b.properties["openslide.mpp-x"]
        assert np.array_equal(read(a, 0, 0, 0, 1100), read(b, 0, 0, 0, 1100))
    assert CuImage(str(big)).resolutions["level_count"] == 2


def test_same_request_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("again", 1), ("three", 3)):
        synth.synthesize(tmp_path / name, slides=2, size=2100, seed=9, workers=workers)
    assert digests(tmp_path / "one") == digests(tmp_path / "again") == digests(tmp_path / "three")
    synth.synthesize(tmp_path / "other", slides=1, size=2100, seed=10)
    assert digests(tmp_path / "other")["synth-000.tif"] != digests(tmp_path / "one")["synth-000.tif"]


def test_a_slide_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    synth.synthesize(tmp_path / "one", slides=1, size=700)
    synth.synthesize(tmp_path / "two", slides=2, size=700)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert {name: two[name] for name in one} == one
    assert two["synth-000.tif"] != two["synth-001.tif"]


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_pixels_do_not_depend_on_the_window(mpp: float) -> None:
    """Any partition gives the same pixels: odd origins, single rows, and windows beyond the border."""
    size, look = 1500, synth.make_look(3, 0)
    scale = mpp / synth.REFERENCE_MPP
    scene = make_scene(3, 0, size * scale)

    def window(x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        out = np.empty((height, width, 3), np.uint8)
        paint(scene, scale, look.he, look.gain, look.white, synth.FADE, x, y, out)
        return out

    whole = window(0, 0, size + 50, size + 50)
    for x, y, width, height in (
        (0, 0, 240, 240),
        (701, 333, 517, 91),
        (640, 700, 800, 1),
        (1499, 5, 51, 1400),
    ):
        assert np.array_equal(window(x, y, width, height), whole[y : y + height, x : x + width]), (x, y)


def canonical_fit(tile: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Canonical Macenko vectors in float64, spelt out here so that it owes nothing to the code under test."""
    od = -np.log((tile.reshape(-1, 3).astype(float) + 1) / 240)
    od = od[(od >= 0.15).all(axis=1)]
    plane = np.linalg.eigh(np.cov(od.T))[1][:, 1:]
    projected = od @ plane
    angles = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), [1, 99])
    pair = plane @ np.array([np.cos(angles), np.sin(angles)])
    pair *= np.sign(pair.sum(axis=0))
    return pair if pair[0, 0] > pair[0, 1] else pair[:, ::-1]


def degrees(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize("slide", range(3))
def test_macenko_finds_the_true_stain(archive: Path, slide: int) -> None:
    """The median fit over tissue tiles lies within 4 degrees of the truth (measured: 0.3 to 2.4)."""
    he = np.array(truth(archive, slide)["he"])
    assert np.linalg.norm(he, axis=0) == pytest.approx(1.0)
    tissue = np.asarray(Image.open(archive / f"truth/synth-{slide:03d}-tissue.png")) > 0
    fits = []
    with openslide.OpenSlide(archive / f"synth-{slide:03d}.tif") as image:
        for y in range(0, SIZE // 32 - 8, 8):
            for x in range(0, SIZE // 32 - 8, 8):
                if tissue[y : y + 8, x : x + 8].mean() > 0.8:
                    fits.append(canonical_fit(read(image, x * 32, y * 32, 0, 256)))
    assert len(fits) > 20
    median = np.median(fits, axis=0)
    assert degrees(median[:, 0], he[:, 0]) < 4.0
    assert degrees(median[:, 1], he[:, 1]) < 4.0


def test_slides_differ_in_stain_and_scanner(archive: Path) -> None:
    looks = [truth(archive, n) for n in range(3)]
    for a in range(3):
        for b in range(a):
            he = [np.array(looks[n]["he"]) for n in (a, b)]
            assert max(degrees(he[0][:, k], he[1][:, k]) for k in (0, 1)) > 2.0
            assert looks[a]["white"] != looks[b]["white"]
            assert looks[a]["gain"] != looks[b]["gain"]


def test_background_has_the_scanners_cast_and_little_noise(archive: Path) -> None:
    with openslide.OpenSlide(archive / "synth-001.tif") as slide:
        corner = read(slide, 0, 0, 0, 64).reshape(-1, 3)
    assert corner.mean(axis=0) == pytest.approx(truth(archive, 1)["white"], abs=1.0)
    assert 0.2 < corner.std() < 5.0


def test_tissue_mask_is_where_the_colour_is(archive: Path) -> None:
    for n in range(3):
        facts = truth(archive, n)
        mask = np.asarray(Image.open(archive / facts["tissue"])) > 0
        assert mask.shape == (-(-SIZE // 32),) * 2
        assert 0.35 < facts["tissue_share"] < 0.62
        assert facts["tissue_share"] == pytest.approx(mask.mean())
        assert sum(facts["classes"].values()) == pytest.approx(facts["tissue_share"])
        with openslide.OpenSlide(archive / facts["slide"]) as slide:
            small = np.asarray(
                Image.fromarray(read(slide, 0, 0, 0, SIZE)).resize(
                    (SIZE // 32, SIZE // 32), Image.Resampling.BOX
                )
            )
        coloured = np.abs(small - np.array(facts["white"])).max(axis=2) > 6
        inside = mask[: SIZE // 32, : SIZE // 32]
        assert (coloured & inside).sum() / (coloured | inside).sum() > 0.9


def test_regions_are_what_qupath_reads(archive: Path) -> None:
    """Polygons lie in the slide, carry a class, do not overlap and cover the tissue of the mask."""
    for n in range(3):
        facts = truth(archive, n)
        collection = json.loads((archive / facts["regions"]).read_text())
        assert collection["type"] == "FeatureCollection"
        mask = np.asarray(Image.open(archive / facts["tissue"])) > 0
        cover = np.zeros(mask.shape, int)
        for feature in collection["features"]:
            assert feature["properties"]["objectType"] == "annotation"
            assert feature["properties"]["classification"]["name"] in CLASSES
            outer, *holes = [np.array(ring) for ring in feature["geometry"]["coordinates"]]
            for ring in (outer, *holes):
                assert np.array_equal(ring[0], ring[-1])
                assert len(ring) >= 4
                assert ring.min() >= 0
                assert ring.max() <= SIZE
            inside = polygon2mask(mask.shape, outer[:, ::-1] / 32 - 0.5)
            for hole in holes:
                inside &= ~polygon2mask(mask.shape, hole[:, ::-1] / 32 - 0.5)
            cover += inside
        assert (cover == mask).mean() > 0.97
        assert len({f["properties"]["classification"]["name"] for f in collection["features"]}) >= 4


def test_classes_look_different(archive: Path) -> None:
    """Mean haematoxylin and nuclear density order the compartments as a pathologist would."""
    facts = truth(archive, 0)
    with openslide.OpenSlide(archive / "synth-000.tif") as slide:
        pixels = read(slide, 0, 0, 0, SIZE)
    red: dict[str, list[float]] = {}
    for feature in json.loads((archive / facts["regions"]).read_text())["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        inside = polygon2mask((SIZE // 8, SIZE // 8), ring[:, ::-1] / 8)
        name = feature["properties"]["classification"]["name"]
        red.setdefault(name, []).append(
            float((pixels[::8, ::8, 0][: SIZE // 8, : SIZE // 8][inside] < 130).mean())
        )
    dark = {name: max(values) for name, values in red.items()}
    assert dark["lymphocytes"] > dark["stroma"] + 0.15
    assert dark["tumour"] > dark["stroma"]


def test_nuclei_keep_their_size_in_micrometres(tmp_path: Path) -> None:
    """The same tissue at half the MPP has about the same share of dark pixels, not a quarter of it."""
    dark = []
    for mpp, size in ((0.5, 1024), (0.25, 2048)):
        (path,) = synth.synthesize(tmp_path / str(mpp), slides=1, size=size, mpp=mpp)
        with openslide.OpenSlide(path) as slide:
            dark.append((read(slide, 0, 0, 0, size)[..., 0] < 130).mean())
    assert dark[0] == pytest.approx(dark[1], rel=0.15)
    assert dark[0] > 0.02


def test_progress_counts_every_tile_row(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    synth.synthesize(tmp_path, slides=2, size=700, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_an_interrupted_slide_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.synthesize(tmp_path, slides=1, size=1024, progress=stop)
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_memory_is_bounded_by_chunks_not_by_the_slide() -> None:
    """Drawing runs at most a few chunks ahead of the file."""
    drawn: list[tuple[int, int]] = []

    def draw(x: int, y: int, out: npt.NDArray[np.uint8]) -> None:
        drawn.append((x, y))
        out[:] = 200

    tiles = pyramid._base(20_000, 240, 2, draw, None, lambda: None)
    for _ in range(3):
        next(tiles)
    ahead = len(drawn)
    tiles.close()
    assert ahead <= 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 511}, "`size` is 511 px; .* 512 px"),
        ({"native_tile": 250}, "`native_tile` is 250; .* use 240 or 256"),
        ({"native_tile": 0}, "`native_tile` is 0"),
        ({"slides": 0}, "`slides` is 0; ask for at least 1"),
        ({"workers": 0}, "`workers` is 0"),
        ({"mpp": 5.0}, "`mpp` is 5.0"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_wrong_options_name_the_fix(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        synth.synthesize(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
