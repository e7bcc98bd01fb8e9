"""A CUDA card that is not there: torch's compiler writes its Triton code for one; its kernels are counted.

What torch traces on the CPU is told to lie on the card, and goes through the same passes, fusion and code
generation as there; nothing is run. Attention stays one operator forward and one back, as cuDNN's or
FlashAttention's are.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx
from torch._inductor.compile_fx import view_to_reshape
from torch._inductor.debug import DebugContext
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.fx_passes.replace_random import replace_random_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import hints
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

CARD = torch.device("cuda", 0)
# An H200, as torch and Triton ask for it
CAPABILITY, PROCESSORS = (9, 0), 132
PROPERTIES: dict[str, Any] = {
    "type": "cuda",
    "index": 0,
    "multi_processor_count": PROCESSORS,
    "cc": 90,
    "major": 9,
    "regs_per_multiprocessor": 65536,
    "max_threads_per_multi_processor": 2048,
    "max_threads_per_block": 1024,
    "warp_size": 32,
}
FORWARD, BACKWARD = 1, 3  # launches of attention: back, it also sums rows and writes out what it summed

aten, prims = torch.ops.aten, torch.ops.prims


@torch.library.custom_op("card::attention", mutates_args=())
def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Stands for the card's operator; is never run."""
    raise RuntimeError("it is counted only")


@attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return _rows(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("card::attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Stands for the card's operator; is never run."""
    raise RuntimeError("it is counted only")


@attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _rows(q), _rows(k), _rows(v)


def _rows(like: Tensor) -> Tensor:
    """(B, H, T, D) that lies as (B, T, H, D), as the card's operators leave it."""
    batch, heads, tokens, width = like.shape
    return like.new_empty((batch, tokens, heads, width)).transpose(1, 2)


@dataclass(frozen=True)
class Code:
    """What the compiler makes of a graph.

    Attributes:
        kernels: launches.
        bytes: that they read and write.
        seconds: of each at the card's roofline, added up.
        text: the code.
    """

    kernels: int
    bytes: int
    seconds: float
    text: str


def write(graph: fx.GraphModule, kind: str, rate: float, flops: float) -> Code:
    """The card's code for a graph that was traced on the CPU.

    Args:
        graph: changed.
        kind: ``forward``, ``backward`` or ``inference``.
        rate: bytes a second of the card's memory.
        flops: multiplications and additions a second.
    """
    fake = FakeTensorMode()
    inputs = _moved(graph, fake)
    with _card(), V.set_fake_mode(fake):
        replace_random_passes(graph)
        view_to_reshape(graph)
        post_grad_passes(graph, kind == "inference")
        made = GraphLowering(
            graph,
            example_inputs=inputs,
            shape_env=None,
            is_inference=kind == "inference",
            is_backward=kind == "backward",
        )
        with V.set_graph_handler(made), V.set_debug_handler(DebugContext()):
            made.run(*inputs)
            code, _ = made.codegen()
            total, nodes, _ = made.count_bytes()
            seconds = sum(  # counts are of words
                max(4 * count / rate, (node.estimate_flops() or 0) / flops) for node, count in nodes
            )
    text = str(code.value)
    return Code(launches(text), int(total), seconds, text)


def launches(text: str) -> int:
    """Kernels that the compiler's code starts."""
    body = text[text.index("def call(self, args)") :]
    own = len(re.findall(r"^ +(?:\w+ = )?triton_\w+\.run\(", body, re.MULTILINE))
    libraries = len(re.findall(r"\bextern_kernels\.\w+\(", body))
    other = len(re.findall(r"= torch\.ops\.(?!card|inductor)\w+\.\w+\.\w+\(", body))
    forward = len(re.findall(r"= torch\.ops\.card\.attention\.default\(", body))
    backward = len(re.findall(r"= torch\.ops\.card\.attention_backward\.default\(", body))
    return own + libraries + other + FORWARD * forward + BACKWARD * backward


def _moved(graph: fx.GraphModule, fake: FakeTensorMode) -> list[Any]:
    """Put a graph on the card; returns its inputs there."""
    for node in list(graph.graph.nodes):
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": CARD}
        if node.target is aten._scaled_dot_product_flash_attention_for_cpu.default:
            node.target, node.args, node.kwargs = torch.ops.card.attention.default, node.args[:3], {}
        elif node.target is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
            node.target, node.args, node.kwargs = (
                torch.ops.card.attention_backward.default,
                node.args[:6],
                {},
            )
        elif node.target is aten.bernoulli.p:  # on a card it is taken apart before
            value = node.meta["val"]
            with graph.graph.inserting_before(node):
                kwargs = {"dtype": torch.float32, "device": CARD, "pin_memory": False}
                drawn = graph.graph.call_function(aten.rand.default, (list(value.shape),), kwargs)
                less = graph.graph.call_function(aten.lt.Scalar, (drawn, node.args[1]))
                cast = graph.graph.call_function(prims.convert_element_type.default, (less, value.dtype))
            node.replace_all_uses_with(cast)
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    inputs = []
    with fake:
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                value = node.meta["val"]
                inputs.append(
                    torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=CARD)
                    if isinstance(value, Tensor)
                    else value
                )
        FakeTensorProp(graph, fake).propagate(*inputs)
    return inputs


@contextmanager
def _card() -> Iterator[None]:
    """What torch and Triton ask of a card, answered for an H200."""
    about = SimpleNamespace(
        **PROPERTIES, minor=CAPABILITY[1], gcnArchName="", total_memory=141 * 2**30, name="NVIDIA H200"
    )
    before = driver._active
    driver.set_active(SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32)))  # type: ignore[arg-type]
    made = classmethod(lambda kind, device: kind(**PROPERTIES))
    with ExitStack() as patches:
        for patch in (
            mock.patch.object(hints.DeviceProperties, "create", made),
            mock.patch("torch.cuda.get_device_properties", return_value=about),
            mock.patch("torch.cuda.get_device_capability", return_value=CAPABILITY),
            mock.patch("torch.cuda.current_device", return_value=0),
            mock.patch("torch._inductor.scheduler.has_triton", return_value=True),
        ):
            patches.enter_context(patch)
        try:
            yield
        finally:
            driver._active = before
