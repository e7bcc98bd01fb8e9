"""A recipe's views as others make them, each as its documentation suggests: torchvision and albumentations.

Classes, so that a DataLoader's workers can receive them; called with a tile's JPEG.
"""

import io
import random
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image, ImageFilter
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer
from torchvision.transforms import v2

from pathtrain.data import view_params
from pathtrain.recipes.recipe import Recipe

# No entry of the extra `test`: its last release wants another one's old release
ALBUMENTATIONS = "pip install albumentations==2.0.8 opencv-python-headless"

Pixels = npt.NDArray[np.uint8]


def kinds() -> dict[str, Any]:
    """Name -> what makes views from a recipe."""
    found: dict[str, Any] = {
        "torchvision (PIL)": OnPil,
        "torchvision (tensors)": OnTensors,
    }
    if find_spec("albumentations") is not None:
        found["albumentations (OpenCV)"] = OnOpencv
        found["albumentations (OpenCV), INTER_AREA"] = OnOpencvByArea
    return found


class PilBlur:
    """The original DINO code's Gaussian blur, about five times faster than torchvision's on PIL images."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


class OnPil:
    """On PIL images; each tile normalised by torchstain where the recipe normalises."""

    def __init__(self, recipe: Recipe) -> None:
        self.normaliser = NumpyMacenkoNormalizer() if recipe.stain.mode == "normalize" else None
        self.transforms = [self.transform(recipe, view) for view in view_params.views(recipe.views)]

    def transform(self, recipe: Recipe, view: view_params.View) -> Any:
        return _torchvision(recipe, view, PilBlur(recipe.views.blur_sigma))

    def decoded(self, jpeg: bytes) -> Any:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")

    def made_of(self, pixels: Pixels) -> Any:
        return Image.fromarray(pixels)

    def views(self, image: Any) -> list[torch.Tensor]:
        return [transform(image) for transform in self.transforms]

    def __call__(self, jpeg: bytes) -> list[torch.Tensor]:
        image = self.decoded(jpeg)
        if self.normaliser is not None:
            # tiles that cannot be fitted stay as they are, as in EXAONEPath's code
            try:
                pixels, _, _ = self.normaliser.normalize(np.asarray(image), stains=False)
                image = self.made_of(pixels)
            except np.linalg.LinAlgError:
                pass
        return self.views(image)


class OnTensors(OnPil):
    """On uint8 tensors, which torchvision says is faster."""

    def transform(self, recipe: Recipe, view: view_params.View) -> Any:
        # 13 pixels are 3 sigma of the largest one; torchvision wants one size
        return _torchvision(recipe, view, v2.GaussianBlur(13, recipe.views.blur_sigma))

    def views(self, image: Any) -> list[torch.Tensor]:
        return super().views(v2.functional.pil_to_tensor(image))


def _torchvision(recipe: Recipe, view: view_params.View, blur: Any) -> v2.Compose:
    config, jitter = recipe.views, recipe.views.jitter
    strength = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    bicubic = v2.InterpolationMode.BICUBIC
    return v2.Compose(
        [
            v2.RandomResizedCrop(view.size, view.scale, config.ratio, bicubic, antialias=True),
            v2.RandomHorizontalFlip(config.flip),
            v2.RandomApply([v2.ColorJitter(*strength)], jitter.p),
            v2.RandomGrayscale(config.greyscale),
            v2.RandomApply([blur], view.blur),
            v2.RandomSolarize(128, view.solarise),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(recipe.model.mean, recipe.model.std),
        ]
    )


class OnOpencv(OnPil):
    """Albumentations as it comes: linear, which leaves out pixels of a crop that is shrunk; decoded by
    libjpeg-turbo."""

    by_area = False

    def transform(self, recipe: Recipe, view: view_params.View) -> Any:
        import albumentations as A
        import cv2
        from albumentations.pytorch import ToTensorV2

        cv2.setNumThreads(0)  # the workers fill the cores
        config, jitter = recipe.views, recipe.views.jitter
        by_area = {"interpolation": cv2.INTER_CUBIC, "area_for_downscale": "image"} if self.by_area else {}
        return A.Compose(
            [
                A.RandomResizedCrop((view.size, view.size), view.scale, config.ratio, **by_area),
                A.HorizontalFlip(p=config.flip),
                A.ColorJitter(
                    _around_one(jitter.brightness),
                    _around_one(jitter.contrast),
                    _around_one(jitter.saturation),
                    (-jitter.hue, jitter.hue),
                    p=jitter.p,
                ),
                A.ToGray(p=config.greyscale),
                A.GaussianBlur(sigma_limit=config.blur_sigma, p=view.blur),
                A.Solarize((0.5, 0.5), p=view.solarise),
                A.Normalize(recipe.model.mean, recipe.model.std),
                ToTensorV2(),
            ]
        )

    def decoded(self, jpeg: bytes) -> Pixels:
        return simplejpeg.decode_jpeg(jpeg)

    def made_of(self, pixels: Pixels) -> Pixels:
        return pixels

    def views(self, image: Pixels) -> list[torch.Tensor]:
        return [transform(image=image)["image"] for transform in self.transforms]


class OnOpencvByArea(OnOpencv):
    """The same by area where a crop is shrunk, cubic where it is enlarged: without aliasing, as ours."""

    by_area = True


def _around_one(strength: float) -> tuple[float, float]:
    return (1 - strength, 1 + strength)
