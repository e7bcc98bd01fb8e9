"""Opening a model by whatever it is given as: names, files, folders, the hub's cache; and what is said."""

import json
import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from helpers import public_encoders as encoders
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import save_file
from timm.models._hub import save_for_hf

import pathtrain
from pathprep.errors import UsageError
from pathtrain.errors import ModelError, NoModelError
from pathtrain.evaluate.statistics import describe
from pathtrain.features.facts import described
from pathtrain.models import weight_files
from pathtrain.models.hub_errors import explained
from pathtrain.models.public import registry
from pathtrain.runs import public
from pathtrain.runs.meant import meant, of_entry
from pathtrain.runs.opening import opened

SMALL: dict[str, Any] = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, empty, and nobody to ask."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """UNI with two narrow blocks, and its weights."""
    entry = registry.entries()["uni"]
    kwargs = {**entry.arguments, **SMALL}
    made = entry.model_copy(update={"arguments": kwargs, "size": 32, "width": 24})
    monkeypatch.setitem(registry.entries(), "uni", made)
    return encoders.drawn(timm.create_model(made.timm, num_classes=0, **kwargs))


def in_cache(cache: Path, repository: str, files: dict[str, Any], revision: str = "main") -> None:
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text("a" * 40)
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        if name.endswith(".json"):
            (snapshot / name).write_text(json.dumps(content))
        elif name.endswith(".safetensors"):
            save_file(content, snapshot / name)
        else:
            torch.save(content, snapshot / name)


def tiles(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["kaiko-vits16", "pathdino-512", "lunit-resnet50-bt", "ctranspath"])
def test_the_small_ones_under_the_hubs_own_names(name: str, tmp_path: Path) -> None:
    """Whole architectures: random weights, saved as their authors' files are, and read back."""
    known = meant(name)
    assert known is not None
    random = opened(name, "random", seed=3)
    state = {key: value.clone() for key, value in random.module.state_dict().items()}
    laid: dict[str, Any] = {
        "kaiko-vits16": {**state, "head.weight": torch.zeros(3, 384)},
        "pathdino-512": {f"backbone.{key}": value for key, value in state.items()},
        "lunit-resnet50-bt": {**state, "fc.weight": torch.zeros(3, 2048), "fc.bias": torch.zeros(3)},
        "ctranspath": encoders.old_swin(state),
    }[name]
    torch.save(laid, tmp_path / "weights.pth")
    model = opened(name, tmp_path / "weights.pth")
    entry = registry.entries()[name]
    assert (model.name, model.mpp) == (name, entry.mpp[0])
    assert model.origin == f"{name}, weights weights.pth"  # not known to be the published ones
    assert (model.dim, model.readout, model.size) == (entry.width, entry.readout, entry.size)
    assert model.licence is not None
    assert model.licence.startswith(entry.licence)
    assert model.fingerprint == random.fingerprint
    found = model(tiles(entry.size)[:1])
    assert np.array_equal(found, random(tiles(entry.size)[:1]))
    assert found.shape == (1, entry.width)
    assert opened(name, "random", seed=4).fingerprint != model.fingerprint


def test_weights_of_another_patch_size_are_refused(tmp_path: Path) -> None:
    """timm would resample them, and features of another model's weights look like any others."""
    torch.save(opened("kaiko-vits8", "random").module.state_dict(), tmp_path / "s8.pth")
    with pytest.raises(ModelError, match="patches of 8 px, the network takes 16 px"):
        opened("kaiko-vits16", tmp_path / "s8.pth")


def test_random_weights_are_called_so_where_features_are_written() -> None:
    random = opened("kaiko-vits16", "random")
    facts = described(random, "float32")
    assert facts["encoder"] == "kaiko-vits16, random weights"
    assert "licence" not in facts


