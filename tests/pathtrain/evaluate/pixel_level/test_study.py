"""The whole evaluation on toys: figures, baselines, kept tokens, what weights are scored, and errors."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.segmented import consep_folder, discs, table_folder
from helpers.toys import write_run
from PIL import Image
from typer.testing import CliRunner

import pathtrain
from pathprep.errors import UsageError
from pathtrain import evaluate
from pathtrain.cli import app
from pathtrain.data.segmented.images import open_images
from pathtrain.data.segmented.numbering import numbered
from pathtrain.data.segmented.truth import Truth
from pathtrain.evaluate.pixel_level import study, tokens, training
from pathtrain.evaluate.pixel_level.decoder import Decoder
from pathtrain.evaluate.pixel_level.scoring import OF_OBJECTS, guess_of
from pathtrain.evaluate.pixel_level.windows import Box, Windows, cut, side_by_side, window
from pathtrain.params.segmentation import DecoderParams

FEW: dict[str, Any] = {"steps": 6, "decoder_batch": 4, "seeds": 1, "size": 32, "window": 64, "threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "run", folder / "gone")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "set"
    return table_folder(folder, "aabbcd", ["train", "train", "train", "train", "test", "test"])


def test_a_run_beside_its_baselines(run: Path, table: Path, tmp_path: Path) -> None:
    scored = study.segmentation_scored(run, table, out=tmp_path / "out", scratch=tmp_path / "scratch", **FEW)
    result = scored.result
    assert [row["name"] for row in result["results"]] == ["model", "start", "random", "colour"]
    assert result["classes"] == ["background", "1", "2"]
    assert result["images"] == {"train": 4, "test": 2}
    assert (result["groups"], result["group_kind"]) == (2, "group")
    first = result["results"][0]
    for key in ("dice", "dice_image", "iou", "pq", "bpq", "aji", "f1", "f1_iou"):
        assert 0 <= first[key] <= 1
        for row in result["results"]:
            units = scored.units[row["name"], key]
            assert float(units.figure(np.ones((1, 2)))[0]) == pytest.approx(row[key])
    # the toy's weights are those that it began with
    assert result["results"][1]["lead"]["dice"] == pytest.approx(0, abs=1e-12)
    # discs that do not touch are all found again where the classes are right
    assert result["objects"]["of_true_classes"] == pytest.approx(dict.fromkeys(OF_OBJECTS, 1), abs=1e-6)
    assert set(first["per_class"]["1"]) == {"dice", "iou", "pq", "f1"}
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert list((tmp_path / "scratch").rglob("*.npy")) == []  # windows and tokens are gone


def test_a_decoder_learns_what_its_colours_say(run: Path, table: Path) -> None:
    settings = FEW | {"steps": 50, "window": 64, "size": 32, "lr": 1e-2}
    result = evaluate.segmentation(run, table, baselines="colour", **settings)
    assert result["results"][0]["dice"] > 0.8
    assert result["results"][0]["f1"] > 0.8
    assert result["results"][1]["dice"] > 0.8


def test_means_over_seeds_and_random_networks(run: Path, table: Path) -> None:
    scored = study.segmentation_scored(
        run, table, baselines="random", **FEW | {"seeds": 2, "random_seeds": 2}
    )
    model, random = scored.result["results"]
    assert (len(model["dice_decoders"]), len(random["dice_decoders"])) == (2, 4)
    assert model["dice"] == pytest.approx(np.mean(model["dice_decoders"]))
    assert len(set(random["dice_decoders"])) == 4
    assert model["dice_seeds_interval"] is not None


def test_consep_is_cut_as_published(run: Path, tmp_path: Path) -> None:
    folder = consep_folder(tmp_path / "CoNSeP", train=2, test=1, side=500)
    result = evaluate.segmentation(run, folder, baselines="none", **FEW | {"window": None, "steps": 2})
    assert result["windows"] == {"train": 8, "test": 4}
    assert result["window"] == 250
    assert "windows of 250 px at 32 px, the last weights" in result["protocol"]
    assert result["classes"][1:] == ["other", "inflammatory", "epithelial", "spindle-shaped"]


def test_pannuke_is_scored_by_tissue(run: Path, tmp_path: Path) -> None:
    for fold in ("Fold 1", "Fold 2"):
        for kind in ("images", "masks"):
            (tmp_path / fold / kind / fold.lower().replace(" ", "")).mkdir(parents=True)
        images, masks = np.zeros((4, 64, 64, 3)), np.zeros((4, 64, 64, 6))
        for row in range(4):
            pixels, objects, classes = discs(64, row + 10 * (fold == "Fold 2"))
            images[row] = pixels
            for number in (1, 2):
                masks[row, ..., number - 1] = np.where(classes == number, objects, 0)
        place = tmp_path / fold / "images" / fold.lower().replace(" ", "")
        np.save(place / "images.npy", images)
        np.save(place / "types.npy", np.array(["Breast", "Breast", "Colon", "Colon"]))
        np.save(tmp_path / fold / "masks" / place.name / "masks.npy", masks)
    scored = study.segmentation_scored(run, tmp_path / "Fold 1", tmp_path / "Fold 2", baselines="none", **FEW)
    assert scored.result["classes"][1:3] == ["neoplastic", "inflammatory"]
    assert scored.result["preset"] == "Gamper et al. 2020"
    assert scored.units["model", "pq"].sums.shape == (4, 2)  # images, tissues
    assert scored.units["model", "aji"].sums.shape == (4, 1)
    with pytest.raises(UsageError, match="is in .* too"):
        evaluate.segmentation(run, tmp_path / "Fold 1", tmp_path / "Fold 1", **FEW)


def test_crops_are_kept_and_one_of_an_image_is_in_an_epoch(run: Path, table: Path) -> None:
    result = evaluate.segmentation(run, table, baselines="none", cut="crops", crops=5, **FEW)
    assert result["windows"] == {"train": 20, "test": 2}
    assert "tested on central squares" in result["protocol"]
    images = open_images(table, "train")
    boxes = [Box(0, 0, 64, 64)] * 20
    nothing = np.zeros((20, 1, 1, 3), np.uint8)
    windows = Windows(images, np.repeat(np.arange(4), 5), boxes, nothing, nothing[..., 0], None, drawn=True)
    order = list(training._order(windows, DecoderParams(steps=4, batch=3), 0))
    assert [len(rows) for _, rows, _ in order] == [3, 1, 3, 1]
    assert [epoch for epoch, _, _ in order] == [0, 0, 1, 1]
    for at in (0, 2):
        rows = np.concatenate([order[at][1], order[at + 1][1]])
        assert sorted(windows.image[rows]) == [0, 1, 2, 3]


def test_the_lr_falls_per_epoch_as_published(run: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    plain = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *given: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        assert self.param_groups[0]["weight_decay"] == 0.01
        return plain(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    evaluate.segmentation(run, table, baselines="none", **FEW | {"decoder_batch": 2})
    # two steps an epoch of six
    assert seen == pytest.approx([2e-3 * (1 - epoch / 6) ** 0.9 for epoch in (0, 0, 1, 1, 2, 2)])


def test_the_best_epoch_is_taken_where_it_is_asked_for(
    run: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.7, 0.3, 0.2, 0.1, 0.0])
    monkeypatch.setattr("pathtrain.evaluate.pixel_level.trials.published_dice", lambda *given: next(scores))
    result = evaluate.segmentation(run, table, baselines="none", select="test", **FEW)
    assert result["results"][0]["steps"] == [2]
    assert "optimistic" in result["protocol"]
    with pytest.raises(UsageError, match="`select` val: give the images"):
        evaluate.segmentation(run, table, select="val", **FEW)


def test_a_validation_set_selects_by_default(run: Path, tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "abcd", ["train", "train", "val", "test"])
    result = evaluate.segmentation(run, folder, val=folder, baselines="none", **FEW)
    assert result["images"] == {"train": 2, "test": 1, "val": 1}
    assert result["decoder"]["select"] == "val"


def test_kept_tokens_are_used_again_and_damaged_ones_made_again(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    plain = tokens._encode

    def counted(models: list[Any], *given: Any) -> None:
        made.append(len(models))
        plain(models, *given)

    monkeypatch.setattr(tokens, "_encode", counted)
    settings = FEW | {"baselines": "random", "cache": tmp_path / "cache", "steps": 2}

    def figures() -> list[float]:
        return [row["dice"] for row in evaluate.segmentation(run, table, **settings)["results"]]

    first = figures()
    assert made == [2, 2]  # the model and a random one, train and test
    assert figures() == first
    assert made == [2, 2]
    path = sorted((tmp_path / "cache" / "tokens").glob("*.npy"))[0]
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert figures() == first
    assert made == [2, 2, 1]
    settings["tokens"] = "float32"
    assert figures() == pytest.approx(first, abs=0.05)
    assert made == [2, 2, 1, 2, 2]


def test_tokens_are_the_models_own(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, Any]] = []
    plain: Callable[..., Any] = study.tokens_of

    def kept(models: Any, windows: Windows, *given: Any) -> Any:
        found = plain(models, windows, *given)
        seen.append((np.array(windows.pixels), [np.array(each) for each in found]))
        return found

    monkeypatch.setattr(study, "tokens_of", kept)
    evaluate.segmentation(run, table, baselines="none", tokens="float32", **FEW)
    pixels, (found,) = seen[0]
    expected = pathtrain.load(run, readout="patches")(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class ByPixel(torch.nn.Module):
    """A decoder that classes each pixel by its red alone."""

    def forward(self, images: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        return torch.stack([-images[:, 0], images[:, 0]], dim=1)


@pytest.mark.parametrize("overlap", [0, 16])
def test_windows_are_put_together_again(run: Path, table: Path, tmp_path: Path, overlap: int) -> None:
    (images,), classes = numbered([open_images(table, "test")], None, "1=cell,2=cell")
    boxes = [side_by_side(64, 64, 32, overlap) for _ in range(len(images))]
    windows = cut(images, boxes, 32, tmp_path)
    batches = training.Batches(windows, None, pathtrain.load(run), torch.device("cpu"))
    guess = guess_of(ByPixel(), batches, 1, len(classes), 3)  # type: ignore[arg-type]
    model = pathtrain.load(run)
    whole = model.normalised(torch.from_numpy(images.pixels(1)).permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_array_equal(guess.classes, whole[0, 0].numpy() > 0)
    assert len(guess.dice) == (9 if overlap else 4)


def test_windows_are_resized_as_published() -> None:
    pixels, objects, classes = discs(50)
    small, mask = window(pixels, Truth(classes.astype(np.uint8), objects), Box(0, 0, 50, 50), 32)
    pillow = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(small.astype(int) - pillow).max() <= 1  # Pillow's bilinear smooths as well
    nearest = (np.arange(32) * 50 / 32).astype(int)
    np.testing.assert_array_equal(mask, classes[nearest][:, nearest])
    same, _ = window(pixels, Truth(classes.astype(np.uint8), None), Box(5, 6, 32, 32), 32)
    np.testing.assert_array_equal(same, pixels[5:37, 6:38])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 30}, "must be a multiple of 16"),
        ({"readout": "cls"}, "segmentation takes the patch tokens"),
        ({"resize": 64}, "windows are cut by `window`"),
        ({"overlap": 64}, "must be below `window`"),
        ({"baselines": "lbp"}, "no tokens to segment by"),
        ({"classes": "1=cell"}, "has the class 2"),
        ({"decoder_batch": 1}, "at least 2"),
        ({"scratch": Path("/proc/none")}, "/proc/none"),
    ],
)
def test_settings_that_cannot_be(run: Path, table: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises((UsageError, OSError)) as told:
        evaluate.segmentation(run, table, **FEW | settings)
    assert says in str(told.value)


def test_the_time_is_told(run: Path, table: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        evaluate.segmentation(run, table, baselines="none", **FEW)
    assert "decoder 1 of 1 (model, seed 0): step 3 of 6" in caplog.text
    assert "left for all" in caplog.text
    assert "train: 4 images, 4 windows, 0 without an object" in caplog.text


def test_the_command_writes_its_result(run: Path, table: Path, tmp_path: Path) -> None:
    options = ["--steps", "3", "--seeds", "1", "--decoder-batch", "4", "--size", "32", "--window", "64"]
    words = [
        "evaluate",
        "segmentation",
        str(run),
        "--train",
        str(table),
        "--out",
        str(tmp_path / "out"),
        *options,
    ]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert "watershed" in found.output
    assert "--select test" in found.output
    assert (tmp_path / "out" / "segmentation.json").is_file()
    help_text = CliRunner().invoke(app, ["evaluate", "segmentation", "--help"]).output
    assert "--readout" not in help_text


def test_a_decoder_without_tokens_is_the_rgb_branch() -> None:
    assert Decoder(None, 3).tokens is None
    decoder = Decoder(None, 3).eval()
    images = torch.zeros(1, 3, 16, 16)
    other = images.clone()
    other[..., 8, 8] = 3
    moved = (decoder(images) - decoder(other)).abs().sum(1)[0] > 0
    rows, columns = torch.nonzero(moved, as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 10, 6, 10)
