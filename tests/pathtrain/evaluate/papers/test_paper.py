"""The published rows: they add up to the means that the papers print, and name public encoders."""

from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathtrain.evaluate.papers import paper as papers
from pathtrain.evaluate.papers.paper import PAPERS, Paper, read
from pathtrain.models.backbone import build
from pathtrain.recipes.model import ModelConfig

# The column of means that each paper prints, of rows that have all figures
PRINTED = {
    "exaonepath1": [0.787, 0.793, 0.847, 0.813, 0.836, None, 0.871, 0.862, 0.861],
    "exaonepath2": [0.748, 0.765, 0.696, 0.707, 0.755, 0.731, 0.784],
    "midnight": [0.778, 0.776, 0.767, 0.766, 0.763, 0.757, 0.755, 0.752, 0.751, 0.749, 0.724, 0.718, 0.714,
                 0.674, 0.493],
    "robustness": [0.861, 0.852, 0.850, 0.815, 0.815, 0.812, 0.812, 0.757, 0.707, 0.663, 0.630, 0.602, 0.598,
                   0.596, 0.543, 0.512, 0.489, 0.476, 0.469, 0.446],
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_rows_add_up_to_the_printed_means(name: str) -> None:
    paper = read(name)
    for row, mean in zip(paper.rows, PRINTED[name], strict=True):
        figures = paper.published(row)
        if mean is None:
            assert len(figures) < len(paper.columns)
            continue
        # papers round what they print, so the mean of printed figures may be off by half a unit and a bit
        assert sum(figures.values()) / len(paper.columns) == pytest.approx(mean, abs=0.0011), row.name


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_is_whole(name: str) -> None:
    paper = read(name)
    assert paper.sources
    assert any(row.own for row in paper.rows) or name == "robustness"
    for row in paper.rows:
        assert row.parameters is None or row.parameters > 5e6


def test_parameters_are_those_of_the_network() -> None:
    row = next(row for row in read("exaonepath1").rows if row.own)
    backbone = build(ModelConfig(name="vit_base_patch16_224"))
    assert row.parameters == pytest.approx(sum(each.numel() for each in backbone.parameters()), rel=0.001)


def test_unknown_papers_and_rows_of_another_width_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="`paper` x: give exaonepath1, "):
        read("x")
    values = read("midnight").model_dump()
    values["rows"][0]["figures"] = values["rows"][0]["figures"][1:]
    with pytest.raises(ValueError, match="12 figures for 13 columns"):
        Paper.model_validate(values)
    (tmp_path / "midnight.yaml").write_text("title: x\n")
    monkeypatch.setattr(papers, "HERE", tmp_path)
    with pytest.raises(UsageError, match=r"midnight\.yaml: "):
        read.__wrapped__("midnight")