def test_a_name_a_repository_and_a_file_are_one_model(
    offline: Path, small: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    in_cache(offline, "MahmoodLab/UNI", {"pytorch_model.bin": small})
    torch.save(small, tmp_path / "uni.bin")
    save_file(small, tmp_path / "uni.safetensors")
    by_name = pathtrain.load("uni")
    others = [
        opened("UNI"),
        opened("public:uni"),
        opened("hf-hub:MahmoodLab/UNI"),
        opened("hf_hub:mahmoodlab/uni"),
        opened(Path("uni"), tmp_path / "uni.bin"),
        pathtrain.load("uni", weights=tmp_path / "uni.safetensors"),
    ]
    assert {model.fingerprint for model in others} == {by_name.fingerprint}
    assert {model.origin.partition(",")[0] for model in others} == {"uni"}
    mean = pathtrain.load("uni", readout="cls+mean")
    assert (mean.dim, by_name.dim) == (48, 24)
    assert mean.fingerprint != by_name.fingerprint
    assert np.array_equal(mean(tiles(32))[:, :24], by_name(tiles(32)))
    assert pathtrain.load("uni", readout="cls").fingerprint == by_name.fingerprint


def test_a_folder_of_that_name_goes_before_and_it_is_said(
    offline: Path,
    small: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    in_cache(offline, "MahmoodLab/UNI", {"pytorch_model.bin": small})
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "uni"
    folder.mkdir()
    opened("uni")  # an empty folder is no model
    assert "folder" not in caplog.text
    other = {key: value + 1 for key, value in small.items()}
    save_file(other, folder / "model.safetensors")
    config = {
        "architecture": "vit_large_patch16_224",
        "model_args": {**SMALL, "init_values": 1e-5},
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    own = opened("uni")
    assert "uni: the folder of that name is opened; public:uni is the public encoder" in caplog.text
    assert own.fingerprint != opened("public:uni").fingerprint
    assert own.config.mean == (0.5, 0.5, 0.5)


def test_a_folder_as_it_was_fetched_is_weights_and_a_model(
    small: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """`hf download MahmoodLab/UNI --local-dir FOLDER`: config.json and a pickle of plain tensors."""
    torch.save(small, tmp_path / "pytorch_model.bin")
    arguments = {**SMALL, "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": True}
    config = {"architecture": "vit_large_patch16_224", "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    named, folder = opened("uni", tmp_path), opened(tmp_path)
    assert np.array_equal(named(tiles(32)), folder(tiles(32)))
    assert (named.mpps, folder.mpps, folder.origin) == ((0.5,), (), str(tmp_path))


def test_the_epsilon_of_norms_is_one_by_name_and_folder_and_part_of_what_it_is(
    monkeypatch: pytest.MonkeyPatch, offline: Path, tmp_path: Path
) -> None:
    """ViTModel's is 1e-12, timm's 1e-6: of tokens that hardly vary other features, of the same weights."""
    entry = registry.entries()["phikon"]
    made = entry.model_copy(update={"arguments": SMALL, "size": 32, "width": 24})
    monkeypatch.setitem(registry.entries(), "phikon", made)
    state = timm.create_model(made.timm, num_classes=0, **SMALL).state_dict()
    folder = tmp_path / "it"
    folder.mkdir()
    save_file({name: value.clone() for name, value in state.items()}, folder / "model.safetensors")
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        state[name] = state[name] * 1e-3
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "faint.safetensors")
    plain = opened("phikon", tmp_path / "faint.safetensors")
    assert {m.eps for m in plain.module.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-12}
    config = {"model_type": "vit", "layer_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((tmp_path / "faint.safetensors").read_bytes())
    beside = opened("phikon", folder)
    assert not np.allclose(beside(tiles(32)), plain(tiles(32)), atol=1e-3)
    assert beside.fingerprint != plain.fingerprint
    assert opened(beside, readout="mean").fingerprint != opened(plain, readout="mean").fingerprint
    files = {"config.json": config, "model.safetensors": state}
    in_cache(offline, "owkin/phikon", files)
    assert opened("phikon").fingerprint == beside.fingerprint
    again = opened(opened(beside, "random", seed=5), "random", seed=6)
    assert (again.epsilon, again.module.norm.eps) == (1e-5, 1e-5)
    config["layer_norm_eps"] = "small"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="layer_norm_eps is no number"):
        opened("phikon", folder)


def test_the_licence_is_said_by_one_process(
    small: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pathtrain")
    save_file(small, tmp_path / "uni.safetensors")
    for rank in ("0", "1", "7"):
        monkeypatch.setenv("RANK", rank)
        opened("uni", tmp_path / "uni.safetensors")
    assert caplog.text.count("uni: licence CC-BY-NC-ND-4.0") == 1


def test_a_result_says_readout_origin_and_licence(small: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(small, tmp_path / "uni.safetensors")
    said = describe(opened("uni", tmp_path / "uni.safetensors", "mean"))
    assert (said["readout"], said["origin"]) == ("mean", "uni, weights uni.safetensors")
    assert said["licence"].startswith("CC-BY-NC-ND-4.0")
    model = replace(opened("uni", tmp_path / "uni.safetensors"), origin=str(tmp_path), name="it")
    assert describe(model)["origin"] == "it", "of a folder no path"


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "xcit_nano_12_p16_224", "hiera_tiny_224", "pvt_v2_b0"])
def test_networks_of_timm_whose_patches_do_not_say_a_size(name: str) -> None:
    """Several kinds of patches, a number instead of a pair, or nothing."""
    model = opened(name, "random")
    side = model.size
    assert model(tiles(side)).shape == (2, model.dim)
    with pytest.raises(UsageError):
        model(tiles(side + 8))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k"])
def test_a_folder_that_timm_wrote(name: str, safe: bool, tmp_path: Path) -> None:
    """timm's own writer, with the classifier, the channels and the licence that its configurations hold."""
    network = timm.create_model(name).eval()
    save_for_hf(network, tmp_path, safe_serialization=safe)
    model = opened(tmp_path)
    assert (model.size, model.dim, model.licence) == (224, network.num_features, "apache-2.0")
    network.reset_classifier(0)
    images = model.normalised(torch.from_numpy(tiles(224)).permute(0, 3, 1, 2).float() / 255)
    with torch.inference_mode():
        assert np.array_equal(model(tiles(224)), network(images).numpy())


@pytest.mark.parametrize(
    "config",
    [
        {"input_size": [3, 32, 32], "license": "mit"},  # timm's first form
        {"model_args": {**SMALL, "in_chans": 3, "global_pool": ""}, "license": "mit"},
    ],
)
def test_a_configuration_of_timm_in_other_words(config: dict[str, Any], tmp_path: Path) -> None:
    """Prov-GigaPath's names the channels, Virchow's pools nothing: a vector a tile all the same."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **config.get("model_args", SMALL))
    if "model_args" not in config:
        network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    whole = {"architecture": "vit_tiny_patch16_224", **config}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    model = opened(tmp_path)
    assert (model.size, model.licence, model.readout) == (32, "mit", "cls")
    assert model(tiles(32)).shape == (2, model.dim)
    four = {**whole, "model_args": {**config.get("model_args", {}), "in_chans": 4}}
    (tmp_path / "config.json").write_text(json.dumps(four))
    with pytest.raises(ModelError, match="its images have 4 channels"):
        opened(tmp_path)


def test_what_no_feature_passes_is_said_once(
    small: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.save({**small, "head.weight": torch.zeros(2, 24), "head.bias": torch.zeros(2)}, tmp_path / "w.pth")
    opened("uni", tmp_path / "w.pth")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"uni: {tmp_path / 'w.pth'}: left out, no feature passes them: head.bias, head.weight",
        "uni: licence CC-BY-NC-ND-4.0, no commercial use (https://huggingface.co/MahmoodLab/UNI)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("norm.bias"), r"lacks 1 weights \(norm.bias\): these are not its weights"),
        (
            lambda state: state.update({"blocks.0.new": torch.zeros(1)}),
            r"has too much: 1 weights \(blocks.0.new\)",
        ),
        (
            lambda state: state.update({"norm.bias": torch.zeros(7)}),
            r"norm.bias is \(7,\), the network .* \(24,\)",
        ),
        (lambda state: [state.pop(key) for key in list(state) if ".ls" in key], "lacks 4 weights"),
    ],
)
def test_weights_that_are_anothers(
    small: dict[str, torch.Tensor], tmp_path: Path, change: Any, message: str
) -> None:
    change(small)
    torch.save(small, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=f"^uni: {tmp_path / 'w.pth'} .*{message}"):
        opened("uni", tmp_path / "w.pth")


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.place),))

    place = ""


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    Bomb.place = str(tmp_path / "ran")
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    with pytest.raises(ModelError, match=r"uni: .*w\.pth cannot be read"):
        opened("uni", tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_another_grid_is_kept_and_resampled_as_the_authors_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Midnight's file has 37 x 37 positions and is used at 224 px; here 6 x 6 at 56."""
    entry = registry.entries()["midnight-12k"]
    kwargs = {"img_size": 56, "depth": 1, "embed_dim": 24, "num_heads": 2, "mlp_ratio": 4.0}
    made = entry.model_copy(update={"arguments": kwargs, "size": 56})
    state = encoders.drawn(timm.create_model(made.timm, num_classes=0, **{**kwargs, "img_size": 84}))
    torch.save(state, tmp_path / "w.pth")
    model = public.open_public(of_entry("midnight-12k", made), tmp_path / "w.pth")
    module: Any = model.module
    assert (model.size, model.config.kwargs["img_size"], module.patch_embed.grid_size) == (56, 84, (6, 6))
    assert (module.antialias, module.offset) == (False, 0.0)  # transformers' way
    assert model(tiles(56)).shape == (2, 48)


def test_names_of_timm(offline: Path) -> None:
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    with_head = {
        **{k: v.clone() for k, v in state.items()},
        "fc.weight": torch.zeros(9, 512),
        "fc.bias": torch.ones(9),
    }
    in_cache(offline, "timm/resnet18.tv_in1k", {"model.safetensors": with_head})
    model = opened("resnet18.tv_in1k")
    assert (model.origin, model.dim, model.readout, model.size) == (
        "timm:resnet18.tv_in1k",
        512,
        "pooled",
        224,
    )
    assert model.licence is not None
    assert model.licence.startswith("bsd-3-clause")
    assert opened("timm:resnet18.tv_in1k").fingerprint == model.fingerprint
    assert model(tiles(64)).shape == (2, 512)
    with pytest.raises(ModelError, match="hf download timm/resnet34"):
        opened("resnet34")
    with pytest.raises(UsageError, match="give multiples of 32"):
        model(tiles(72))


def test_a_repository_of_its_own(offline: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": SMALL,
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1] * 3, "std": [0.2] * 3, "license": "mit"},
    }
    in_cache(
        offline, "lab/encoder", {"model.safetensors": encoders.drawn(network), "config.json": config}, "v2"
    )
    model = opened("hf-hub:lab/encoder@v2")
    assert (model.name, model.origin, model.size) == ("encoder", "hf-hub:lab/encoder@v2", 32)
    assert (model.licence, model.config.mean) == ("mit", (0.1, 0.1, 0.1))
    with pytest.raises(ModelError, match=r"hf-hub:lab/encoder@v3: lab/encoder cannot be fetched"):
        opened("hf-hub:lab/encoder@v3")
    in_cache(offline, "lab/bare", {"model.safetensors": {"x": torch.zeros(1)}})
    with pytest.raises(ModelError, match="hf-hub:lab/bare: .*cannot be fetched"):
        opened("hf-hub:lab/bare")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "uni3",
            None,
            r"uni3: neither a run .* nor a public encoder \(`pathtrain models` lists them\); is it uni or",
        ),
        ("convnext_tin", None, "is it convnext_tiny"),
        ("public:nobody", None, "neither a run"),
        (
            "ctranspath",
            None,
            "not on the Hugging Face hub; fetch them from https://github.com/Xiyue-Wang/TransPath",
        ),
        ("uni", "start", "`weights` start: what uni began with is not known"),
        (
            "uni",
            "absent.pth",
            r"uni: absent.pth: no such file; `weights` is trained, start, random or a file",
        ),
        ("uni", None, r"uni: MahmoodLab/UNI cannot be fetched .*`weights` FILE"),
    ],
)
def test_what_cannot_be_opened_says_the_way_out(
    offline: Path, name: str, weights: str | None, message: str
) -> None:
    with pytest.raises((ModelError, UsageError), match=message):
        opened(name, weights)


