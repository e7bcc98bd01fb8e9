"""The page's quality section: the figures it carries, and what a reader sees who drags its thresholds."""

import base64
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.browser import FLAGS, NAMES, check_page
from helpers.slides import FLAWED_SIDE, flawed, tissue, write_tiff
from helpers.tilesets import folders, tile

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import sha256
from pathprep.kernels import tiling_reference
from pathprep.params.quality import REASONS, RULES, QcParams
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.reports import measure, quality
from pathprep.reports.page import report
from pathprep.sharding import run
from pathprep.sharding.plan import prepare
from pathprep.slides import find as sources
from pathprep.storage.seals import sealed
from pathprep.tiles import qc
from pathprep.tiles.qc import FIGURES
from pathprep.tilesets.find import find
from pathprep.tilesets.run import import_tiles

FILTERS = QcParams(max_pen=0.2, min_hsv=0.6)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_tiff(folder / "flawed.tif", flawed(), tile=128)
    write_tiff(folder / "good.tif", tissue(256, 256, 1), tile=128)
    return folder


def make(archive: Path, out: Path, filters: QcParams, **options: Any) -> Path:
    params = ShardParams(tile=FLAWED_SIDE, region=FLAWED_SIDE, min_tissue=0.2, qc=filters, **options)
    run.shard(sources.find([archive]), out, params, workers=2)
    return out


@pytest.fixture(scope="module")
def made(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(archive, tmp_path_factory.mktemp("made") / "d", FILTERS, stain=StainParams("fit"))


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "dataset")


def everything(root: Path) -> tuple[list[str], np.ndarray]:
    """Slide and figures (n, 6) of every tile, kept and dropped."""
    dataset, names, parts = Dataset(root), [], []
    for name in dataset.slides:
        for table in (dataset.table(name), dataset.dropped(name)):
            parts.append(np.column_stack([table[figure].to_numpy() for figure in FIGURES]))
            names += [name] * table.num_rows
    return names, np.concatenate(parts)


def expected(root: Path, filters: QcParams) -> Counter[str]:
    verdicts = qc.verdicts(everything(root)[1].astype(np.float32), filters)
    return Counter("stay" if verdict < 0 else REASONS[verdict] for verdict in verdicts)


def taken(root: Path, seed: int = 0) -> quality.Sample:
    dataset = Dataset(root)
    slides = [measure.measure(dataset, name, 0, 1) for name in dataset.slides]
    return quality.sample(dataset, slides, seed)


