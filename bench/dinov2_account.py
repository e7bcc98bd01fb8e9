"""What a step of DINOv2 asks of a card, counted without one: operations, bytes, kernels, and the least time.

Of the project's recipes, in bfloat16 and not compiled, on tensors without contents, as step_account.py does
it; no weights are made, so that a ViT-g takes no memory. Three ways of the student's forward pass: views of
each size by themselves with stochastic depth per sample, as timm has it; all views packed; and packed with
stochastic depth by subsets of the batch, as the recipes have it. With --ways compiled that with compiled
backbones, of which the code for the card is counted: minutes for a ViT-S, very many for a ViT-g.

    python bench/dinov2_account.py [--sizes S L g g-392] [--batch 32] [--json [FILE]]      ten minutes
"""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import timm.models.eva
import timm.models.vision_transformer
import torch
from machine import add_json, save
from step_account import FLOPS, RATE, Account, Compiler, Counting
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pathtrain.data import order
from pathtrain.data.block_masks import masks
from pathtrain.distributed.ranks import ALONE
from pathtrain.methods.dinov2 import Dinov2
from pathtrain.methods.dinov2_setup import MaskedBatch
from pathtrain.methods.masked import Masked, Picked
from pathtrain.models import packed
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.load import load
from pathtrain.training import step
from pathtrain.training.optim import adamw

SIZES = {
    "S": ("dinov2-vits", ["dino.drop_path=0.3"]),
    "L": ("midnight", ["model.name=vit_large_patch14_dinov2", "dino.drop_path=0.3"]),
    "g": ("midnight", []),
    "g-392": ("midnight-392", []),
}
WAYS = ("separate", "packed", "subset")


@dataclass(frozen=True)
class Known(Masked):
    """A batch whose masked patches were found before: a tensor without contents has none to find.

    Attributes:
        found: the masked patches.
    """

    found: Picked

    def split(self, size: int) -> list[Masked]:
        """All of it is one part."""
        return [self]

    def picked(self, device: torch.device) -> Picked:
        """See above."""
        return self.found


def account(size: str, way: str, batch: int, drop_path: float | None = None) -> Account:
    """Of one step."""
    fake, counting = FakeTensorMode(allow_non_fake_inputs=True), Counting()
    recipe = _recipe(size, way, batch, drop_path)
    with fake, _unasked():
        method = Dinov2(recipe, recipe.steps, torch.device("cpu"), fresh=False)
    real = _masked(recipe, method)
    picked = real.picked(torch.device("cpu"))
    with fake, ExitStack() as patches:
        found = Picked(*(fake.from_tensor(tensor) for tensor in vars(picked).values()))
        sides = [recipe.views.globals.size] * recipe.views.globals.count
        sides += [recipe.views.locals.size] * recipe.views.locals.count
        views = [torch.empty(batch, 3, side, side) for side in sides]
        given = MaskedBatch(Known(views, real.masks, found), np.arange(batch), 0.0)
        stepper = step.Stepper(method, adamw(method.student, recipe.optim), recipe, ALONE, recipe.steps)
        compiler = Compiler()
        if way == "compiled":
            for network in method.running:
                network["backbone"].compile(dynamic=False, backend=compiler.backend)
        with mock.patch.object(packed, "tokens", _separate if way == "separate" else packed.tokens):
            at = recipe.steps // 2  # nothing is frozen any more
            stepper.take(given, at, stop=False)  # makes the optimiser's state
            if way == "compiled":
                for network in method.running:
                    patches.enter_context(_uncounted(network["backbone"], counting))
            with counting:
                stepper.take(given, at + 1, stop=False)
    found_, more = counting.account, compiler.account
    found_.by_part |= more.by_part
    for name in ("kernels", "bytes", "flops", "seconds"):
        setattr(found_, name, getattr(found_, name) + getattr(more, name))
    return found_