def test_a_run_has_weights_of_its_own(offline: Path) -> None:
    model = replace(opened("kaiko-vits16", "random"), name="run")
    with pytest.raises(UsageError, match="`weights` w.pth: run has its own; a file is for public encoders"):
        opened(model, "w.pth")
    with pytest.raises(NoModelError, match="neither a run"):
        opened("runs/absent", "w.pth")


def test_refusals_of_the_hub_in_words() -> None:
    # as the client raises them, without the answer that it makes them from
    gated, absent = (kind.__new__(kind) for kind in (GatedRepoError, RepositoryNotFoundError))
    said = str(explained(gated, "MahmoodLab/UNI", "CC-BY-NC-ND-4.0", "uni: "))
    assert said.startswith(
        "uni: MahmoodLab/UNI asks to accept its licence first (CC-BY-NC-ND-4.0): do so at "
        "https://huggingface.co/MahmoodLab/UNI, and log in (`hf auth login`, or the variable HF_TOKEN). "
    )
    assert said.endswith("`weights` FILE")
    assert "there is no a/b on the hub, or it is not open to you" in str(explained(absent, "a/b", None))
    with pytest.raises(ZeroDivisionError):
        raise explained(ZeroDivisionError(), "a/b", None)


def test_the_side_that_a_preprocessor_makes(tmp_path: Path) -> None:
    for values, side in (
        ({"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}, 224),
        ({"do_center_crop": False, "crop_size": 224, "size": {"height": 392, "width": 392}}, 392),
        ({"size": 224}, 224),
        ({}, None),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        assert weight_files.crop(tmp_path) == side