def test_sample_holds_kept_and_dropped_tiles(made: Path) -> None:
    found = taken(made)
    names, figures = everything(made)
    order = [FIGURES.index(name) for name in quality.SHOWN]
    assert (len(found), found.total, found.slides) == (len(names), len(names), ["flawed", "good"])
    assert [found.slides[number] for number in found.slide] == names
    np.testing.assert_array_equal(found.figures, figures[:, order])
    dropped = found.member[:, 0] < 0
    assert dropped.sum() == Dataset(made).dropped("flawed").num_rows == 18
    place = found.place[dropped]
    assert {(x // FLAWED_SIDE) for x in place[:, 0].tolist()} == {3, 5, 7}
    assert (place[:, 2] == FLAWED_SIDE).all()


def test_large_datasets_are_sampled(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MAX_TILES", 20)
    found = taken(made)
    assert (len(found), found.total) == (20, 76)
    assert len({(int(s), *place) for s, place in zip(found.slide, found.place.tolist(), strict=True)}) == 20
    again, other = taken(made), taken(made, seed=1)
    np.testing.assert_array_equal(found.place, again.place)
    assert not np.array_equal(found.place, other.place)
    whole = {name: i for i, name in enumerate(("flawed", "good"))}
    chances = sum(np.bincount(taken(made, seed).slide, minlength=2) for seed in range(40))
    assert chances[whole["good"]] / chances.sum() == pytest.approx(16 / 76, abs=0.05)


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="qc-data">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_page_carries_the_figures(made: Path, tmp_path: Path) -> None:
    data = page_data(report(made, tmp_path / "page.html"))
    figures = everything(made)[1]
    for rule, sent in zip(RULES, data["rules"], strict=True):
        values = np.frombuffer(base64.b64decode(sent["values"]), "<f4")  # to the last bit
        np.testing.assert_array_equal(values, figures[:, FIGURES.index(rule.figure)])
        threshold = FILTERS.as_dict().get(rule.parameter)
        assert sent["stops"] == sorted(set(sent["stops"]))
        assert sent["stops"][sent["off"]] == (0 if rule.least else 1)
        assert sent["stops"][sent["now"]] == (sent["stops"][sent["off"]] if threshold is None else threshold)
    pens = [
        float(example["shown"].split("pen ")[1].split("\N{NO-BREAK SPACE}")[0])
        for example in data["examples"]
    ]
    assert len(pens) > 20
    assert max(pens) > 40  # the worst is among them, though it was dropped
    assert all(example["picture"].startswith("data:image/jpeg") for example in data["examples"])


def test_examples_reach_from_the_worst_to_the_best() -> None:
    rng = np.random.default_rng(0)
    figures = rng.random((5000, 4)) * (1000, 1, 1, 1)
    nothing = np.zeros((5000, 3), np.int64)
    found = quality.Sample(5000, ["s"], nothing[:, 0], figures, nothing, nothing[:, :2])
    chosen = quality.chosen_examples(found)
    assert len(chosen) <= 4 * quality.EXAMPLES
    for column in range(4):
        assert {figures[:, column].argmin(), figures[:, column].argmax()} <= set(chosen.tolist())


def test_slides_that_are_gone(archive: Path, dataset: Path, tmp_path: Path) -> None:
    marker = dataset / "slides" / "flawed.json"
    values = json.loads(marker.read_text())
    gone = str(tmp_path / "nowhere.tif")
    marker.write_text(json.dumps(sealed({**values, "source": {**values["source"], "path": gone}})))
    page = report(dataset, tmp_path / "page.html")
    assert "flawed: the slide file nowhere.tif is no longer" in " ".join(page.read_text().split())
    places = {(example["slide"], example["x"] // FLAWED_SIDE) for example in page_data(page)["examples"]}
    assert places.isdisjoint({(0, 3), (0, 5), (0, 7)})  # tiles that were dropped are only in the slide
    assert places


def test_damaged_record_of_dropped_tiles(dataset: Path, tmp_path: Path) -> None:
    path = dataset / "dropped" / "flawed.parquet"
    path.write_bytes(b"?" * path.stat().st_size)
    assert page_data(report(dataset, tmp_path / "page.html"))["slides"] == ["good"]
    path.unlink()
    page = report(dataset, tmp_path / "page.html")
    assert "damaged: dropped/flawed.parquet is missing" in page.read_text()


def test_datasets_without_the_figures_say_so(dataset: Path, tmp_path: Path) -> None:
    """Versions before this one wrote tables without the columns of pen marks and HSV."""
    for path in (dataset / "slides").glob("*.json"):
        marker = json.loads(path.read_text())
        for name in (name for name in marker["files"] if name.endswith(".parquet")):
            pq.write_table(pq.read_table(dataset / name).drop_columns(["pen", "hsv"]), dataset / name)
            size = (dataset / name).stat().st_size
            marker["files"][name] = {"size": size, "sha256": sha256(dataset / name)}
        path.write_text(json.dumps(sealed(marker)))
    page = report(dataset, tmp_path / "page.html").read_text()
    assert "made by an earlier version, which did not measure pen marks" in page
    assert "<code>pathprep shard</code> that made it" in page
    assert "qc-data" not in page


@pytest.mark.parametrize("mode", ["none", "bake"])
def test_an_imported_set_has_every_figure_and_its_own_words(tmp_path: Path, mode: Any) -> None:
    images = {f"class{n % 2}/{n}.png": tile(n, 64) for n in range(6)}
    source = folders(tmp_path / "set", images)
    import_tiles(find(source), tmp_path / "imported", TileParams(stain=StainParams(mode)), workers=1)
    _, figures = everything(tmp_path / "imported")
    expected = np.stack([tiling_reference.quality(image) for image in images.values()])
    np.testing.assert_allclose(np.sort(figures, axis=0), np.sort(expected, axis=0), rtol=1e-4, atol=1e-6)
    page = report(tmp_path / "imported", tmp_path / "page.html")
    assert "earlier version" not in page.read_text()
    assert "An imported set is kept whole" in page.read_text()
    data = page_data(page)
    assert len(data["examples"]) == len(images)
    assert all(len(base64.b64decode(rule["values"])) == 4 * len(images) for rule in data["rules"])


def test_no_tile_no_section(tmp_path: Path) -> None:
    prepare(tmp_path / "empty", ShardParams(), rebuild=False)
    page = report(tmp_path / "empty", tmp_path / "page.html").read_text()
    assert "qc-data" not in page
    assert "#quality" not in page


def test_what_was_dropped_altogether_can_come_back(archive: Path, tmp_path: Path) -> None:
    root = make(archive, tmp_path / "d", QcParams(min_focus=1e9), stain=StainParams("none"))
    page = report(root, tmp_path / "page.html")
    text = page.read_text()
    assert "no tile kept: the quality filters dropped all 60 tiles of tissue" in text
    assert "Of all 76 tiles." in text
    data = page_data(page)
    assert data["rules"][0]["stops"][data["rules"][0]["now"]] == 1e9
    assert len(data["examples"]) > 20


def test_reasons_are_counted_on_the_page(made: Path, tmp_path: Path) -> None:
    text = " ".join(report(made, tmp_path / "page.html").read_text().split())
    assert "dropped: pen marks (--max-pen) 6" in " ".join(re.sub(r"<[^>]*>", " ", text).split())
    assert "A tile is dropped for more than 20 % pen (--max-pen), or less than 60 % of its pixels" in text


@contextmanager
def opened(path: Path, width: int = 1200) -> Iterator[Any]:
    """A page in Chromium; fails if it complains or asks for anything but itself."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url[:100]))
        page.goto(path.resolve().as_uri(), wait_until="load")
        yield page
        browser.close()
    assert problems == []


def drag(page: Any, figure: str, value: float) -> None:
    """Move a slider to a threshold, as the pointer would."""
    page.evaluate(
        """([figure, value]) => {
          const data = JSON.parse(document.getElementById("qc-data").textContent);
          const stops = data.rules.find(rule => rule.figure === figure).stops;
          const input = document.getElementById("qc-" + figure);
          input.value = stops.indexOf(value);
          input.dispatchEvent(new Event("input"));
        }""",
        [figure, value],
    )
    page.wait_for_timeout(60)  # the page draws once a frame


def counts(page: Any) -> dict[str, int]:
    rows = page.locator("#qc-reasons .row").all()
    found = {row.locator("span").first.inner_text(): row.locator(".value").inner_text() for row in rows}
    return {name: int(text.split()[0].replace(",", "")) for name, text in found.items()}


@pytest.mark.browser
def test_dragging_a_threshold_shows_which_tiles_stay(made: Path, tmp_path: Path) -> None:
    with opened(report(made, tmp_path / "page.html")) as page:
        assert counts(page) == {"blurred": 0, "white": 0, **expected(made, FILTERS)}
        assert page.inner_text("#qc-command") == "--max-pen 0.2 --min-hsv 0.6"
        drag(page, "focus", 56.0)
        drag(page, "white", 0.6)
        drag(page, "pen", 0.1)
        chosen = QcParams(min_focus=56, max_white=0.6, max_pen=0.1, min_hsv=0.6)
        assert counts(page) == expected(made, chosen)
        assert all(counts(page).values())
        assert page.inner_text("#qc-command") == "--min-focus 56 --max-pen 0.1 --max-white 0.6 --min-hsv 0.6"
        assert page.inner_text("#qc-total").startswith(
            f"{expected(made, chosen)['stay']} of 76 tiles would stay"
        )
        rows = [row.inner_text().split() for row in page.locator("#qc-slides tr").all()]
        assert [row[0] for row in rows] == ["flawed", "good"]  # the one that loses most comes first
        assert [int(row[2]) for row in rows] == [counts(page)["stay"] - 16, 16]
        captions = page.locator("#qc-out figcaption").all_inner_texts()
        assert {caption.split(":")[0] for caption in captions} == set(REASONS)
        assert page.locator("#qc-in figure").count() > 3
        page.click("#qc-off")
        assert counts(page)["stay"] == 76
        assert page.inner_text("#qc-command") == "no option: every tile stays"
        assert page.is_disabled("#qc-copy")
        assert "None of the examples" in page.inner_text("#qc-out")
        page.click("#qc-reset")
        assert counts(page)["stay"] == expected(made, FILTERS)["stay"]


@pytest.mark.browser
def test_thresholds_next_to_a_figure_count_as_in_the_run(archive: Path, tmp_path: Path) -> None:
    plain = make(archive, tmp_path / "plain", QcParams(), stain=StainParams("fit"))
    figures = everything(plain)[1].astype(np.float32)
    pen, hsv = (np.unique(figures[:, FIGURES.index(name)]) for name in ("pen", "hsv"))
    # the float just below a figure drops it, that figure itself does not: 16 bits would not tell them apart
    filters = QcParams(
        max_pen=float(np.nextafter(pen[-1], 0)), min_hsv=float(np.nextafter(hsv[len(hsv) // 2], 1))
    )
    root = make(archive, tmp_path / "d", filters, stain=StainParams("fit"))
    total: Counter[str] = Counter()
    for marker in Dataset(root).markers.values():
        total.update(marker.counts)
    with opened(report(root, tmp_path / "page.html")) as page:
        assert counts(page)["stay"] == total["kept"]
        assert (counts(page)["pen"], counts(page)["hsv"]) == (total["pen"], total["hsv"])


@pytest.mark.browser
def test_options_of_the_page_make_that_dataset(made: Path, archive: Path, tmp_path: Path) -> None:
    """What the page promises is what shard then does."""
    with opened(report(made, tmp_path / "page.html")) as page:
        drag(page, "hsv", 0.8)
        drag(page, "focus", 47.0)
        promised, words = counts(page), page.inner_text("#qc-command").split()
    options = {words[i][2:].replace("-", "_"): float(words[i + 1]) for i in range(0, len(words), 2)}
    again = make(archive, tmp_path / "again", QcParams(**options), stain=StainParams("none"))
    total: Counter[str] = Counter()
    for marker in Dataset(again).markers.values():
        total.update(marker.counts)
    assert {name: total["kept" if name == "stay" else name] for name in promised} == promised


@pytest.mark.browser
def test_sliders_follow_the_keyboard(made: Path, tmp_path: Path) -> None:
    with opened(report(made, tmp_path / "page.html"), width=390) as page:
        page.focus("#qc-hsv")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
        assert page.inner_text("#qc-hsv-value") == "at least 0.62"
        assert page.get_attribute("#qc-hsv", "aria-valuetext") == "at least 0.62"
        page.keyboard.press("Home")
        page.wait_for_timeout(60)
        assert page.inner_text("#qc-command") == "--max-pen 0.2"
        page.focus("#qc-copy")
        page.keyboard.press("Enter")
        page.wait_for_timeout(60)
        assert page.inner_text("#qc-copy") in ("Copied", "Selected: copy it with the keyboard")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_baked_dataset_in_a_browser(archive: Path, tmp_path: Path, width: int, dark: bool) -> None:
    root = make(archive, tmp_path / "d", QcParams())
    result = check_page(report(root, tmp_path / "page.html"), width, None, dark)
    assert (result.errors, result.external, result.broken, result.without_alt) == ([], [], [], 0)
    assert result.overflow == 0
    assert "No tile was dropped for its quality." in result.text
    assert "76 of 76 tiles would stay" in result.text
