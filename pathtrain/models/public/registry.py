"""The public encoders that are known by name: registry.yaml beside this file. No torch is imported.

    entry("uni2-h").width   1536

Facts only: what their authors published, with sources. Weights are fetched from where they lie, under their
own licences, or given as a file.
"""

from difflib import get_close_matches
from functools import cache
from importlib import resources

import yaml

from pathtrain.models.public.schema import Entry


@cache
def entries() -> dict[str, Entry]:
    """All of them by name, in the order of the file."""
    text = resources.files(__package__).joinpath("registry.yaml").read_text()
    found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml's is ten times as fast
    return {name: Entry.model_validate(values) for name, values in found.items()}


def entry(name: str) -> Entry | None:
    """The encoder of a name, in whatever case; None if there is none."""
    return entries().get(name.lower())


def of_hub(repository: str) -> str | None:
    """The name of the encoder whose weights are in a repository of the hub; None if it is none of these."""
    return next(
        (name for name, each in entries().items() if (each.hub or "").lower() == repository.lower()), None
    )


def similar(name: str) -> list[str]:
    """Names that look like one that is not known, the nearest first."""
    wanted = name.lower()
    parts = [each for each in entries() if wanted in each or each in wanted]
    close = get_close_matches(wanted, entries(), n=3, cutoff=0.6)
    return list(dict.fromkeys([*close, *parts]))[:3]
