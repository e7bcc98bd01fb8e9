"""Backbones: sizes, first weights from files, and messages when they cannot be had."""

import socket
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from pathtrain.errors import ModelError
from pathtrain.models import backbone, weight_files
from pathtrain.models.backbone import build, create
from pathtrain.models.first_weights import misfit
from pathtrain.recipes.load import load
from pathtrain.recipes.model import ModelConfig

SMALL = {"img_size": 32, "patch_size": 16, "depth": 2, "embed_dim": 24, "num_heads": 2}


def config(init: str = "random", **kwargs: object) -> ModelConfig:
    return ModelConfig(name="vit_tiny_patch16_224", kwargs={**SMALL, **kwargs}, init=init)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, empty, and nobody to ask."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (48, 32)])
def test_takes_any_multiple_of_the_patch(height: int, width: int) -> None:
    assert build(config())(torch.zeros(2, 3, height, width)).shape == (2, 24)


@pytest.mark.parametrize("form", ["safetensors", "bare", "state_dict", "dino", "pathtrain"])
def test_weights_from_files(tmp_path: Path, form: str) -> None:
    state = build(config()).state_dict()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file({**state, "head.weight": torch.zeros(5, 24)}, path)
    else:
        prefixed = {f"module.backbone.{key}": tensor for key, tensor in state.items()}
        torch.save(
            {
                "bare": state,
                "state_dict": {"state_dict": prefixed, "epoch": 3},
                "dino": {"student": {}, "teacher": {**prefixed, "head.mlp.0.weight": torch.zeros(1)}},
                "pathtrain": {"teacher": {"backbone": state, "head": {}}, "step": 5},
            }[form],
            path,
        )
    images = torch.randn(2, 3, 32, 32)
    original = build(config())
    original.load_state_dict(state)
    assert torch.equal(create(config(str(path)))(images), original(images))


def test_position_embeddings_are_resampled(tmp_path: Path) -> None:
    torch.save(build(config()).state_dict(), tmp_path / "weights.pth")
    larger = create(config(str(tmp_path / "weights.pth"), img_size=64))
    assert larger.pos_embed.shape == (1, 17, 24)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 3}, "lacks 12 weights"),
        ({"depth": 1}, "has too much: 12 weights"),
        ({"embed_dim": 48}, "fit"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, kwargs: dict[str, int], message: str
) -> None:
    torch.save(build(config()).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=message):
        create(config(str(tmp_path / "weights.pth"), **kwargs))


@pytest.mark.parametrize(
    "name", ["absent.pth", "absent.safetensors", "noise.pth", "noise.safetensors", "list.pth"]
)
def test_files_that_hold_no_weights(tmp_path: Path, name: str) -> None:
    if name.startswith("noise"):
        (tmp_path / name).write_bytes(b"not weights at all" * 10)
    if name.startswith("list"):
        torch.save([1, 2], tmp_path / name)
    with pytest.raises(ModelError, match=name):
        create(config(str(tmp_path / name)))


def test_imagenet_weights_without_a_network(hub: Path) -> None:
    """The message says how to give a file instead."""
    with pytest.raises(ModelError, match=r"cannot be fetched.*model\.init=/path/to/file"):
        create(ModelConfig(name="vit_base_patch16_224", init="imagenet"))


def test_weights_of_a_tag_of_timm(hub: Path) -> None:
    tagged = config("timm:vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(
        ModelError, match=r"fetch model.safetensors of timm/vit_tiny_patch16_224.augreg_in21k e"
    ):
        create(tagged)
    folder = hub / "models--timm--vit_tiny_patch16_224.augreg_in21k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    state = build(config()).state_dict()
    classified = {**state, "head.weight": torch.zeros(5, 24), "head.bias": torch.zeros(5)}
    save_file(classified, folder / "snapshots" / ("a" * 40) / "model.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in create(tagged).state_dict().items())


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            "timm:vit_tiny_patch16_224.dyno",
            "no weights dyno of vit_tiny_patch16_224; its tags: augreg_in21k, ",
        ),
        ("timm:vit_tiny_patch16_224", "no weights without a tag of vit_tiny_patch16_224"),
        (
            "timm:vit_small_patch16_224.dino",
            "is of vit_small_patch16_224, model.name is vit_tiny_patch16_224",
        ),
        ("timm:vit_nonsense.dino", "no architecture vit_nonsense; is it timm:vit_tiny_patch16_224.TAG?"),
    ],
)
def test_tags_that_are_none_of_the_architecture(init: str, message: str) -> None:
    with pytest.raises(ModelError, match=rf"model.init: .*{message}"):
        create(config(init))


