"""Images of coloured discs with their masks, as the programs that people use write them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

Ints = npt.NDArray[np.int32]
PALE, KINDS = (235, 215, 230), ((120, 60, 150), (60, 90, 190), (190, 60, 90))


def discs(
    side: int = 64, seed: int = 0, count: int = 6, kinds: int = 2
) -> tuple[npt.NDArray[np.uint8], Ints, Ints]:
    """An image (side, side, 3), its objects and its classes 1 to ``kinds``; discs do not touch."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    objects, classes = np.zeros((2, side, side), np.int32)
    places = [(row, column) for row in range(10, side - 8, 18) for column in range(10, side - 8, 18)]
    for number, place in enumerate(rng.permutation(len(places))[:count], start=1):
        row, column = places[place]
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= rng.integers(25, 50)
        objects[inside], classes[inside] = number, (number - 1) % kinds + 1
    pixels = np.array([PALE, *KINDS])[classes] + rng.normal(0, 6, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), objects, classes


def table_folder(
    path: Path, groups: Sequence[str], splits: Sequence[str], side: int = 64, inst: bool = True
) -> Path:
    """Images, class and object PNGs of 8 and 16 bits, and their index.csv."""
    path.mkdir(parents=True)
    rows = ["file,class_mask" + ",inst" * inst + ",patient,split"]
    for seed, (group, split) in enumerate(zip(groups, splits, strict=True)):
        pixels, objects, classes = discs(side, seed)
        Image.fromarray(pixels).save(path / f"{seed}.png")
        Image.fromarray(classes.astype(np.uint8)).save(path / f"{seed}_class.png")
        Image.fromarray(objects.astype(np.uint16)).save(path / f"{seed}_inst.png")
        rows.append(f"{seed}.png,{seed}_class.png" + f",{seed}_inst.png" * inst + f",{group},{split}")
    (path / "index.csv").write_text("\n".join(rows))
    return path


def consep_folder(path: Path, train: int = 3, test: int = 2, side: int = 64) -> Path:
    """Train and Test with Images and Labels, as Warwick's archive has them; seven types."""
    for name, count in (("Train", train), ("Test", test)):
        for kind in ("Images", "Labels", "Overlay"):
            (path / name / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            pixels, objects, _ = discs(side, number + 10 * (name == "Test"))
            types = np.where(objects > 0, (objects - 1) % 6 + 2, 0)
            stem = f"{name.lower()}_{number}"
            Image.fromarray(pixels).save(path / name / "Images" / f"{stem}.png")
            Image.fromarray(pixels).save(path / name / "Overlay" / f"{stem}.png")
            arrays = {"inst_map": objects.astype(float), "type_map": types.astype(float)}
            savemat(path / name / "Labels" / f"{stem}.mat", {**arrays, "inst_type": np.ones((6, 1))})
    return path


def imagescope(
    path: Path, layers: Sequence[tuple[str, Sequence[tuple[str, Sequence[Sequence[float]]]]]]
) -> Path:
    """XML of Aperio ImageScope: layers of (attribute name, [(attributes of the region, vertices)])."""
    lines = ['<Annotations MicronsPerPixel="0.25">']
    for number, (name, regions) in enumerate(layers, start=1):
        lines.append(f'<Annotation Id="{number}" Name="" Type="4" LineColor="255"><Attributes>')
        lines.append(f'<Attribute Name="{name}" Id="0" Value=""/></Attributes><Regions>')
        lines.append(
            '<RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region"/></RegionAttributeHeaders>'
        )
        for place, (more, vertices) in enumerate(regions, start=1):
            lines.append(f'<Region Id="{place}" {more}><Attributes/><Vertices>')
            lines += [f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in vertices]
            lines.append("</Vertices></Region>")
        lines.append("</Regions><Plots/></Annotation>")
    path.write_text("\n".join([*lines, "</Annotations>"]))
    return path


def square(left: float, top: float, side: float) -> list[list[float]]:
    """A ring of x, y."""
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side], [left, top]]


def qupath(path: Path, objects: Sequence[tuple[str | None, str, object]], kind: str = "detection") -> Path:
    """GeoJSON as QuPath 0.5 exports objects: (class, type of geometry, coordinates)."""
    features = []
    for name, shape, coordinates in objects:
        properties: dict[str, object] = {"objectType": kind}
        if name is not None:
            properties["classification"] = {"name": name, "color": [200, 0, 0]}
        geometry = {"type": shape, "coordinates": coordinates}
        features.append({"type": "Feature", "id": "x", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
