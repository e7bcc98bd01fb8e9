"""Every page, with names in it that are programs: none runs, none breaks the page, none turns it around."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import check_page
from helpers.featured import key_bags, write_features
from helpers.toys import labelled_folder, noise, write_dataset, write_run
from typer.testing import CliRunner

import pathprep
from pathprep.errors import OutsideError, UsageError
from pathprep.page.environment import write
from pathtrain.cli import evaluations
from pathtrain.evaluate.slide_level.benchmark import Attention, evaluate
from pathtrain.evaluate.slide_level.figures import Heatmap, charts
from pathtrain.evaluate.slide_level.page import page as slides_page
from pathtrain.evaluate.slide_level.tasks import Missing, Task
from pathtrain.features.bags import Bags
from pathtrain.params.slide_level import SlidesConfig
from pathtrain.reports import lr_range
from pathtrain.reports.compare import compare
from pathtrain.reports.page import report
from pathtrain.training import lr_curve
from pathtrain.training.lr_range import LrRange

pytestmark = pytest.mark.browser

SCRIPT = "</script><script>window.hit=1</script>"
IMAGE = "\"><img src=x onerror=window.hit=1>'"
LINK = "javascript:window.hit=1"
ODD = "{{7*7}}\u2028\u202eturned\ud800 \udcff\x1b[31m"
EVIL = f"{SCRIPT}{IMAGE} {LINK} {ODD}"
LONG = f"{EVIL}{'long' * 25_000}"
# of folders, and of slides, whose names in a dataset are of ASCII
FOLDER = "{{7*7}}\u2028\u202e\udcff %41#?"
NAMES = ("<img src=x onerror=window.hit=1>", '"><svg onload=window.hit=1>', "{{7*7}} %41#?")


def harmless(page: Path, *texts: str) -> None:
    """Whether a page is whole, wide and narrow, and shows these texts as they are written."""
    for width in (1200, 390):
        found = check_page(page, width, None)
        assert (found.hit, found.errors, found.external, found.broken) == (False, [], [], [])
        assert (found.overflow, found.without_alt) == (0, 0)
        assert all(link.startswith((page.resolve().as_uri(), "#")) for link in found.links)
        assert not set("\u202e\u2028\x1b") & set(found.text)
        for text in texts:
            assert text in found.text
        assert "{{7*7}}" in found.text
        assert len(found.text) < 400_000


def everywhere(value: Any, keep: Iterable[str]) -> Any:
    """A result whose every text is hostile, but for those under the keys to ``keep``."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, list):
        return [everywhere(each, keep) for each in value]
    if isinstance(value, dict):
        return {key: each if key in keep else everywhere(each, keep) for key, each in value.items()}
    return value


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {name: noise(6, side=48, seed=seed) for seed, name in enumerate(NAMES)}
    return write_dataset(tmp_path / FOLDER, slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / NAMES[1], dataset)


