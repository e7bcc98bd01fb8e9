"""A tissue model run over slides: its places, its edges, and what files of other makers look like."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.onnx_models import BIAS, DESCRIPTION, write
from helpers.slides import write_tiff
from onnx import TensorProto, helper

from pathprep.errors import UsageError
from pathprep.params.tissue import TissueParams
from pathprep.params.tissue_model import read
from pathprep.sharding.survey import look
from pathprep.slides import tissue, tissue_model
from pathprep.slides.slide import Slide

PINK, GREEN, GLASS = (210, 130, 190), (60, 150, 110), (242, 242, 242)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """300 x 260 px: glass, a piece of tissue at 40..200, 30..220, and a stroke of green ink."""
    pixels = np.full((300, 260, 3), GLASS, np.uint8)
    pixels[40:200, 30:220] = PINK
    pixels[220:240, 20:240] = GREEN
    return pixels


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> Path:
    """The picture at 8 um/px as a slide of 4 um/px."""
    large = np.kron(picture, np.ones((2, 2, 1), np.uint8))
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", large, mpp=4.0, levels=1)


def see(slide: Path, picture: np.ndarray, model: Path, scale: float = 8.0) -> tissue_model.Seen:
    with Slide(slide) as opened:
        return tissue_model.see(opened, picture, scale, 4.0, read(model))


def agrees(found: tissue_model.Seen, picture: np.ndarray, most: float = 0.01) -> None:
    """That tissue and pen are where they are, but for a few pixels of their edges."""
    for mask, colour in ((found.tissue, PINK), (found.classes == 2, GREEN)):
        assert (mask != (picture == colour).all(2)).mean() <= most


@pytest.mark.slow
def test_squares_join_without_a_seam(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    for size, overlap in ((64, 8), (32, 0), (512, 100), (16, 7)):
        text = DESCRIPTION.replace("size: 64", f"size: {size}").replace("overlap: 8", f"overlap: {overlap}")
        agrees(see(slide, picture, write(tmp_path / f"{size}.onnx", text)), picture, 0)


@pytest.mark.parametrize("mpp", [2.0, 4.0, 5.3, 12.0, 16.0])
def test_finer_and_coarser_models_find_it_in_its_place(
    tmp_path: Path, slide: Path, picture: np.ndarray, mpp: float
) -> None:
    model = write(tmp_path / "m.onnx", DESCRIPTION.replace("mpp: 8", f"mpp: {mpp}"))
    agrees(see(slide, picture, model), picture, 0.02)


def test_a_fixed_batch_and_size_are_run_as_they_are(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    """microsoft/onnxruntime#2468, #13184: a batch of 1 is fixed in the file, more are refused."""
    agrees(see(slide, picture, write(tmp_path / "m.onnx", shape=(1, 3, 64, 64))), picture, 0)
    with pytest.raises(UsageError, match="takes 128 pixels a side, `size` says 64"):
        see(slide, picture, write(tmp_path / "n.onnx", shape=(1, 3, 128, 128)))


def test_half_precision_gets_half_precision(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    """microsoft/onnxruntime#1173, ultralytics#20091: float given where the model takes float16."""
    agrees(see(slide, picture, write(tmp_path / "m.onnx", kind=TensorProto.FLOAT16)), picture, 0.002)


def test_threads_are_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """microsoft/onnxruntime#8313, #10736: else it pins threads to cores that a container or a job has not."""
    import onnxruntime

    seen = []
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda _path, options, providers: seen.append((options, providers))
    )
    model = read(write(tmp_path / "m.onnx"))
    assert model.path is not None
    tissue_model.session.__wrapped__(model.path, model.sha256, "cpu")
    [(options, providers)] = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert providers == ["CPUExecutionProvider"]


def _saved(
    path: Path, nodes: list[onnx.NodeProto], output: tuple[int, tuple[object, ...]], text: str
) -> Path:
    """A model that ends in other nodes than a convolution's logits."""
    model = onnx.load(write(path, text))
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("z", *output))
    path.write_bytes(model.SerializeToString())
    return path


