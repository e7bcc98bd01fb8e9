"""Each augmentation of the graph against torchvision, PIL or the formula, given the same parameters.

Tolerances in grey levels (0 to 255), per operation; see the assertions.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torchvision.transforms import functional

from pathtrain.data import view_graph, view_numbers
from pathtrain.data.view_params import Drawn, View, views
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.stain.stage import Stage

SIDE = 96
SIZE = 64
Pixels = npt.NDArray[np.uint8]


def tissue(side: int = SIDE, seed: int = 0) -> Pixels:
    """Stained tissue, roughly: eosin pink with haematoxylin blobs and some background."""
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.normal(size=(side, side)), sigma) for sigma in (2, 3, 12)]
    nuclei, eosin, glass = (field / np.abs(field).max() for field in smooth)
    density = np.clip(nuclei, 0, 1)[..., None] * [1.5, 1.9, 0.7] + (0.6 + eosin)[..., None] * [0.05, 0.7, 0.3]
    density[glass > 0.5] = 0.03
    return np.clip(240 * np.exp(-density), 0, 255).astype(np.uint8)


def neutral(count: int = 1, **changes: Any) -> Drawn:
    """Parameters that change nothing but what is named."""
    values: dict[str, Any] = {
        "start": np.zeros((count, 2)),
        "end": np.ones((count, 2)),
        "brightness": np.ones(count),
        "contrast": np.ones(count),
        "saturation": np.ones(count),
        "hue": np.zeros(count),
        "sigma": np.ones(count),
    }
    for name in ("flip", "flip_vertical", "jitter", "grey", "blur", "solarise"):
        values[name] = np.zeros(count, bool)
    values["turn"] = np.zeros(count, np.int64)
    return Drawn(
        **{name: np.asarray(changes.get(name, value), value.dtype)[:, None] for name, value in values.items()}
    )


RECIPE = load("smoke", ["model.mean=[0,0,0]", "model.std=[1,1,1]"])


def run(images: list[Pixels], drawn: Drawn, recipe: Recipe = RECIPE, size: int = SIZE) -> torch.Tensor:
    """One view (B, 3, size, size), 0 to 1, of images that are coded almost without loss."""
    jpegs = [np.frombuffer(simplejpeg.encode_jpeg(image, 100, "RGB", "444"), np.uint8) for image in images]
    view = View(size, (1, 1), blur=1, solarise=1, turned=True)
    fed = [jpegs, view_numbers.packed(drawn)]
    mean, std = recipe.model.mean, recipe.model.std
    (found,) = view_graph.Views([view], mean, std, lambda _: fed, len(images), 1, None, depth=1).run()
    return found


def levels(view: torch.Tensor) -> npt.NDArray[np.float64]:
    return (255 * view.permute(1, 2, 0)).double().numpy()


def decoded(image: Pixels) -> Pixels:
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, 100, "RGB", "444"))


@pytest.fixture
def plain() -> Pixels:
    """What the graph has after decoding and resizing with a whole-tile crop of the same size."""
    return decoded(tissue(SIZE))


def apart(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.abs(np.asarray(ours, float) - np.asarray(theirs, float))


def test_nothing_drawn_changes_nothing(plain: Pixels) -> None:
    assert apart(levels(run([tissue(SIZE)], neutral())[0]), plain).max() <= 1


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (0.1, 0.2, 0.5, 0.9), (0.305, 0.411, 0.52, 0.633), (0.7, 0.7, 1, 1)]
)
def test_crop_and_resize_are_pils_bicubic(box: tuple[float, ...]) -> None:
    """At most 2 levels apart, 1 on 99 %: PIL rounds between its two passes too."""
    image = tissue()
    y0, x0, y1, x1 = (SIDE * value for value in box)
    theirs = Image.fromarray(decoded(image)).resize((SIZE, SIZE), Image.Resampling.BICUBIC, (x0, y0, x1, y1))
    ours = levels(run([image], neutral(start=[box[:2]], end=[box[2:]]))[0])
    difference = apart(ours, np.asarray(theirs))
    assert difference.max() <= 2.01
    assert (difference <= 1.01).mean() > 0.99


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize(("flip", "vertical"), [(False, False), (True, False), (False, True), (True, True)])
def test_flips_then_quarter_turns(flip: bool, vertical: bool, turn: int) -> None:
    """As numpy's, of a crop that is no square and lies in a corner, with what follows it."""
    image, box = tissue(), {"start": [(0.05, 0.3)], "end": [(0.6, 0.95)], "jitter": [True], "contrast": [0.6]}
    straight = levels(run([image], neutral(**box))[0])
    found = levels(run([image], neutral(**box, flip=[flip], flip_vertical=[vertical], turn=[turn]))[0])
    expected = straight[:: -1 if vertical else 1, :: -1 if flip else 1]
    assert apart(found, np.rot90(expected, turn)).max() <= 1.01
    assert (flip, vertical, turn) in {(0, 0, 0), (1, 1, 2)} or apart(found, straight).max() > 20


