"""What to say of shards that only the command that made them makes again."""

from pathprep.storage.base import Storage

# kind of a folder (folders.kind_of) -> its command, and what it takes
COMMANDS = {
    "slides": ("shard", "SLIDES"),
    "tiles": ("import-tiles", "SOURCE"),
    "mixed": ("mix", "DATASET..."),
}


def made_again(storage: Storage, kind: str, *, secret: bool = False) -> str:
    """The command that makes what is missing in a folder, as one can type it; the last one if it was saved.

    Args:
        kind: see folders.kind_of. secret: it is pseudonymised, so that the command needs the key file.
    """
    command, inputs = COMMANDS[kind]
    out, saved = f"--out {storage.root}", f"{command}.yaml"
    out += " --pseudonymise KEYFILE" if secret else ""
    if storage.exists(saved):  # it names the folder as it was; that may have been moved
        return f"`pathprep {command} --config {storage.root / saved} {out}`"
    return f"`pathprep {command} {inputs} {out}`, with what it was made from,"
