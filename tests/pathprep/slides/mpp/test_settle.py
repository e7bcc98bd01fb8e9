"""What descriptions and tags state, and what is made of it: a resolution, or an error that quotes."""

from pathlib import Path

import pytest

from pathprep.errors import MppError
from pathprep.slides.mpp.header import Header
from pathprep.slides.mpp.settle import Mpp, MppRules, others, settle

WIDTH, HEIGHT = 1536, 1280
APERIO = (
    "Aperio Image Library v11\r\n1536x1280 [0,0 1536x1280] (240x240) JPEG/RGB|AppMag = 20|{}|Left = 25,69"
)
DEFAULT = (9.0, "--default-mpp")
PER_CM, PER_INCH, NO_UNIT = 3, 2, 1


def of(
    description: str = "", x: object = None, unit: object = None, xmp: str = "", **rules: float | None
) -> Mpp:
    vendor = "aperio" if description.startswith("Aperio") else "generic-tiff"
    header = Header(Path("a.tif"), vendor, WIDTH, HEIGHT, description, xmp, x, x, unit)
    return settle(
        header.path, header.statements(), MppRules(**{"default": 9.0} | rules), header.magnification
    )


def aperio(figure: str) -> str:
    return APERIO.format(f"MPP = {figure}")


def ome(inside: str, schema: str = "2016-06", prefix: str = "") -> str:
    space = f"xmlns{':' + prefix if prefix else ''}"
    p = f"{prefix}:" if prefix else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><!-- <Pixels PhysicalSizeX="7"/> -->'
        f'<{p}OME {space}="http://www.openmicroscopy.org/Schemas/OME/{schema}">'
        f'<{p}Image ID="Image:1" Name="a>b macro">'
        f'<{p}Pixels SizeX="90" SizeY="80" PhysicalSizeX="8" PhysicalSizeY="8"/></{p}Image>'
        f"<{p}Image ID='Image:0'><{p}Pixels BigEndian=\"true\" SizeX='1536' SizeY='1280' {inside}/>"
        f"</{p}Image></{p}OME>"
    )


def sizes(x: object, unit: str | None = None, y: object = None) -> str:
    given = {"X": x, "Y": x if y is None else y}
    return " ".join(
        f'PhysicalSize{axis}="{value}"' + (f' PhysicalSize{axis}Unit="{unit}"' if unit is not None else "")
        for axis, value in given.items()
    )


@pytest.mark.parametrize(
    "figure",
    [
        "0,4990",
        "0.4990",
        "0.499 µm/px",
        "499 nm",
        "0.499um",
        ".499",
        "4,99E-1",
        "0.499 microns per pixel",
        "+0.499",
    ],
)
def test_aperio(figure: str) -> None:
    assert of(aperio(figure)) == (pytest.approx(0.499), "aperio.MPP")


@pytest.mark.parametrize(
    ("size", "unit"),
    [
        (0.5, None), (0.5, "µm"), (0.5, "\u03bcm"), (0.5, "um"), (0.5, "&#181;m"), (0.5, "\u00c2\u00b5m"),
        (0.5, "\ufffdm"), (0.5, "?m"), (0.5, "micron"), (0.5, "micrometers"), (500, "nm"), ("0,0005", "mm"),
        (5e-5, "cm"), (5e-7, "m"), (5000, "Å"), (5000, "\u212b"), (500_000, "pm"), (0.5 / 25_400, "in"),
        (0.5 / 25_400, "inch"), (0.5 * 72 / 25_400, "pt"), (0.5 / 25.4, "thou"), ("0.5 µm", None),
        ("500 nm", "nm"), (0.5, ""),
    ],
)  # fmt: skip
def test_ome_in_every_unit(size: object, unit: str | None) -> None:
    assert of(ome(sizes(size, unit))) == (pytest.approx(0.5), "OME-XML")


@pytest.mark.parametrize("schema", ["2007-06", "2010-06", "2013-06", "2015-01", "2016-06"])
@pytest.mark.parametrize("prefix", ["", "ome"])
def test_ome_of_every_schema(schema: str, prefix: str) -> None:
    assert of(ome(sizes(0.5), schema, prefix)).value == 0.5


def test_ome_of_2003_states_it_on_the_image() -> None:
    text = '<OME xmlns="http://www.openmicroscopy.org/XMLschemas/OME/FC/ome.xsd">'
    text += '<Image PixelSizeX="0.5" PixelSizeY="0.5">'
    assert of(text + '<Pixels SizeX="1536" SizeY="1280"/></Image></OME>') == (0.5, "OME-XML")