@pytest.mark.parametrize("factor", [0.6, 0.9, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_torchvisions(name: str, factor: float, plain: Pixels) -> None:
    """Within 2 levels: torchvision truncates where DALI rounds, and rounds the mean for contrast."""
    image = torch.from_numpy(plain).permute(2, 0, 1)
    theirs = getattr(functional, f"adjust_{name}")(image, factor).permute(1, 2, 0).numpy()
    ours = levels(run([tissue(SIZE)], neutral(jitter=[True], **{name: [factor]}))[0])
    assert apart(ours, theirs).max() <= 2
    assert apart(ours, plain).max() > 3


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.03, 0.1])
def test_hue_is_torchvisions(hue: float, plain: Pixels) -> None:
    """Within 2 levels, of which 1 is the decoder's; torchvision truncates."""
    image = torch.from_numpy(plain).permute(2, 0, 1)
    theirs = functional.adjust_hue(image, hue).permute(1, 2, 0).numpy()
    ours = levels(run([tissue(SIZE)], neutral(jitter=[True], hue=[hue]))[0])
    difference = apart(ours, theirs)
    assert difference.max() <= 2.01
    assert difference.mean() < 0.6
    assert apart(ours, plain).mean() > 3 * difference.mean()


def test_greyscale_is_torchvisions(plain: Pixels) -> None:
    image = torch.from_numpy(plain).permute(2, 0, 1)
    theirs = functional.rgb_to_grayscale(image, 3).permute(1, 2, 0).numpy()
    ours = levels(run([tissue(SIZE)], neutral(grey=[True], saturation=[1.2]))[0])
    assert apart(ours, theirs).max() <= 1.5


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_a_gaussian_cut_at_three_sigma(sigma: float, plain: Pixels) -> None:
    radius = int(np.ceil(3 * sigma))
    theirs = ndimage.gaussian_filter(plain.astype(float), (sigma, sigma, 0), mode="mirror", radius=radius)
    ours = levels(run([tissue(SIZE)], neutral(blur=[True], sigma=[sigma]))[0])
    assert apart(ours, theirs).max() <= 1.01


def test_solarise_is_pils(plain: Pixels) -> None:
    theirs = np.asarray(ImageOps.solarize(Image.fromarray(plain)))
    ours = levels(run([tissue(SIZE)], neutral(solarise=[True]))[0])
    far = np.abs(plain.astype(int) - 128) > 1  # where one level of decoding cannot cross the threshold
    assert apart(ours, theirs)[far].max() <= 1


def test_all_colour_operations_together_are_torchvisions(plain: Pixels) -> None:
    """One after the other, and greyscale last; of pixels in 0 to 1, as it truncates bytes after each. Nothing
    is clipped on the way: it clips after each operation, where here the three factors are one matrix."""
    theirs = torch.from_numpy(plain).permute(2, 0, 1) / 255
    theirs = functional.adjust_brightness(theirs, 0.8)
    theirs = functional.adjust_contrast(theirs, 0.9)
    theirs = functional.adjust_saturation(theirs, 0.8)
    theirs = functional.adjust_hue(theirs, 0.07)
    drawn = {"jitter": [True], "brightness": [0.8], "contrast": [0.9], "saturation": [0.8], "hue": [0.07]}
    ours = levels(run([tissue(SIZE)], neutral(**drawn))[0])
    assert apart(ours, levels(theirs)).max() <= 2.01
    grey = levels(run([tissue(SIZE)], neutral(**drawn, grey=[True]))[0])
    assert apart(grey, levels(functional.rgb_to_grayscale(theirs, 3))).max() <= 2.01


