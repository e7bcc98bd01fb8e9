"""Runs of three stages that take seconds: settings, slides of two colours and their labels."""

from pathlib import Path

from helpers.toys import TINY, noise, write_dataset

HEAD = "{out_dim: 32, hidden_dim: 24, bottleneck_dim: 8, layers: 2, norm_last_layer: true}"
REGION = (
    "region: {weight: 0.5, batch: 4, side: 2, min_tiles: 0.5, flip: 0.5, "
    "globals: {count: 2, size: 2}, locals: {count: 2, size: 1}, teacher_temp: 0.03, center_momentum: 0.7}"
)
FIRST = f"{{name: first, steps: 4, alternate: in_turn, tile: {{weight: 1.0, batch: 4}}, {REGION}}}"
SECOND = (
    f"{{name: second, steps: 4, alternate: together, lr: 0.001, tile: {{weight: 0.5, batch: 4}}, {REGION}, "
    "slide: {weight: 1.0, batch: 2, side: 2, draw: 3, orient: true, class_weights: balanced, "
    "chunk: 5}, validate_every: 2}"
)
SMALL = (
    *TINY,
    "hierarchy.tile=32",
    "hierarchy.stage2={dim: 16, depth: 1, heads: 2, dropout: 0.1}",
    "hierarchy.stage3={dim: 16, depth: 1, heads: 2, dropout: 0.1, drop_path: 0.1}",
    f"hierarchy.region_head={HEAD}",
    f"dino.head={HEAD}",
    "dino.drop_path=0.1",
    "log_every=1",
    "stain={mode: jitter, basis: hed, concentration: 0.1}",
)
COLOURS = {"a": (180, 90, 160), "b": (90, 160, 90)}


def write_slides(root: Path, more: dict[str, int] | None = None) -> Path:
    """A dataset of eight slides of 9 to 16 tiles, of two colours; ``more``: name and tiles, of the first."""
    slides = {
        f"{kind}{number}": noise(9 + number * 2 + (kind == "a"), colour=colour, seed=number)
        for kind, colour in COLOURS.items()
        for number in range(4)
    }
    for name, count in (more or {}).items():
        slides[name] = noise(count, colour=COLOURS["a"], seed=count)
    return write_dataset(root, slides)


def write_labels(path: Path, more: tuple[str, ...] = ()) -> Path:
    """Two tasks, the second mostly unknown; two slides for validation. ``more`` are trained on."""
    rows = ["slide_id,split,patient,colour,odd"]
    for kind in COLOURS:
        for number in range(4):
            odd = ("even", "odd")[number % 2] if number < 2 else ""
            rows.append(f"{kind}{number},{'val' if number == 3 else 'train'},{kind}{number},{kind},{odd}")
    rows += [f"{name},train,{name},a," for name in more]
    path.write_text("\n".join(rows) + "\n")
    return path