@contextmanager
def _uncounted(backbone: Any, counting: Counting) -> Iterator[None]:
    """Without what a backbone does, forward and back: its way back is the last of all."""
    backbone._compiled_call_impl = None
    quiet, back = counting.without(backbone.forward), torch.Tensor.backward

    def forward(*given: Any) -> Any:
        found = quiet(*given)
        missing = [out for out in found if out.requires_grad]
        for out in list(missing):
            out.register_hook(lambda grad: arrived())

        def arrived() -> None:
            missing.pop()
            counting.off += not missing

        return found

    def backward(*given: Any, **more: Any) -> None:
        before = counting.off
        back(*given, **more)
        counting.off = before

    with (
        mock.patch.object(backbone, "forward", forward),
        mock.patch.object(torch.Tensor, "backward", backward),
    ):
        yield


def _recipe(size: str, way: str, batch: int, drop_path: float | None) -> Dinov2Recipe:
    name, more = SIZES[size]
    drop = [] if drop_path is None else [f"dino.drop_path={drop_path}"]
    by = "subset" if way in ("subset", "compiled") else "sample"
    fixed = ["model.init=random", "model.checkpoint=false", "sharding=none", "micro_batch=null", "probes=[]"]
    fixed.append("regulariser.group=null")
    recipe = load(name, [*more, *fixed, *drop, f"batch={batch}", f"dino.drop_path_by={by}"])
    assert isinstance(recipe, Dinov2Recipe)
    return recipe


def _masked(recipe: Dinov2Recipe, method: Dinov2) -> Masked:
    patch = method.student["backbone"].patch_embed.patch_size[0]  # type: ignore[union-attr]
    side, ibot = recipe.views.globals.size // patch, recipe.ibot
    positions, crops = order.positions(0, recipe.batch), recipe.views.globals.count
    found = masks(positions, recipe.batch, crops, (side, side), ibot.share, ibot.ratio, ibot.fill, 0)
    return Masked([torch.empty(recipe.batch, 1)], torch.from_numpy(found))


WHOLE = packed.tokens


def _separate(backbone: Any, groups: Any, masks: Any = None, mask_token: Any = None) -> list[Tensor]:
    """What ``tokens`` gives, group by group."""
    first = WHOLE(backbone, groups[:1], masks, mask_token)
    return [*first, *(WHOLE(backbone, [group])[0] for group in groups[1:])]


@contextmanager
def _unasked() -> Iterator[None]:
    """Without asking tensors for their contents, as timm and torch do for rates and first weights."""

    def rates(rate: float, depth: int, **_: Any) -> list[float]:
        return [rate * number / max(1, depth - 1) for number in range(depth)]

    modules = (timm.models.vision_transformer, timm.models.eva)
    with (
        mock.patch.object(modules[0], "calculate_drop_path_rates", rates),
        mock.patch.object(modules[1], "calculate_drop_path_rates", rates),
        mock.patch.object(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor),
        mock.patch.object(torch.nn.Module, "to", lambda module, *_: module),  # which is there
    ):
        yield


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=[*WAYS, "compiled"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--drop-path", type=float, help="instead of the recipe's")
    parser.add_argument("--parts", action="store_true", help="by operator too")
    add_json(parser)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Accessing the data pointer")  # of copying a tensor without contents
    print(f"a step of {options.batch} tiles on a card of {RATE / 1e12} TB/s and {FLOPS / 1e12:.0f} TFLOP/s")
    found: dict[str, Any] = {}
    for size in options.sizes:
        base: Account | None = None
        for way in options.ways:
            counted = account(size, way, options.batch, options.drop_path)
            base = base or counted
            found.setdefault(size, {})[way] = vars(counted)
            print(
                f"  {size:6s} {way:9s} {counted.flops / options.batch / 1e9:7,.0f} GFLOP a tile  "
                f"{counted.kernels:6,d} kernels ({counted.kernels / base.kernels - 1:+.0%})  "
                f"{counted.bytes / 1e9:7.1f} GB ({counted.bytes / base.bytes - 1:+.0%})  at least "
                f"{1e3 * counted.seconds:6.1f} ms: {options.batch / counted.seconds:6.1f} tiles/s",
                flush=True,
            )
            if options.parts:
                most = sorted(counted.by_part.items(), key=lambda item: -item[1][1])
                for part, (kernels, count) in most[:20]:
                    print(f"      {kernels:6d} kernels {count / 1e9:7.2f} GB  {part}")
    about = {"batch": options.batch, "rate": RATE, "flops": FLOPS}
    save(options.json, "dinov2_account", {**about, "sizes": found})


if __name__ == "__main__":
    main()
