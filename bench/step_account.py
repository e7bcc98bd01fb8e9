"""What a training step asks of a card, counted without one: operations, bytes, kernels, and the least time.

The step of `pathtrain pretrain` runs on tensors without contents. An operator that is not fused is a kernel,
of several tensors at once as many as CUDA's multi-tensor kernels take; what torch.compile fuses is counted in
the code that it writes for the card (fake_card.py). The least time is, kernel by kernel, the longer of its
bytes at the card's rate and its operations at the peak: a bound from below, without launches and waits.

Three ways: under autocast, as the original code; in bfloat16 from copies of the weights; and that compiled.

    python bench/step_account.py [--model vit_base_patch16_224] [--batch 64] [--json [FILE]]      four minutes
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from fake_card import BACKWARD, FORWARD, write
from functorch.compile import make_boxed_func
from machine import add_json, save
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from pathtrain.distributed.ranks import ALONE
from pathtrain.losses.dino import dino_terms
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.training import step
from pathtrain.training.optim import adamw, scale_each

# What torch's operators are taken to reach on an H200, in bfloat16; a copy reaches 4.3e12
RATE, FLOPS = 3.6e12, 700e12
# Kernels of an operator where it is not one
SEVERAL = {
    "aten::native_layer_norm_backward": 2,
    "aten::_scaled_dot_product_flash_attention_for_cpu": FORWARD,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": BACKWARD,
}
NONE = {"aten::_unsafe_view", "aten::empty_like", "aten::empty", "aten::empty_strided", "aten::new_empty"}
# Tensors of a launch by how many lists there are, blocks of a launch, elements of a block (ATen's
# MultiTensorApply.cuh)
TENSORS, BLOCKS, CHUNK = (110, 64, 48, 36, 30), 320, 65536


@dataclass
class Account:
    """What was counted so far."""

    kernels: int = 0
    bytes: int = 0
    flops: int = 0
    seconds: float = 0.0
    by_part: dict[str, list[int]] = field(default_factory=dict)  # kernels, bytes

    def add(self, part: str, kernels: int, count: int, seconds: float, flops: int = 0) -> None:
        self.kernels += kernels
        self.bytes += count
        self.flops += flops
        self.seconds += seconds
        had = self.by_part.get(part, [0, 0])
        self.by_part[part] = [had[0] + kernels, had[1] + count]


class Counting(TorchDispatchMode):
    """Counts operators; not what is done while ``off`` is above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.account, self.off = Account(), 0

    def without(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is not counted."""

        def quiet(*args: Any, **kwargs: Any) -> Any:
            self.off += 1
            try:
                return call(*args, **kwargs)
            finally:
                self.off -= 1

        return quiet

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func._schema.name
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if self.off or view or name in NONE or not name.startswith("aten::"):
            return found
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        if name.startswith(("aten::_foreach", "aten::_fused_adamw")):
            # what is written lies where it is read, or is returned
            written = [] if made else _first(args)
            count, kernels = _size(given) + _size(written or made), _launches(name, args)
        else:
            count, kernels = _size(given) + _size(made), SEVERAL.get(name, 1)
        flops = int(_flops(func, args, kwargs or {}, found))
        part = name.removeprefix("aten::")
        self.account.add(part, kernels, count, max(count / RATE, flops / FLOPS), flops)
        return found


def _first(args: Any) -> list[Tensor]:
    lists = [arg for arg in args if isinstance(arg, (list, tuple))]
    return [t for each in lists[:3] for t in each if isinstance(t, Tensor)] if len(lists) > 3 else lists[0]


def _size(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _launches(name: str, args: Any) -> int:
    """Of a multi-tensor operator; where one list's tensors are scalars, it is one launch a tensor."""
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], Tensor)]
    sizes = [t.numel() for t in lists[0]]
    if any([t.numel() for t in other] != sizes for other in lists[1:2]):
        return len(sizes)
    most = TENSORS[min(len(lists), 5) - 1]
    launches, tensors, blocks = 1, 0, 0
    for size in sizes:
        if tensors == most:
            launches, tensors, blocks = launches + 1, 0, 0
        tensors += 1
        blocks += -(-size // CHUNK)
        while blocks >= BLOCKS:
            launches, tensors, blocks = launches + 1, 1, blocks - BLOCKS
    return launches + ("norm" in name)  # which sums up its blocks


def _flops(func: Any, args: Any, kwargs: Any, found: Any) -> float:
    if "flash_attention_for_cpu" in func._schema.name:
        query = args[1] if "backward" in func._schema.name else args[0]
        batch, heads, tokens, width = query.shape
        products = 5 if "backward" in func._schema.name else 2
        return 2 * products * batch * heads * tokens * tokens * width
    count = flop_registry.get(func.overloadpacket)
    return count(*args, **kwargs, out_val=found) if count is not None else 0


class Compiler:
    """A backend of torch.compile that has the card's code written and counted, and runs what was traced."""

    def __init__(self) -> None:
        self.account = Account()
        fw, bw, inference = (self._compiler(kind) for kind in ("forward", "backward", "inference"))
        self.backend = aot_autograd(
            fw_compiler=fw,
            bw_compiler=bw,
            inference_compiler=inference,
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )

    def _compiler(self, kind: str) -> Callable[..., Any]:
        def compiled(graph: torch.fx.GraphModule, _: Any) -> Any:
            flops = sum(
                int(_flops(node.target, *_values(node), node.meta["val"]))
                for node in graph.graph.nodes
                if isinstance(node.target, torch._ops.OpOverload)
            )
            copy = torch.fx.Graph()
            copy.output(copy.graph_copy(graph.graph, {}))
            kept = torch.fx.GraphModule(graph, copy)
            with _disable_current_modes():
                code = write(graph, kind, RATE, FLOPS)
            self.account.add(f"compiled, {kind}", code.kernels, code.bytes, code.seconds, flops)
            return make_boxed_func(kept.forward)

        return compiled


def _values(node: torch.fx.Node) -> Any:
    return torch.fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])


