"""Public layouts: random weights under their names against a forward pass by hand; each key accounted for."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from helpers.public_layouts import Shape, chunked, forward, hub, training, transformers, whole_training
from safetensors.torch import load_file, save_file

from pathtrain.errors import ModelError
from pathtrain.models import first_weights, layouts
from pathtrain.models.backbone import create
from pathtrain.models.first_weights import misfit
from pathtrain.models.positions import as_dino
from pathtrain.recipes.model import ModelConfig

PLAIN = Shape()
KINDS = {
    "plain": PLAIN,
    "SwiGLU": Shape(swiglu=True),
    "registers": Shape(registers=4),
    "registers and SwiGLU": Shape(registers=4, swiglu=True),
}
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "hub": lambda state: state,
    "chunked": chunked,
    "teacher_checkpoint.pth": training,
    "model_final.rank_0.pth": whole_training,
    "transformers": transformers,
    "transformers' classifier": lambda state: {
        **transformers(state, "dinov2."),
        "classifier.weight": torch.zeros(3, 48),
        "classifier.bias": torch.zeros(3),
    },
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "FSDP": lambda state: {
        key.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): value for key, value in state.items()
    },
}


def config(shape: Shape, init: Path | str, **more: Any) -> ModelConfig:
    name = "vit_giant_patch14_dinov2" if shape.swiglu else "vit_small_patch14_dinov2"
    kwargs: dict[str, Any] = {
        "img_size": shape.grid * shape.patch,
        "depth": shape.depth,
        "embed_dim": shape.dim,
        "num_heads": shape.heads,
        "mlp_ratio": (2 if shape.swiglu else 1) * shape.hidden / shape.dim + 1e-6,
    }
    if shape.registers:
        kwargs |= {"reg_tokens": shape.registers, "no_embed_class": True}
    scheme = "registers" if shape.registers else "hub"
    fields = {"positions": scheme, **more}
    return ModelConfig(name=name, kwargs=kwargs | fields.pop("kwargs", {}), init=str(init), **fields)


def written(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_formula(tmp_path: Path, layout: str, kind: str) -> None:
    """At the weights' own size, at a smaller one and at one that is not square (dinov2 issue 333)."""
    shape = KINDS[kind]
    state = hub(shape)
    model = config(shape, written(tmp_path / "weights.pth", LAYOUTS[layout](state)))
    extras: dict[str, Any] = {}
    network = create(model, extras=extras).double().eval()
    as_dino(network, scheme=model.positions)
    assert torch.equal(extras["mask_token"], state["mask_token"])
    rng = torch.Generator().manual_seed(1)
    for height, width in ((70, 70), (42, 42), (56, 98)):
        images = torch.randn(2, 3, height, width, generator=rng, dtype=torch.float64)
        expected = forward(state, images, shape, antialias=bool(shape.registers))
        with torch.no_grad():
            # the sum of CLS token and its position is float32, as the weights
            near = 1e-5 if shape.registers else 1e-9
            assert torch.allclose(network(images), expected, atol=near, rtol=0), (height, width)


@pytest.mark.parametrize("layout", ["hub", "transformers", "teacher_checkpoint.pth"])
def test_what_is_too_much_or_missing_is_named(tmp_path: Path, layout: str) -> None:
    state = hub(PLAIN)
    made = LAYOUTS[layout](state)
    inner = made.get("teacher", made)
    model = config(
        PLAIN,
        written(
            tmp_path / "more.pth",
            made | {"teacher": inner | {"scale.net": torch.ones(1)}}
            if "teacher" in made
            else made | {"scale.net": torch.ones(1)},
        ),
    )
    with pytest.raises(ModelError, match=r"has too much: 1 weights \(scale.net\)"):
        create(model)
    gone = {
        "hub": ("norm.bias", r"lacks 1 weights \(norm.bias\)"),
        "transformers": (
            "encoder.layer.1.attention.attention.key.bias",
            r"lacks encoder.layer.1.attention.attention.key.bias",
        ),
        "teacher_checkpoint.pth": (
            "backbone.blocks.0.1.ls1.gamma",
            r"lacks 1 weights \(blocks.1.ls1.gamma\)",
        ),
    }
    key, message = gone[layout]
    del inner[key]
    with pytest.raises(ModelError, match=message):
        create(config(PLAIN, written(tmp_path / "less.pth", made)))


def test_dinov2_weights_in_a_plain_transformer_are_refused(tmp_path: Path) -> None:
    """SimDINO issue 11: loaded by timm with strict=False, features were those of random weights."""
    path = written(tmp_path / "weights.pth", training(hub(PLAIN)))
    plain = ModelConfig(
        name="vit_large_patch16_224",
        kwargs={
            "img_size": 70,
            "patch_size": 14,
            "depth": 3,
            "embed_dim": 24,
            "num_heads": 2,
            "mlp_ratio": 2.7,
        },
        init=str(path),
    )
    with pytest.raises(ModelError, match=r"has too much: 6 weights \(blocks.0.ls1.gamma, "):
        create(plain)