def test_numbers_of_classes_and_probabilities(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    most = helper.make_node("ArgMax", ["y"], ["z"], axis=1, keepdims=0)
    path = _saved(
        tmp_path / "c.onnx", [most], (TensorProto.INT64, ("n", "p", "q")), DESCRIPTION + "output: classes\n"
    )
    agrees(see(slide, picture, path), picture, 0)
    soft = helper.make_node("Softmax", ["y"], ["z"], axis=1)
    text = DESCRIPTION + "output: probabilities\n"
    path = _saved(tmp_path / "p.onnx", [soft], (TensorProto.FLOAT, ("n", 3, "p", "q")), text)
    agrees(see(slide, picture, path), picture, 0)


def test_an_output_that_is_padded_or_coarser_keeps_its_place(
    tmp_path: Path, slide: Path, picture: np.ndarray
) -> None:
    pad = helper.make_node("Pad", ["y", "pads"], ["z"], mode="edge")
    path = _saved(tmp_path / "p.onnx", [pad], (TensorProto.FLOAT, ("n", 3, "p", "q")), DESCRIPTION)
    model = onnx.load(path)
    model.graph.initializer.append(
        helper.make_tensor("pads", TensorProto.INT64, (8,), [0, 0, 0, 0, 0, 0, 5, 3])
    )
    path.write_bytes(model.SerializeToString())
    agrees(see(slide, picture, path), picture, 0)
    pool = helper.make_node("AveragePool", ["y"], ["z"], kernel_shape=[4, 4], strides=[4, 4])
    path = _saved(tmp_path / "s.onnx", [pool], (TensorProto.FLOAT, ("n", 3, "p", "q")), DESCRIPTION)
    agrees(see(slide, picture, path), picture, 0.04)


def test_other_numbers_of_maps_are_refused(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    text = DESCRIPTION.replace(", pen", "")
    with pytest.raises(UsageError, match="gives 3 maps; `classes` names 2"):
        see(slide, picture, write(tmp_path / "m.onnx", text))


def test_a_model_that_was_changed_meanwhile_is_refused(
    tmp_path: Path, slide: Path, picture: np.ndarray
) -> None:
    model = read(write(tmp_path / "m.onnx"))
    write(tmp_path / "m.onnx", bias=BIAS + 1)
    with Slide(slide) as opened, pytest.raises(UsageError, match="was changed"):
        tissue_model.see(opened, picture, 8.0, 4.0, model)


def test_without_onnxruntime_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.onnx")
    model = read(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'pathprep\[onnx\]'"):
        tissue_model.session.__wrapped__(path, model.sha256, "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"needs ONNX Runtime: pip install 'pathprep\[onnx\]'"):
        TissueParams(model=path)


@pytest.mark.parametrize(
    ("name", "given"),
    [("tissue", {"method": "otsu"}), ("tissue_threshold", {"threshold": 20}), ("closing", {"closing": 4})],
)
def test_what_a_model_has_no_use_for_is_refused(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    """Not taken and left out of the build id without a word."""
    path = write(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=f"`{name}` is of the finder"):
        TissueParams(model=path, **given)
    params = TissueParams(model=path)
    assert TissueParams.recorded(params.as_dict()) == params


def test_a_mask_of_ones_own_wins_and_classes_stay(tmp_path: Path, slide: Path, picture: np.ndarray) -> None:
    params = TissueParams(model=write(tmp_path / "m.onnx"))
    mask = tmp_path / "mask.png"
    from PIL import Image

    Image.fromarray(np.where(np.arange(300)[:, None] < 150, 255, 0).astype(np.uint8).repeat(260, 1)).save(
        mask
    )
    with Slide(slide) as opened:
        plain, given = look(opened, 4.0, params), look(opened, 4.0, params, mask)
    assert plain.mask.mean() == pytest.approx((picture == PINK).all(2).mean(), abs=0.01)
    assert given.mask.mean() == pytest.approx(0.5, abs=0.01)
    for seen in (plain, given):
        assert list(seen.classes) == ["pen"]
        assert tissue.enlarged(seen.classes["pen"], (300, 260))[230, 100]