def account(options: argparse.Namespace, way: str) -> Account:
    """Of one step."""
    chosen = ["model.init=random", f"model.name={options.model}", f"batch={options.batch}"]
    recipe = load("exaonepath1", [*chosen, "stain.expect=any", "dino.freeze_last_layer_steps=0"])
    method = Dino(recipe, 1000, torch.device("cpu"))
    if way == "autocast":
        method.running, method._reduced = (method.student, method.teacher), False
    fake, counting, compiler = FakeTensorMode(allow_non_fake_inputs=True), Counting(), Compiler()
    _empty(method, fake)
    with fake, ExitStack() as patches:
        views = recipe.views
        sides = [views.globals.size] * views.globals.count + [views.locals.size] * views.locals.count
        batch = Batch([torch.empty(options.batch, 3, side, side) for side in sides])
        stepper = step.Stepper(method, adamw(method.student, recipe.optim), recipe, ALONE, 1000)
        if way == "compiled":
            stepper.compile(compiler.backend)
        stepper.take(batch, 0, stop=False)  # makes the optimiser's state, and compiles
        if way == "compiled":  # what is not: all but networks, loss and the way back through them
            for network in method.running:
                network._compiled_call_impl = None
                patches.enter_context(
                    mock.patch.object(network, "forward", counting.without(network.forward))
                )
            method._terms = counting.without(dino_terms)
            stepper._scale = counting.without(scale_each)
            back = counting.without(torch.Tensor.backward)
            patches.enter_context(mock.patch.object(torch.Tensor, "backward", back))
        with counting:
            stepper.take(batch, 1, stop=False)
    counting.account.by_part |= compiler.account.by_part
    for name in ("kernels", "bytes", "flops", "seconds"):
        setattr(counting.account, name, getattr(counting.account, name) + getattr(compiler.account, name))
    return counting.account


class Batch:
    """Tiles' views."""

    def __init__(self, views: list[Tensor]) -> None:
        self.views, self.tiles, self.wait = views, np.arange(len(views[0])), 0.0


def _empty(method: Dino, fake: FakeTensorMode) -> None:
    """Take the contents from all weights; what networks share they go on sharing."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for network in (method.student, method.teacher, *method.running):
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter not in made:
                    made[parameter] = nn.Parameter(
                        fake.from_tensor(parameter.detach()), parameter.requires_grad
                    )
                    made[made[parameter]] = made[parameter]
                setattr(module, name, made[parameter])
    method.center = fake.from_tensor(method.center)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--parts", action="store_true", help="by operator too")
    add_json(parser)
    options = parser.parse_args()
    print(
        f"{options.model}, batch {options.batch}: a step of EXAONEPath 1.0's recipe on a card of "
        f"{RATE / 1e12} TB/s and {FLOPS / 1e12:.0f} TFLOP/s"
    )
    found, base = {}, None
    for way in ("autocast", "copies", "compiled"):
        counted = account(options, way)
        base = base or counted
        found[way] = vars(counted)
        print(
            f"  {way:9s} {counted.flops / options.batch / 1e9:6.0f} GFLOP a tile  "
            f"{counted.kernels:5d} kernels ({counted.kernels / base.kernels - 1:+.0%})  "
            f"{counted.bytes / 1e9:6.1f} GB ({counted.bytes / base.bytes - 1:+.0%})  "
            f"at least {1e3 * counted.seconds:5.1f} ms: {options.batch / counted.seconds:5.0f} tiles/s, "
            f"at most {counted.flops / counted.seconds / 989e12:.1%} MFU",
            flush=True,
        )
        if options.parts:
            for part, (kernels, count) in sorted(counted.by_part.items(), key=lambda item: -item[1][1]):
                print(f"      {kernels:5d} kernels {count / 1e9:6.2f} GB  {part}")
    about = {"model": options.model, "batch": options.batch, "rate": RATE, "flops": FLOPS}
    save(options.json, "step_account", {**about, "ways": found})


if __name__ == "__main__":
    main()