def test_imported_tiles(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "tiles", {"g0": "p", "g1": "b"}, each=2)
    lines = ["file,label,group"]
    for number, text in enumerate((SCRIPT + IMAGE, "{{7*7}}\u202e" + LINK)):
        quoted = text.replace('"', '""')
        lines += [f'g{number}-{each}.png,"{quoted}","{quoted}"' for each in (0, 1)]
    (folder / "labels.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    pathprep.import_tiles(folder, out, name=NAMES[1])
    harmless(Path(pathprep.report(out)), SCRIPT, LINK)


def test_run_and_compare(run: Path, dataset: Path, tmp_path: Path) -> None:
    texts = (SCRIPT + IMAGE, ODD.split("\ud800")[0] + LINK, "c")
    rows = ["slide,label"]
    labels = tmp_path / "labels.csv"
    for name, text in zip(NAMES, texts, strict=True):
        rows.append(",".join('"' + each.replace('"', '""') + '"' for each in (name, text)))
    labels.write_bytes("\n".join(rows).encode("utf-8", "surrogateescape"))
    given = ("knn", run, "--train", dataset, "--labels", labels, "--k", 3)
    done = CliRunner().invoke(evaluations, [str(each) for each in given])
    assert done.exit_code == 0, done.output
    logged = (run / "log.jsonl").read_text().splitlines()
    more = {EVIL: 1.0, LONG: 2.0, f"knn_{EVIL}_accuracy": 0.5, "loss": 10**400}
    line = json.dumps({**json.loads(logged[-1]), **more})
    (run / "log.jsonl").write_text("\n".join([*logged, line, line, "{"]) + "\n{\n")
    info = json.loads((run / "run.json").read_text())
    info |= {"dataset": f"/{EVIL}/{LONG}", "versions": {EVIL: LONG, "torch": EVIL}}
    info["identity"] |= {"dataset build id": EVIL, "held-out slides": [LONG]}
    other = write_run(tmp_path / f"other {FOLDER}", dataset, seed=1)
    (run / "run.json").write_text(json.dumps(info))
    harmless(report(run), NAMES[1], SCRIPT, IMAGE, LINK, "more characters)", "kNN accuracy")
    compare([run, other], tmp_path / "compare.html")
    harmless(tmp_path / "compare.html", NAMES[1], SCRIPT, IMAGE, LINK, "more characters)")


def test_results_of_others(run: Path, dataset: Path, tmp_path: Path) -> None:
    """Results may be files that somebody else sent: each text in them is theirs."""
    given = ("collapse", run, dataset, "--k", 3)
    done = CliRunner().invoke(evaluations, [str(each) for each in given])
    assert done.exit_code == 0, done.output
    path = run / "evaluation" / "collapse.json"
    made = json.loads(path.read_text())
    result = everywhere(made, ("task", "file", "stain"))
    result["slides"] = {f"{EVIL} {name}": row for name, row in made["slides"].items()}
    path.write_text(json.dumps(result))
    harmless(report(run), SCRIPT, IMAGE, LINK)


@pytest.mark.parametrize("name", ["/etc/hostname", "../../secret.png"])
def test_no_other_file_gets_into_a_page(run: Path, name: str) -> None:
    (run.parent / "secret.png").write_bytes(b"secret")
    value = {"task": "collapse", "model": {"name": "a", "step": 1}, "tsne": {"file": name, "tiles": 1}}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "collapse.json").write_text(json.dumps(value))
    with pytest.raises(OutsideError, match="does not name a file in"):
        report(run)


def test_a_result_of_the_wrong_kind_is_one_sentence(run: Path) -> None:
    value = {"task": "collapse", "model": {"name": "a", "step": 1}, "k": [], "own_share": "much"}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "collapse.json").write_text(json.dumps(value))
    with pytest.raises(UsageError, match=r"collapse.json: of another version"):
        report(run)


def test_lr_range(tmp_path: Path) -> None:
    rates = [10 ** (-6 + n / 10) for n in range(40)]
    ys = [2 + math.cos(n / 12) for n in range(40)]
    reading = lr_curve.read(rates, ys, [2.0] * 40)
    found = LrRange(rates, ys, [0.0] * 40, [2.0] * 40, ys, reading, None, 1e-3, 8, [EVIL, LONG])
    write(lr_range.page(found, EVIL, LONG), tmp_path / "lr.html")
    harmless(tmp_path / "lr.html", SCRIPT, IMAGE, LINK, "more characters)")


def test_slide_level(tmp_path: Path) -> None:
    bags, _ = key_bags(8)
    features = write_features(tmp_path / FOLDER, {f"{NAMES[n % 2]}{n}": bag for n, bag in enumerate(bags)})
    opened = Bags.open(features)
    names = list(opened.counts)
    parts = ["train"] * 4 + ["test"] * 4
    numbers = np.arange(8)
    task = Task(EVIL, names, [SCRIPT, IMAGE], numbers % 2, names, numbers, parts, False, [])
    result = evaluate([opened], [task, Missing(LONG, LONG)], SlidesConfig(methods=["linear"], seeds=1)).result
    one = Attention(features.name, EVIL, LONG, NAMES[0], SCRIPT, IMAGE, 0.5, np.ones(1, np.float32))
    picture = charts(result)["bars"]
    write(slides_page(result, {EVIL: picture}, [Heatmap(one, picture, picture)]), tmp_path / "slides.html")
    harmless(tmp_path / "slides.html", SCRIPT, IMAGE, LINK, "more characters)", NAMES[0])
