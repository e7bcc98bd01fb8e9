"""The viewer in a real browser: what is drawn, what a reader can change, and that nothing leaves."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.scored import grid, write_csv, write_parquet
from helpers.slides import tissue, write_tiff
from helpers.viewed import Visit, visit

from pathprep.viewing.view import serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("s") / "one.tif", tissue(1536, 2048, margin=256), levels=3)


@pytest.fixture(scope="module")
def url(slide: Path) -> Iterator[str]:
    rows = [{**row, "cluster": f"cluster {i % 3}"} for i, row in enumerate(grid(16, 12, 128))]
    scores = write_csv(slide.parent / "s.csv", rows)
    with serving(slide, scores=scores, tile=128) as found:
        yield found


def check_quiet(made: Visit, url: str) -> None:
    """No error, and no request but to the viewer itself."""
    assert made.errors == []
    asked = {urlsplit(each).netloc for each in made.asked if not each.startswith(("data:", "blob:"))}
    assert asked == {urlsplit(url).netloc}


@pytest.mark.parametrize(("width", "dark"), [(1280, False), pytest.param(390, True, marks=pytest.mark.slow)])
def test_page(url: str, width: int, dark: bool) -> None:
    with visit(url, width, dark=dark) as made:
        page = made.page
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0
        assert page.inner_text("h1") == "one"
        text = page.inner_text("#panel")
        assert "2,048 \N{MULTIPLICATION SIGN} 1,536 px, 0.5 µm a pixel" in text
        assert "1.0 \N{MULTIPLICATION SIGN} 0.8 mm" in text
        assert "µm" in page.inner_text("#scale")
        assert any("slide_files/" in each for each in made.asked)
        assert made.painted("scores-canvas") > 10_000
        assert made.painted("lines-canvas") > 500
        check_quiet(made, url)


def test_thresholds_change_what_is_drawn(url: str) -> None:
    with visit(url) as made:
        page, everything = made.page, made.painted("scores-canvas")
        assert page.inner_text("#shown") == "192 of 192 tiles are shown"
        made.slide("low", 500)
        assert page.inner_text("#shown") == "96 of 192 tiles are shown"
        assert made.painted("scores-canvas") == pytest.approx(everything / 2, rel=0.02)
        made.slide("high", 400)  # takes the lower one with it
        assert page.input_value("#low") == "400"
        made.slide("low", 0)
        made.slide("high", 1000)
        assert made.painted("scores-canvas") == everything
        page.keyboard.press("s")
        made.settle()
        assert made.painted("scores-canvas") == 0
        page.keyboard.press("s")
        made.slide("opacity", 20)
        assert page.evaluate("document.getElementById('scores-canvas').style.opacity") == "0.2"
        check_quiet(made, url)


@pytest.mark.slow
def test_classes_are_turned_off_one_by_one(url: str) -> None:
    with visit(url) as made:
        page = made.page
        page.select_option("#column", label="cluster")
        made.settle()
        everything = made.painted("scores-canvas")
        assert page.inner_text("#classes").split() == [
            "cluster",
            "0",
            "64",
            "cluster",
            "1",
            "64",
            "cluster",
            "2",
            "64",
        ]
        page.click("#classes li:first-child input")
        made.settle()
        assert made.painted("scores-canvas") == pytest.approx(everything * 2 / 3, rel=0.02)
        assert page.inner_text("#shown") == "128 of 192 tiles are shown"


@pytest.mark.slow
def test_zoom_keeps_scores_on_their_tiles(url: str) -> None:
    with visit(url) as made:
        page = made.page
        place = "() => document.getElementById('where').textContent"
        made.slide("low", 990)  # the last tile alone: at 1920, 1408
        for _ in range(3):
            page.keyboard.press("+")
        made.settle()
        page.keyboard.press("0")
        made.settle()
        box = page.evaluate(
            "() => { const c = document.getElementById('scores-canvas'), w = c.width; "
            "const d = c.getContext('2d').getImageData(0, 0, w, c.height).data; let x = 1e9, y = 1e9; "
            "for (let i = 3; i < d.length; i += 4) if (d[i]) { const p = (i - 3) / 4; "
            "x = Math.min(x, p % w); y = Math.min(y, Math.floor(p / w)); } return [x, y]; }"
        )
        page.mouse.move(box[0] + 2, box[1] + 2)
        page.wait_for_timeout(200)
        x, y = (int(part.replace(",", "")) for part in page.evaluate(place).split(" px")[0].split(", "))
        assert abs(x - 1920) < 16
        assert abs(y - 1408) < 16
        assert page.evaluate("() => !document.getElementById('tip').hidden")
        assert "0.9948" in page.inner_text("#tip")
        check_quiet(made, url)


@pytest.mark.slow
def test_hover_tells_of_the_tile_and_why_there_is_none(url: str) -> None:
    with visit(url) as made:
        page = made.page
        page.keyboard.press("g")
        made.settle()
        assert made.painted("lines-canvas") > 5_000
        page.mouse.move(480, 400)
        page.wait_for_selector("#tip:has-text('focus')", timeout=20_000)  # measured when asked for
        tip = page.inner_text("#tip")
        assert "Tile" in tip
        assert "tissue" in tip
        assert "too little tissue" in page.inner_text("#states")
        check_quiet(made, url)


def test_names_that_html_would_obey(tmp_path: Path, slide: Path) -> None:
    hostile = "<img src=x onerror=window.hit=1><script>window.hit=1</script>\u202e"
    other = tmp_path / "<script>window.hit=1<&script>'\".tif"
    shutil.copyfile(slide, other)
    rows = [{**row, hostile: row["score"], "class": hostile} for row in grid(4, 4, 128)]
    with (
        serving(other, scores=write_parquet(tmp_path / "s.parquet", rows), tile=128) as url,
        visit(url) as made,
    ):
        page = made.page
        for number in range(3):
            page.select_option("#column", str(number))
        page.mouse.move(300, 300)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit === undefined")
        assert page.evaluate("document.querySelectorAll('img, #panel script').length") == 0
        assert "<script>window.hit=1<&script>" in page.inner_text("h1")
        assert "<img src=x" in page.inner_text("#classes")
        check_quiet(made, url)


@pytest.mark.slow
def test_a_viewer_that_has_ended_is_said(slide: Path) -> None:
    with serving(slide, tile=128) as url:
        context = visit(url)
        made = context.__enter__()
    try:
        for _ in range(6):
            made.page.keyboard.press("+")
        made.page.wait_for_selector("#problems:has-text('has ended')", timeout=20_000)
    finally:
        context.__exit__(None, None, None)