def test_ome_that_is_cut_off_still_states_what_it_states() -> None:
    assert of(ome(sizes(0.5))[:-20]).value == 0.5


def test_ome_metadata_in_a_companion_file(tmp_path: Path) -> None:
    text = '<OME><BinaryOnly MetadataFile="../x/a.companion.ome" UUID="urn:uuid:1"/></OME>'
    header = Header(tmp_path / "a.ome.tif", "generic-tiff", WIDTH, HEIGHT, text)
    with pytest.raises(
        MppError, match=r"MetadataFile = .*a\.companion\.ome, its metadata stands in that file"
    ):
        settle(header.path, header.statements(), MppRules(default=0.25))
    (tmp_path / "a.companion.ome").write_text(ome(sizes(500, "nm")), "utf-8")
    assert settle(header.path, header.statements(), MppRules(default=0.25)) == (0.5, "OME-XML")


VIPS = "<image><properties>{}</properties></image>"
VIPS_PROPERTY = '<property><name>{}</name><value type="VipsRefString">0.25</value></property>'
PHILIPS = (
    '<DataObject ObjectType="DPUfsImport">'
    '<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.0005" "0.0005"</Attribute>'
    '<Attribute Name="DICOM_PIXEL_SPACING">&quot;0.00025&quot; &quot;0.00025&quot;</Attribute>'
    "</DataObject>"
)
SCN = (
    '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
    '<image><pixels sizeX="1536" sizeY="1280"/>{}</image></scn>'
)


@pytest.mark.parametrize(
    ("description", "source"),
    [
        ("mpp=0.25, mag=20", "description, mpp"),
        ("MPP: 0,25", "description, MPP"),
        ("level=0 mag=40 mpp=0.25", "description, mpp"),
        ("MPP X = 0.25|MPP Y = 0.25", "description, MPP X"),
        ("Pixel size (um) = 0.25\nCamera = x", "description, Pixel size (um)"),
        ("Resolution = 4000 px/mm", "description, Resolution"),
        ("um/px: 0.25", "description, um/px"),
        ("PixelWidth = 0.25 µm\nPixelHeight = 0.25 µm", "description, PixelWidth"),
        ('{"shape": [1280, 1536, 3], "mpp": 0.25}', "description, mpp"),
        ('{"mpp": {"x": "0,25", "y": 0.25}}', "description, mpp.x"),
        (
            '{"levels": [{"mm_x": 0.00025, "mm_y": 0.00025}, {"mm_x": 0.0005, "mm_y": 0.0005}]}',
            "description, mm_x",
        ),
        (
            VIPS.format("".join(VIPS_PROPERTY.format(f"openslide.mpp-{axis}") for axis in "xy")),
            "description, openslide.mpp-x",
        ),
        (VIPS.format(VIPS_PROPERTY.format("aperio.MPP")), "description, aperio.MPP"),
        ("<OME><M K='MPP'>0.25</M></OME>", "description, MPP"),
        ("<OriginalMetadata><Key>MPP</Key><Value>0.25</Value></OriginalMetadata>", "description, MPP"),
        ("<x><iScan Magnification='40' ScanRes='0,25'/></x>", "description, ScanRes"),
        (PHILIPS, "Philips XML"),
        (SCN.format('<view sizeX="384000" sizeY="320000"/>'), "Leica XML"),
    ],
)  # fmt: skip
def test_other_descriptions(description: str, source: str) -> None:
    assert of(description) == (pytest.approx(0.25), source)


def test_xmp_of_a_scanner() -> None:
    assert of(xmp='<EncodeInfo><iScan ScanRes="0.2325"/></EncodeInfo>') == (0.2325, "XMP, ScanRes")


IMAGEJ = "ImageJ=1.53t\nimages=1\nunit={}\nspacing=1.0\n"


