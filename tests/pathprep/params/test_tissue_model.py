"""Descriptions of tissue models, and what an ONNX file says of itself without being run."""

import random
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from helpers.onnx_models import DESCRIPTION, write

from pathprep.errors import UsageError
from pathprep.params import onnx_file
from pathprep.params.shard import ShardParams
from pathprep.params.tissue import TissueParams
from pathprep.params.tissue_model import TissueModel, described, read
from pathprep.sharding.recorded import recorded


def test_a_description_beside_the_model_wins_over_its_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", None, metadata={"pathprep": DESCRIPTION.replace("mpp: 8", "mpp: 4")})
    assert read(path).mpp == 4
    path.with_suffix(".yaml").write_text(DESCRIPTION)
    model = read(path)
    assert (model.mpp, model.size, model.classes) == (8, 64, ("background", "tissue", "pen"))
    assert model.columns == ("pen",)
    assert TissueModel.recorded(model.as_dict()) == model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mpp: 8", "`size` is missing"),
        (DESCRIPTION + "stride: 3\n", "`stride`: no such key"),
        (DESCRIPTION.replace("8\n", "fine\n", 1), "`mpp` is 'fine'"),
        (DESCRIPTION.replace("overlap: 8", "overlap: 32"), "less than half"),
        (DESCRIPTION.replace("[background, tissue, pen]", "[background, Pen!]"), "small letters"),
        (DESCRIPTION + "tissue: [fat]\n", "must name some of `classes`"),
        (DESCRIPTION + "sd: [0, 1, 1]\n", "`sd` must be above 0"),
        (DESCRIPTION + "output: mask\n", "expected logits, probabilities, classes"),
        ("- a\n", "expected keys and values"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_description_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        described(text, "m.yaml", "0" * 64)


def test_a_model_without_description_or_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write m\.yaml beside it"):
        read(write(tmp_path / "m.onnx", None))
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x80" * 40)
    with pytest.raises(UsageError, match="not an ONNX model"):
        read(tmp_path / "bad.onnx")


def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.onnx", metadata={"pathprep": DESCRIPTION}).read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "d.onnx"
        path.write_bytes(data)
        with suppress(UsageError):
            onnx_file.read(path)


def test_the_hash_is_also_of_weights_outside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", outside=True)
    found = onnx_file.read(path)
    assert [each.name for each in found.files] == ["m.onnx", "m.onnx.data"]
    weights = tmp_path / "m.onnx.data"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    assert onnx_file.read(path).sha256 != found.sha256
    weights.unlink()
    with pytest.raises(UsageError, match=r"m\.onnx\.data, which is not beside it"):
        onnx_file.read(path)


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", outside=True)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="outside its folder"):
        onnx_file.read(path)


def test_the_model_is_part_of_the_build_id_and_its_place_is_not(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, other = write(tmp_path / "m.onnx"), write(tmp_path / "b" / "n.onnx")
    params = ShardParams.of(tissue_model=str(one), max_share="pen=0.1")
    assert params.as_dict() == ShardParams.of(tissue_model=other, max_share="pen=.1").as_dict()
    changed = write(tmp_path / "c.onnx", DESCRIPTION + "threshold: 0.4\n")
    assert params.as_dict() != ShardParams.of(tissue_model=changed, max_share="pen=0.1").as_dict()
    again = recorded(params.as_dict())
    assert again.tissue.described == params.tissue.described
    assert again.tissue.described is not None
    assert again.tissue.described.path is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_share": "pen=0.1"}, "none is given: `tissue_model`"),
        ({"max_share": "pen"}, "expected shares of classes"),
        ({"max_share": "pen=2"}, "expected shares of classes"),
        ({"tissue_device": "cuda"}, "give one"),
        ({"tissue_model": 3}, "expected a file"),
    ],
)
def test_settings_that_need_a_model(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ShardParams.of(**settings)


def test_classes_that_the_model_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names fold, of which the tissue model knows nothing \(pen\)"):
        ShardParams.of(tissue_model=write(tmp_path / "m.onnx"), max_share="fold=0.2,pen=0.1")
    assert TissueParams().shares == ()
