"""What to say of shards that only the command that made them makes again."""

import re

from pathprep.errors import PathprepError
from pathprep.storage.base import Storage
from pathprep.words import command

# kind of a folder (folders.kind_of) -> its command, what it takes, and as what that is saved
COMMANDS = {
    "slides": ("shard", "SLIDES", "slides"),
    "tiles": ("import-tiles", "SOURCE", "source"),
    "mixed": ("mix", "DATASET...", "datasets"),
    "survey": ("survey", "SLIDES", "slides"),
}


def made_again(
    storage: Storage, kind: str, *, secret: bool = False, rebuild: bool = False, place: str = ""
) -> str:
    """The command that makes what is missing in a folder, as one can type it; the last one if it was saved.

    Args:
        kind: see folders.kind_of. secret: it is pseudonymised, so that the command needs the key file.
        place: what stands for the inputs, if they are no longer where they were.
        rebuild: finished shards too, which the command would keep: it compares sizes, and not every byte.
    """
    name, inputs, key = COMMANDS[kind]
    inputs = place or inputs
    options = ["--out", storage.root]
    options += ["--pseudonymise", "KEYFILE"] if secret and kind != "mixed" else []
    options += ["--rebuild"] if rebuild and kind != "mixed" else []
    saved = f"{name}.yaml"
    try:
        values = storage.read(saved)
    except (OSError, PathprepError):  # it says where to go on, and is needed for nothing else
        values = None
    if values is None:
        return f"{command(f'pathprep {name} {inputs}', *options)}, with what it was made from,"
    named = not place and re.search(
        rf"^{key}:".encode(), values, re.MULTILINE
    )  # not where there are pseudonyms
    given = f"pathprep {name}" if named else f"pathprep {name} {inputs}"
    also = "" if named or kind == "mixed" else ", with the --masks or --target that it had, if any,"
    # it names the folder as it was; that may have been moved
    return command(given, "--config", storage.root / saved, *options) + also