def test_weights_of_another_grid(tmp_path: Path) -> None:
    """dinov2 issues 431 and 486: a file of 37 x 37 positions, a network for 224 px."""
    path = written(tmp_path / "weights.pth", hub(PLAIN))
    for scheme in ("hub", "registers"):
        with pytest.raises(
            ModelError,
            match=r"has 26 positions, .* 10; .* set model.kwargs.img_size=70, or model.positions=once",
        ):
            create(config(PLAIN, path, kwargs={"img_size": 42}, positions=scheme))
    once = create(config(PLAIN, path, kwargs={"img_size": 42}, positions="once"))
    expected = torch.nn.functional.interpolate(
        hub(PLAIN)["pos_embed"][:, 1:].view(1, 5, 5, 24).permute(0, 3, 1, 2),
        (3, 3),
        mode="bicubic",
        antialias=True,
    )
    found = once.get_parameter("pos_embed")[:, 1:].view(1, 3, 3, 24).permute(0, 3, 1, 2)
    assert torch.allclose(found, expected, atol=1e-6)


def test_registers_need_a_network_whose_tokens_have_no_positions(tmp_path: Path) -> None:
    shape = KINDS["registers"]
    path = written(tmp_path / "weights.pth", hub(shape))
    with pytest.raises(ModelError, match=r"set model.kwargs.no_embed_class=true, and reg_tokens"):
        create(config(shape, path, kwargs={"no_embed_class": False}))
    with pytest.raises(ModelError, match=r"has too much: 1 weights \(reg_token\)"):
        create(config(shape, path, kwargs={"reg_tokens": 0}))


def test_timms_own_conversion_gives_the_same(tmp_path: Path) -> None:
    """Of a file with registers, timm's checkpoint filter is another reading of the same layout."""
    shape = KINDS["registers"]
    model = config(shape, written(tmp_path / "weights.pth", hub(shape)))
    theirs = timm.create_model(
        model.name, num_classes=0, pretrained=False, **model.kwargs,
    )  # fmt: skip
    from timm.models.vision_transformer import checkpoint_filter_fn

    theirs.load_state_dict(checkpoint_filter_fn(dict(hub(shape)), theirs))
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in create(model).state_dict().items())


def test_transformers_agrees(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    for kind, shape in KINDS.items():
        if shape.registers and shape.swiglu:
            continue
        settings = {
            "hidden_size": shape.dim, "num_hidden_layers": shape.depth, "num_attention_heads": shape.heads,
            "patch_size": 14, "image_size": 70, "mlp_ratio": 4, "use_swiglu_ffn": shape.swiglu,
        }  # fmt: skip
        made = "Dinov2WithRegisters" if shape.registers else "Dinov2"
        if shape.registers:
            settings["num_register_tokens"] = shape.registers
        torch.manual_seed(0)
        theirs = (
            getattr(library, f"{made}Model")(getattr(library, f"{made}Config")(**settings)).double().eval()
        )
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.2)
        theirs.save_pretrained(tmp_path / kind)  # in the names of its files, which are not those in memory
        wide = "weights_out" if shape.swiglu else "fc2"
        written_there = load_file(tmp_path / kind / "model.safetensors")
        hidden = written_there[f"encoder.layer.0.mlp.{wide}.weight"].shape[1]
        own = Shape(**{**asdict(shape), "hidden": hidden})
        model = config(own, tmp_path / kind)
        ours = create(model).double().eval()
        images = torch.randn(2, 3, 70, 70, dtype=torch.float64)
        with torch.no_grad():
            expected = theirs(images).last_hidden_state[:, 0]
            assert torch.allclose(ours(images), expected, atol=1e-5), kind


def test_weights_of_a_vit_of_transformers() -> None:
    """Phikon's layout: ViTModel, without LayerScale, with a pooler that no feature passes."""
    state = transformers(hub(PLAIN), "vit.")
    renamed = {
        key.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        .replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense"): value
        for key, value in state.items() if "layer_scale" not in key and "mask_token" not in key
    }  # fmt: skip
    laid = layouts.read(renamed | {"pooler.dense.weight": torch.zeros(2, 2)})
    network = timm.create_model("vit_small_patch14_dinov2", depth=3, embed_dim=24, num_classes=0)
    wanted = {key for key in network.state_dict() if ".ls" not in key}
    assert laid.state.keys() == wanted
    assert (laid.layout, laid.mask_token, laid.left_out) == ("transformers", None, ["pooler.dense.weight"])


