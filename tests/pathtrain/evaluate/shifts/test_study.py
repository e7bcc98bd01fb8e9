"""`pathtrain evaluate robustness`: where columns come from, what is left out, rows, bad input, files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import BLUE, PINK, noise, write_dataset, write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate import robustness
from pathtrain.evaluate.shifts.study import robustness_scored

QUICK = {
    "drop_steps": 3,
    "drop_repeats": 2,
    "cluster_repeats": 2,
    "most_clusters": 3,
    "random_seeds": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and a folder: two classes by their colour at two scanners, 12 patients each."""
    root = tmp_path_factory.mktemp("robust")
    folder = root / "tiles"
    folder.mkdir()
    rows = ["file,label,group,scanner"]
    for patient in range(24):
        for number, label in enumerate(("a", "b")):
            for each, tile in enumerate(noise(2, colour=(PINK, BLUE)[number], seed=100 * patient + number)):
                name = f"p{patient}-{label}-{each}.png"
                Image.fromarray(tile).save(folder / name)
                rows.append(f"{name},{label},p{patient},s{patient % 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return write_run(root / "run", folder), folder


def test_all_measures_have_figures_intervals_leads_and_sentences(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    run, folder = made
    found = robustness_scored(run, folder, "scanner", out=tmp_path / "out", picture="pca", **QUICK)
    result = found.result
    json.dumps(result)
    first = result["results"][0]
    assert [row["name"] for row in result["results"]] == ["model", "start", "random", "colour", "colour+LBP"]
    assert result["left_out"] == {}
    assert result["cells"] == [[24, 24], [24, 24]]
    told = [f"{what}_{how}" for what in ("label", "column") for how in ("knn", "linear")]
    margins = ("mari", "croma", "tail", "fragile")
    for key in (
        "index",
        *margins,
        "drop",
        "own_share",
        "excess",
        "silhouette_label",
        "silhouette_column",
        *told,
    ):
        low, high = first[f"{key}_interval"]
        assert low <= first[key] <= high
        assert key in result["results"][3]["lead"]
        assert (
            found.units["model", key].figure(np.ones((1, len(found.units["model", key].groups))))[0]
            == first[key]
        )
    assert first["clusters_interval"] is None  # one subset
    # colour knows the class and nothing of the scanner
    colour = result["results"][3]
    assert colour["index"] > 0.95
    assert colour["clusters"] > 0.9
    assert colour["label_knn"] == 1
    assert abs(colour["drop"]) < 0.05
    assert any("share the class more often than the scanner" in line for line in result["sentences"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"robustness.png", "performance-drop.png"}


def test_the_figures_are_near_those_under_autocast(made: tuple[Path, Path]) -> None:
    run, folder = made
    settings = {"measures": "index,share", "baselines": "none", "threads": 1}
    plain = robustness(run, folder, "scanner", **settings)["results"][0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = robustness(run, folder, "scanner", precision="float32", k=plain["index_k"], **settings)[
            "results"
        ][0]
    assert cast["index"] == pytest.approx(plain["index"], abs=1e-9)
    assert cast["own_share"] == pytest.approx(plain["own_share"], abs=1e-9)


def test_the_command_shows_and_writes(made: tuple[Path, Path], tmp_path: Path) -> None:
    run, folder = made
    options = [
        "--by",
        "scanner",
        "--measures",
        "index,margin,share",
        "--baselines",
        "colour",
        "--picture",
        "pca",
    ]
    shown = CliRunner().invoke(
        app, ["robustness", str(run), str(folder), *options, "--out", str(tmp_path / "x")]
    )
    assert shown.exit_code == 0, shown.output
    assert "robustness index" in shown.output
    assert "by chance" in shown.output
    assert json.loads((tmp_path / "x" / "robustness.json").read_text())["by"] == "scanner"


def test_a_folder_without_labels_has_what_needs_none(made: tuple[Path, Path], tmp_path: Path) -> None:
    run, folder = made
    (tmp_path / "plain").mkdir()
    rows = (folder / "labels.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    (tmp_path / "plain" / "labels.csv").write_text("\n".join(f"{c[0]},{c[2]},{c[3]}" for c in cells))
    for c in cells[1:]:
        (tmp_path / "plain" / c[0]).symlink_to(folder / c[0])
    result = robustness(run, tmp_path / "plain", "scanner", baselines="none", **QUICK)
    assert result["measures"] == ["silhouette", "share", "column"]
    assert set(result["left_out"]) == {"index", "margin", "drop", "clusters"}
    with pytest.raises(UsageError, match="plain: no index: the tiles have no labels; give `labels`"):
        robustness(run, tmp_path / "plain", "scanner", measures="index")


def test_a_column_of_patients_leaves_out_a_tile_alone_and_says_so(made: tuple[Path, Path]) -> None:
    run, folder = made
    result = robustness(run, folder, "group", measures="index,share", baselines="none")
    assert result["apart"] == "tile"
    assert "is what the tiles are grouped by" in result["notes"][0]
    assert result["results"][0]["share_chance"] == pytest.approx(3 / 95)
    with pytest.raises(UsageError, match="no column: no group is in two groups; give `group`"):
        robustness(run, folder, "group", measures="column", baselines="none")


def test_patients_of_one_class_each_have_no_index_but_a_share_within_the_class(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    def change(row: list[str]) -> list[str]:
        return [row[0], row[1], f"{row[2]}-{row[1]}", row[3]]

    folder = edited(made[1], tmp_path, change)
    result = robustness(made[0], folder, "group", baselines="none")
    assert set(result["left_out"]) == {"index", "margin", "drop", "clusters", "column"}
    assert "go together in every tile" in result["left_out"]["index"]
    assert "excess_within" in result["results"][0]


def test_values_of_one_group_each_have_nothing_of_neighbours(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Scanners that never share a group: neighbours of other groups could not share the scanner."""

    def change(row: list[str]) -> list[str]:
        patient = int(row[2][1:])
        return [row[0], row[1], f"h{patient % 2}", f"s{patient % 4}"]

    folder = edited(made[1], tmp_path, change)
    settings = {"baselines": "none", **QUICK}
    result = robustness(made[0], folder, "scanner", measures="all", **settings)
    assert {"index", "margin", "share", "column"} <= set(result["left_out"])
    assert result["left_out"]["index"].startswith("every scanner is in one group alone")
    assert "index" not in result["results"][0]
    with pytest.raises(UsageError, match="no share: every scanner is in one group alone"):
        robustness(made[0], folder, "scanner", measures="share", **settings)


def test_a_value_of_one_group_is_named(made: tuple[Path, Path], tmp_path: Path) -> None:
    def change(row: list[str]) -> list[str]:
        return [*row[:3], "s9" if row[2] == "p0" else row[3]]

    result = robustness(
        made[0],
        edited(made[1], tmp_path, change),
        "scanner",
        measures="index",
        random_seeds=2,
        baselines="random",
    )
    assert any(note.startswith("s9: in one group alone") for note in result["notes"])
    random = result["results"][1]
    low, high = random["index_range"]
    assert low <= random["index"] <= high
    assert "index_range" not in result["results"][0]


def test_columns_come_from_a_table_of_slides_and_from_names(made: tuple[Path, Path], tmp_path: Path) -> None:
    run, folder = made
    dataset = write_dataset(
        tmp_path / "dataset",
        {f"s{number}": noise(6, colour=(PINK, BLUE)[number % 2], seed=number) for number in range(8)},
    )
    (tmp_path / "slides.csv").write_text(
        "slide,scanner,label\n" + "\n".join(f"s{n},{'xy'[n // 4]},{'ab'[n % 2]}" for n in range(8))
    )
    settings = {"measures": "index", "baselines": "none", "k": 3}
    result = robustness(
        run, dataset, "Scanner", columns=tmp_path / "slides.csv", labels=tmp_path / "slides.csv", **settings
    )
    assert result["values"] == ["x", "y"]
    assert result["groups"] == 8
    assert result["group_kind"] == "slide"
    named = robustness(run, folder, "odd", names=r"p\d*(?P<odd>\d)-", **settings)
    assert named["values"] == [str(n) for n in range(10)]
    with pytest.raises(UsageError, match=r"48 of 96 names do not fit `names` .*-b"):
        robustness(run, folder, "odd", names=r"p(?P<odd>\d*)-b", **settings)
    with pytest.raises(UsageError, match="has no named group"):
        robustness(run, folder, "odd", names=r"p\d", **settings)


def edited(folder: Path, tmp_path: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """The folder with other rows."""
    made = tmp_path / "edited"
    made.mkdir()
    for file in folder.glob("*.png"):
        (made / file.name).symlink_to(file)
    head, *rows = [row.split(",") for row in (folder / "labels.csv").read_text().splitlines()]
    (made / "labels.csv").write_text("\n".join(",".join(row) for row in [head, *map(change, rows)]))
    return made


@pytest.mark.parametrize(
    ("change", "by", "said"),
    [
        (
            lambda row: row,
            "centre",
            "nothing says the column 'centre' of its tiles: .* has file, label, group, scanner",
        ),
        (lambda row: [*row[:3], "s0"], "scanner", "all 96 tiles have the scanner s0; two values are needed"),
        (
            lambda row: [row[0], row[1], row[2], f"s-{row[1]}"],
            "scanner",
            r"go together in every tile \(Cramer's V 1\)",
        ),
        (lambda row: row, "label", "go together in every tile"),
        (lambda row: [*row[:3], "NA"], "scanner", "no tile has both a label and a value of scanner"),
        (lambda row: [row[0], "a", *row[2:]], "scanner", "one class only"),
    ],
)
def test_bad_columns_say_the_file_and_what_to_do(
    made: tuple[Path, Path], tmp_path: Path, change: Callable[[list[str]], list[str]], by: str, said: str
) -> None:
    folder = edited(made[1], tmp_path, change)
    with pytest.raises(UsageError, match=said) as raised:
        robustness(made[0], folder, by, measures="index", baselines="none")
    assert str(folder) in str(raised.value)


def test_tiles_without_a_value_are_left_out_and_lonely_classes_are_named(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    def change(row: list[str]) -> list[str]:
        if row[2] == "p1":
            return [*row[:3], "nan"]
        return [row[0], "c", *row[2:]] if row[2] == "p0" else row

    result = robustness(
        made[0], edited(made[1], tmp_path, change), "scanner", measures="index,drop", baselines="none", **{
            key: value for key, value in QUICK.items() if key != "random_seeds"
        }
    )  # fmt: skip
    assert result["tiles"] == 92
    assert any(line.startswith("c: at one value of scanner alone") for line in result["notes"])
    assert result["drop"]["classes"] == ["a", "b"]


def plism(path: Path) -> Path:
    """As owkin/plism-dataset: slides by stain and scanner, tiles by their places; of four places each."""
    path.mkdir()
    rows = ["file"]
    tiles = noise(4, seed=5)
    for stain in ("GIV", "HRH"):
        for number, scanner in enumerate(("AT2", "S60")):
            for place, tile in enumerate(tiles):
                name = f"{stain}_{scanner}_to_GMH_S60_{place}_{place}.png"
                shifted = np.clip(tile.astype(int) + 12 * number + (9 if stain == "HRH" else 0), 0, 255)
                Image.fromarray(shifted.astype(np.uint8)).save(path / name)
                rows.append(name)
    (path / "labels.csv").write_text("\n".join(rows))
    return path


def test_copies_of_plisms_names(made: tuple[Path, Path], tmp_path: Path) -> None:
    folder = plism(tmp_path / "plism")
    result = robustness(
        made[0],
        folder,
        "scanner,stain",
        same="tile",
        names="plism",
        measures="copies,share",
        baselines="colour",
    )
    row = result["results"][0]
    assert result["copies"] == {
        "columns": ["scanner", "stain"], "slides": ["AT2 GIV", "AT2 HRH", "S60 GIV", "S60 HRH"], "tiles": 4,
    }  # fmt: skip
    assert result["values"] == ["AT2", "S60"]
    assert result["group_kind"] == "tile"
    assert row["top10_all"] == 1  # of 7 others
    assert 0 < row["leaderboard"] <= 1
    assert row["pairs"] == 6
    with pytest.raises(UsageError, match="give one column; two, scanner and stain, with `same` alone"):
        robustness(made[0], folder, "scanner,stain", names="plism")
    with pytest.raises(UsageError, match="no copies: give `same`"):
        robustness(made[0], folder, "scanner", names="plism", measures="copies")