@pytest.mark.parametrize(
    ("x", "unit", "description", "source"),
    [
        ((20_000, 1), PER_CM, "", "TIFF resolution tags"),
        ((508, 100), None, IMAGEJ.format("micron"), None),  # inch: its unit says otherwise, 5000 micrometres
        ((50_800, 1), PER_INCH, "", "TIFF resolution tags"),
        ((50_800, 1), None, "", "TIFF resolution tags"),
        ("20000", "centimeter", "", "TIFF resolution tags"),
        ((2_000, 1), 4, "", "TIFF resolution tags"),
        ((2, 1), NO_UNIT, IMAGEJ.format("micron"), "ImageJ description"),
        ((2, 1), NO_UNIT, IMAGEJ.format("\\u00B5m"), "ImageJ description"),
        ((2_000, 1), NO_UNIT, IMAGEJ.format("mm"), "ImageJ description"),
        ((20_000, 1), PER_CM, IMAGEJ.format("cm"), "TIFF resolution tags"),
    ],
)
def test_tags(x: object, unit: object, description: str, source: str | None) -> None:
    if source is None:
        with pytest.raises(MppError, match=r"5000 MPP .* is outside"):
            of(description, x, unit)
    else:
        assert of(description, x, unit) == (pytest.approx(0.5), source)


@pytest.mark.parametrize(
    ("x", "unit"),
    [
        ((1, 1), NO_UNIT), ((1, 1), PER_INCH), ((1, 1), PER_CM), ((72, 1), PER_INCH), ((96, 1), None),
        ((300, 1), PER_INCH), ((28_346_457, 1_000_000), PER_CM), ((28, 1), PER_CM), ((10, 1), PER_CM),
        ((0, 1), PER_INCH), ((0, 0), NO_UNIT), (None, None),
    ],
)  # fmt: skip
def test_what_programs_write_where_they_know_nothing_is_no_statement(x: object, unit: object) -> None:
    assert of("", x, unit) == DEFAULT
    assert of(aperio("0.25"), x, unit) == (0.25, "aperio.MPP")


@pytest.mark.parametrize(
    "description",
    [
        "", "no resolution", "The MPP is not known", aperio(""), APERIO.format("Filename = MPP.svs"),
        ome(sizes(0.5, "pixel")), ome(sizes(0.5, "reference frame")), ome(sizes("")), ome(""),
        "PixelWidth=1024;PixelHeight=100", "Resolution = 300 dpi", '{"shape": [1280, 1536, 3]}',
        IMAGEJ.format("pixel"), "<a><b/></a>",
    ],
)  # fmt: skip
def test_what_states_nothing_leaves_it_to_the_default(description: str) -> None:
    assert of(description) == DEFAULT


@pytest.mark.parametrize(
    ("description", "quoted"),
    [
        (aperio("abc"), "MPP = abc, it is no number"),
        (aperio("0,2,5"), "MPP = 0,2,5, it is no number"),
        (aperio("0_25"), "MPP = 0_25, it is no number"),
        (aperio("NaN"), "MPP = NaN, it is no number"),
        (aperio("0"), "MPP = 0, it is no length"),
        (aperio("-1"), "MPP = -1, it is no length"),
        (aperio("1e999"), "MPP = 1e999, it is no length"),
        (aperio("0.25 furlongs"), "its unit furlongs is not known"),
        (aperio("0.25\x1b[31m"), r"MPP = 0.25?\[31m"),
        (ome(sizes(0)), "PhysicalSizeX, Y = 0, it is no length"),
        (ome(sizes(-0.5, "µm")), "PhysicalSizeX, Y = -0.5 µm, it is no length"),
        (ome(sizes("NaN")), "PhysicalSizeX, Y = NaN"),
        (ome(sizes(0.5, "furlong")), "its unit furlong is not known"),
        (ome('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1"'), "one of its units is"),
        (ome(sizes("500 nm", "µm")), "it has two units, nm and µm"),
        ('<OME><Image><Pixels SizeX="1" PhysicalSizeX="0.2', 'PhysicalSizeX="0.2, where the text is damaged'),
        ("PixelSize = 0.25", "PixelSize = 0.25, it has no unit"),
        ('{"mpp": NaN}', "mpp = NaN"),
        ("<x><iScan ScanRes='0.2.5'/></x>", "ScanRes = 0.2.5"),
        (aperio("99"), "99 MPP (aperio.MPP: MPP = 99) is outside 0.05 to 10"),
        (ome(sizes(0.25, "mm")), "250 MPP (OME-XML: PhysicalSizeX, Y = 0.25 mm) is outside"),
        (ome(sizes(0.5, "µm", 0.25)), "not square (0.5 x 0.25 MPP, OME-XML: PhysicalSizeX, Y = 0.5 µm x"),
        (APERIO.format("MPP = 0.2|MPP = 0.5"), "MPP = 0.2 (0.2 MPP); aperio.MPP: MPP = 0.5 (0.5 MPP)"),
    ],
)  # fmt: skip
def test_a_figure_that_is_not_understood_is_quoted_and_never_replaced(description: str, quoted: str) -> None:
    with pytest.raises(MppError) as caught:
        of(description)
    assert quoted.replace("\\[", "[") in str(caught.value)
    assert "state the true MPP in the mpp column of a CSV of slides" in str(caught.value)
    assert str(caught.value).isprintable()
    assert of(description, override=0.3) == (0.3, "CSV column")