def test_samples_of_a_batch_keep_their_own_parameters() -> None:
    images = [tissue(SIZE, seed) for seed in range(6)]
    drawn = neutral(
        6,
        flip=[1, 0, 1, 0, 0, 1],
        flip_vertical=[0, 0, 1, 1, 0, 0],
        turn=[0, 1, 2, 3, 0, 1],
        grey=[0, 1, 0, 0, 1, 0],
        jitter=[0, 0, 1, 1, 0, 0],
        brightness=[1, 1, 0.7, 1.3, 1, 1],
        blur=[1, 0, 0, 1, 0, 0],
        sigma=[1, 1, 1, 2, 1, 1],
        solarise=[0, 0, 0, 1, 0, 1],
    )
    together = run(images, drawn)
    for number, image in enumerate(images):
        alone = Drawn(**{name: values[number : number + 1] for name, values in vars(drawn).items()})
        assert torch.equal(run([image], alone)[0], together[number])


class Side:
    """A stream that tells when it is waited for, and how many of DALI's outputs are still held then."""

    stream = None

    def __init__(self) -> None:
        self.outputs: list[weakref.ref[Any]] = []
        self.told: list[str] = []

    @contextmanager
    def queue(self) -> Iterator[None]:
        self.told.append("begin")
        yield
        self.told.append("end")

    def wait(self) -> None:
        self.told.append(f"wait with {sum(output() is not None for output in self.outputs)} held")

    def give(self, view: torch.Tensor) -> torch.Tensor:
        self.told.append("give")
        return view


class Output:
    def __init__(self, memory: npt.NDArray[Any]) -> None:
        self.memory = memory

    def as_tensor(self) -> npt.NDArray[Any]:
        return self.memory


def test_what_dali_lends_a_card_is_copied_before_it_is_dropped() -> None:
    side, memory = Side(), [np.full((2, 3), value, np.float32) for value in (1, 2)]

    class Pipeline:
        def run(self, stream: object) -> list[Output]:
            outputs = [Output(each) for each in memory]
            side.outputs = [weakref.ref(output) for output in outputs]
            return outputs

    views = view_graph.copied(Pipeline(), cast(Any, side))
    for each in memory:
        each[:] = 0  # by DALI, for a later batch
    assert [float(view.mean()) for view in views] == [1, 2]
    assert side.told == ["begin", "wait with 2 held", "end", "give", "give"]
    assert not any(output() for output in side.outputs)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("jitter", [False, True])
def test_the_graph_of_a_card_is_one_that_dali_takes(jitter: bool, pixels: bool) -> None:
    """Traced, which needs no card, not run: tiles and views are on it, and each step feeds few arrays."""
    recipe = load("exaonepath1", ["stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.2"])
    every = views(recipe.views)
    stage = Stage(recipe.stain, None, None, {}, 240.0, 0, views=len(every)) if jitter else None
    tail = partial(view_graph._by_dali, views=every, mean=[0.0] * 3, std=[1.0] * 3, io=240.0)
    graph = view_graph._graph(lambda _: [], 0, 1, stage, None, [], tail, pixels)
    pipeline = graph(batch_size=2, num_threads=1, device_id=0)
    pipeline._build_graph()
    made = Counter((type(each._op).__name__, each.outputs[0].device) for each in pipeline._ops)
    assert made["PythonFunction", "gpu"] == 1
    assert made["Image", "gpu"] == (not pixels)  # pixels come as they are
    assert [made[name, "gpu"] for name in ("Resize", "GaussianBlur", "CropMirrorNormalize")] == [10] * 3
    assert made["ExternalSource", "cpu"] == 2 + jitter


def test_normalised_with_the_models_mean_and_std(plain: Pixels) -> None:
    recipe = load("smoke")
    ours = run([tissue(SIZE)], neutral(), recipe)[0]
    image = torch.from_numpy(plain).permute(2, 0, 1) / 255
    theirs = functional.normalize(image, recipe.model.mean, recipe.model.std)
    assert (ours - theirs).abs().max() < 1.01 / 255 / min(recipe.model.std)
    assert ours.dtype == torch.float32
