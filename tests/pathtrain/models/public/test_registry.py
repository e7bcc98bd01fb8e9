"""The registry of public encoders: facts hold together, and each architecture is as large as published."""

import subprocess
import sys
from importlib import resources

import pytest
import torch
import yaml
from pydantic import ValidationError

from pathtrain.models import readouts
from pathtrain.models.any_network import any_network
from pathtrain.models.public import registry
from pathtrain.models.public.schema import Entry
from pathtrain.recipes.model import ModelConfig

NAMES = list(registry.entries())


def test_what_a_lab_looks_for_is_there() -> None:
    wanted = {
        "uni", "uni2-h", "virchow", "virchow2", "virchow2g-mini", "h-optimus-0", "h-optimus-1",
        "h0-mini", "prov-gigapath", "phikon", "phikon-v2", "hibou-b", "hibou-l", "kaiko-vits16",
        "kaiko-vits8", "kaiko-vitb16", "kaiko-vitb8", "kaiko-vitl14", "midnight-12k",
        "openmidnight", "conch", "musk", "ctranspath", "lunit-vits16", "lunit-vits8",
        "lunit-resnet50-bt", "lunit-resnet50-mocov2", "lunit-resnet50-swav", "pathdino-512",
        "exaonepath-1.0", "exaonepath-2.0", "dinov2-vits14", "dinov3-vits16", "imagenet-resnet50",
    }  # fmt: skip
    assert wanted <= set(NAMES)
    assert all(name == name.lower() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_has_the_published_parameters_and_width(name: str) -> None:
    """On the meta device: a billion parameters take no memory."""
    entry = registry.entries()[name]
    config = ModelConfig(
        name=entry.timm, kwargs=entry.arguments, mean=entry.mean, std=entry.std, positions=entry.positions
    )
    with torch.device("meta"):
        network = any_network(config).eval()
        images = torch.zeros(2, 3, entry.size, entry.size)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(entry.parameters, rel=0.01)
    readouts.fits(network, entry.readout, name)
    assert readouts.width(network, entry.readout) == entry.width
    assert readouts.features(network, images, entry.readout).shape == (2, entry.width)


@pytest.mark.parametrize("name", NAMES)
def test_facts_have_a_source_and_a_way_to_the_weights(name: str) -> None:
    entry = registry.entries()[name]
    assert all("." in source or source in ("timm", "torchvision") for source in entry.sources)
    assert (entry.hub is None) != (entry.url is None)
    assert entry.place.startswith("https://")
    assert entry.commercial is not None or entry.unsure  # what is not known is said
    if entry.hub is not None:
        assert registry.of_hub(entry.hub.upper()) == name


def test_names_that_are_nearly_right() -> None:
    assert registry.entry("UNI2-H") is registry.entries()["uni2-h"]
    assert registry.entry("uni9") is None
    assert registry.similar("uni2h")[0] == "uni2-h"
    assert registry.similar("virchow-2")[0] == "virchow2"
    assert registry.similar("zzzz") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("widht", 3),
        ("mean", [0.5, 0.5]),
        ("readout", "head"),
        ("sources", []),
        ("mpp", [0.5, -1]),
        ("size", 0),
    ],
)
def test_a_wrong_fact_is_refused(key: str, value: object) -> None:
    values = yaml.safe_load(resources.files("pathtrain.models.public").joinpath("registry.yaml").read_text())
    with pytest.raises(ValidationError):
        Entry.model_validate({**values["uni"], key: value})


def test_no_name_is_given_twice() -> None:
    """YAML would take the last one."""
    text = resources.files("pathtrain.models.public").joinpath("registry.yaml").read_text()
    first = [line.removesuffix(":") for line in text.splitlines() if line and line[0] not in " #"]
    assert first == NAMES


def test_reading_it_imports_no_torch() -> None:
    code = (
        "import sys; from pathtrain.models.public import registry; assert len(registry.entries()) >= 30\n"
        "assert not {'torch', 'timm', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