@pytest.mark.parametrize(
    ("x", "unit", "quoted"),
    [
        ((20_000, 1), NO_UNIT, "20000 pixels per unit, without a unit, per cm it would be 0.5 MPP"),
        ((1, 2), NO_UNIT, "0.5 pixels per unit, without a unit, micrometres it would be 0.5 MPP"),
        (("a", "b"), PER_CM, "it is no number"),
        ((1, 2, 3), PER_CM, "it is no number"),
        ((2, 1), 9, "2 pixels per unit 9, its unit is not known"),
        ((100, 1), PER_INCH, "254 MPP (TIFF resolution tags: 100 pixels per inch) is outside"),
    ],
)
def test_tags_that_are_not_understood(x: object, unit: object, quoted: str) -> None:
    with pytest.raises(MppError) as caught:
        of("", x, unit)
    assert quoted in str(caught.value)


def test_places_that_contradict_one_another_are_all_quoted() -> None:
    with pytest.raises(
        MppError, match=r"aperio\.MPP: MPP = 0\.25 .*; TIFF resolution tags: 20000 pixels per cm \(0\.5 MPP"
    ):
        of(aperio("0.25"), (20_000, 1), PER_CM)
    with pytest.raises(MppError, match=r"OME-XML: .*; TIFF resolution tags: "):
        of(ome(sizes(0.25)), (20_000, 1), PER_CM)


def test_places_that_round_differently_agree_and_the_most_trusted_is_taken() -> None:
    assert of(aperio("0.5022"), (20_000, 1), PER_CM) == (0.5022, "aperio.MPP")


def test_a_figure_that_is_not_understood_gives_way_to_one_that_is() -> None:
    assert of(ome(sizes(0)), (20_000, 1), PER_CM) == (0.5, "TIFF resolution tags")
    # a resolution for a printer is no other opinion
    assert of(aperio("0.25"), (254, 1), PER_INCH) == (0.25, "aperio.MPP")


def test_a_magnification_is_no_resolution_and_worth_naming() -> None:
    with pytest.raises(
        MppError, match=r"does not state its MPP \(20x is a magnification.*\); give `default_mpp`"
    ):
        of(APERIO.format("ImageID = 1"), default=None)


def test_what_else_is_stated_is_told() -> None:
    header = Header(Path("a"), "aperio", WIDTH, HEIGHT, aperio("0.25"), "", (72, 1), (72, 1), PER_INCH)
    stated = header.statements()
    assert others(stated, settle(header.path, stated, MppRules())) == [
        "TIFF resolution tags: 72 pixels per inch, which programs write where they know no resolution"
    ]
    assert others(stated, settle(header.path, stated, MppRules(override=0.5)))[0].startswith(
        "aperio.MPP: MPP = 0.25"
    )


def test_the_figures_of_other_formats_are_read_where_openslide_reads_none() -> None:
    properties = {"ventana.ScanRes": "0.2.5"}
    header = Header.of_openslide(Path("a.bif"), "ventana", (WIDTH, HEIGHT), properties)
    with pytest.raises(MppError, match=r"ventana metadata: ScanRes = 0\.2\.5, it is no number"):
        settle(header.path, header.statements(), MppRules(default=0.25))
    good = Header.of_openslide(
        Path("a.bif"), "ventana", (9, 9), properties | {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    )
    assert settle(good.path, good.statements(), MppRules()) == (0.25, "ventana metadata")


@pytest.mark.parametrize("default", [0.5, 1.27])
def test_a_default_confirms_a_figure_without_a_unit(default: float) -> None:
    assert of("", (20_000, 1), NO_UNIT, default=default) == (default, "--default-mpp")


@pytest.mark.parametrize("default", [None, 0.25, 0.6])
def test_another_default_does_not_replace_it(default: float | None) -> None:
    with pytest.raises(MppError, match="20000 pixels per unit, without a unit, per cm it would be"):
        of("", (20_000, 1), NO_UNIT, default=default)