def test_an_exported_folder_gives_weights_and_a_run_says_how(tmp_path: Path) -> None:
    save_file(build(config()).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}'
    )
    create(config(str(tmp_path)))
    assert "learnt with mean [0.5, 0.5, 0.5]" in (misfit(config(str(tmp_path))) or "")
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ModelError, match=f"is a run; start from it with model.init=run:{tmp_path}"):
        create(config(str(tmp_path)))


@pytest.mark.parametrize("name", ["exaonepath1", "exaonepath2"])
def test_the_published_recipes_start_from_weights_that_know_their_colours(name: str) -> None:
    """The released code of EXAONEPath 1.0 normalises with .485 and .229; timm's default ViT-B/16 with .5."""
    assert misfit(load(name).model) is None
    said = misfit(load(name, ["model.init=imagenet"]).model)
    assert said is not None
    for part in (
        "learnt with mean [0.5, 0.5, 0.5] and std [0.5, 0.5, 0.5]",
        "the recipe has mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]",
        "Set model.mean=[0.5, 0.5, 0.5] model.std=[0.5, 0.5, 0.5]",
    ):
        assert part in said
    agreed = ["model.init=imagenet", "model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]"]
    assert misfit(load(name, agreed).model) is None
    assert misfit(load(name, ["model.init=/some/weights.pth"]).model) is None


@pytest.mark.parametrize("silent", [False, True])
def test_a_hub_that_cannot_be_reached_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: bool
) -> None:
    """It refuses, or takes the connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(weight_files, "ANSWER_S", 0.5)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        before = time.perf_counter()
        with pytest.raises(ModelError, match=r"cannot be fetched.*model\.init=/path/to/file"):
            create(ModelConfig(name="vit_base_patch16_224", init="imagenet"))
    assert time.perf_counter() - before < 30  # five tries of the hub's own take longer


@pytest.mark.parametrize("side", [96, 224, 256])
def test_a_224_px_model_takes_the_views_of_every_recipe(side: int) -> None:
    """Position embeddings are resampled to each size."""
    kwargs = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    vit = build(ModelConfig(name="vit_tiny_patch16_224", kwargs=kwargs))
    assert vit(torch.zeros(1, 3, side, side)).shape == (1, 24)


def test_imagenet_weights_where_there_are_none() -> None:
    with pytest.raises(ModelError, match="no imagenet weights"):
        create(ModelConfig(name="test_vit4", init="imagenet", kwargs={}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(name="vit_nonsense"), "timm cannot make vit_nonsense"),
        (ModelConfig(name="resnet18"), "timm cannot make resnet18"),
        (config(rope_type="cat"), "timm cannot make vit_tiny_patch16_224: .*rope_type"),
        (config(act_layer="nothing"), "timm cannot make vit_tiny_patch16_224"),
        (config(num_heads=0), "timm cannot make vit_tiny_patch16_224: .*zero"),
        (config(num_classes=3), "num_classes is set by pathtrain itself"),
    ],
)
def test_architectures_that_cannot_be_made(model: ModelConfig, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(model)


def test_equals_plain_timm() -> None:
    torch.manual_seed(0)
    ours = build(config())
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "size", "message"),
    [
        ({}, 24, r"views.locals.size=24: vit_tiny_patch16_224 cannot take it: .*patch size"),
        ({"global_pool": ""}, 32, r"gives 5 x 24 numbers per image .* is it global_pool\?"),
    ],
)
def test_what_does_not_go_with_the_views_is_said_before_training(
    kwargs: dict[str, object], size: int, message: str
) -> None:
    network = build(config(**kwargs))
    with pytest.raises(ModelError, match=message):
        backbone.check(network, config(**kwargs), {"views.locals.size": size})


def test_a_check_leaves_no_trace() -> None:
    network, before = build(config()), torch.random.get_rng_state()
    backbone.check(network, config(), {"views.globals.size": 32, "views.locals.size": 16})
    assert network.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_not_a_transformer() -> None:
    with pytest.raises(ModelError, match="resnet18: it is no vision transformer"):
        build(ModelConfig(name="resnet18"))