@pytest.mark.parametrize(
    ("shape", "layout", "scheme"),
    [
        (PLAIN, "hub", "hub"),
        (PLAIN, "transformers", "hub"),
        (KINDS["registers"], "hub", "registers"),
        (KINDS["registers"], "transformers", "registers"),
    ],
)
def test_auto_is_what_the_weights_were_trained_with(
    tmp_path: Path, shape: Shape, layout: str, scheme: str
) -> None:
    path = written(tmp_path / "weights.pth", LAYOUTS[layout](hub(shape)))
    assert first_weights.positions(config(shape, path)) == scheme


def test_auto_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="auto knows no scheme for random; give once, or hub"):
        first_weights.positions(config(PLAIN, "random"))
    with pytest.raises(ModelError, match="model.positions: auto is not settled"):
        as_dino(torch.nn.Linear(1, 1), scheme="auto")


def test_a_vit_g_has_the_published_number_of_parameters() -> None:
    """1,136,480,768 of dinov2_vitg14 with its mask token, which timm's has not (its card says 1136.5 M)."""
    with torch.device("meta"):
        network = timm.create_model("vit_giant_patch14_dinov2", num_classes=0)
        shape = Shape(dim=1536, depth=40, heads=24, grid=37, swiglu=True, hidden=4096)
        by_hand = sum(value.numel() for value in _meta(shape).values())
    assert sum(p.numel() for p in network.parameters()) + 1536 == by_hand == 1_136_480_768


def _meta(shape: Shape) -> dict[str, torch.Tensor]:
    """The hub's names and shapes, worked out from one block."""
    one = {key: tuple(value.shape) for key, value in hub(Shape(depth=1, swiglu=True)).items()}
    sizes = {24: shape.dim, 72: 3 * shape.dim, 64: shape.hidden, 128: 2 * shape.hidden, 26: 1 + shape.grid**2}
    found = {}
    for key, dims in one.items():
        made = torch.empty([sizes.get(side, side) for side in dims], device="meta")
        numbers = range(shape.depth) if key.startswith("blocks.") else range(1)
        found |= {key.replace("blocks.0.", f"blocks.{number}."): made for number in numbers}
    return found


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, with one repository of transformers, and nobody to ask."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--kind--encoder"
    snapshot = folder / "snapshots" / ("a" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    save_file({k: v.clone() for k, v in transformers(hub(PLAIN)).items()}, folder / "blobs" / "weights")
    (snapshot / "model.safetensors").symlink_to(folder / "blobs" / "weights")
    (snapshot / "config.json").write_text(json.dumps({"architectures": ["Dinov2Model"], "hidden_size": 24}))
    (snapshot / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
    )
    return tmp_path


def test_a_repository_of_the_hub(cache: Path) -> None:
    images = torch.randn(1, 3, 70, 70)
    expected = forward(hub(PLAIN), images, PLAIN)
    for init in ("hf:kind/encoder", f"hf:kind/encoder@{'a' * 40}"):
        model = config(PLAIN, init)
        assert torch.allclose(create(model).eval()(images).double(), expected, atol=1e-4)
        said = misfit(model)
        assert said is not None
        assert "hf:kind/encoder" in said
        assert "learnt with mean [0.5, 0.5, 0.5]" in said
        assert first_weights.digest(model) == first_weights.digest(
            config(PLAIN, cache / "models--kind--encoder" / "blobs" / "weights")
        )


def test_weights_in_several_files(tmp_path: Path) -> None:
    state = hub(PLAIN)
    keys = sorted(state)
    halves = {"model-00001-of-00002.safetensors": keys[:20], "model-00002-of-00002.safetensors": keys[20:]}
    for name, part in halves.items():
        save_file({key: state[key].clone() for key in part}, tmp_path / name)
    index = {"weight_map": {key: name for name, part in halves.items() for key in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    images = torch.randn(1, 3, 70, 70)
    network = create(config(PLAIN, tmp_path)).eval()
    assert torch.allclose(network(images).double(), forward(state, images, PLAIN), atol=1e-4)
    index["weight_map"]["norm.bias"] = "../elsewhere.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="names a file elsewhere"):
        create(config(PLAIN, tmp_path))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            "hf:kind/absent",
            r"hf download kind/absent --local-dir FOLDER\) and give the folder: model.init=/path",
        ),
        ("hf:kind/encoder@old", r"hf:kind/encoder@old cannot be fetched"),
        ("hf:no repository's name!", "cannot be fetched"),
    ],
)
def test_repositories_that_cannot_be_had(cache: Path, init: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create(config(PLAIN, init))
