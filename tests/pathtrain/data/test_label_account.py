"""What is said where a table of labels does not go with the slides."""

from pathtrain.data.label_account import how_named, nothing_fits


def test_a_table_of_own_names_beside_pseudonyms_names_the_command_that_mends_it() -> None:
    said = nothing_fits(["Meier 1"], {"sabcdefghij23", "szyxwvutsrq76-0a1b2c3d"}, "tiles")
    assert "`pathprep pseudonyms KEYFILE --labels TABLE --out NEW`" in said
    assert "stem" not in said
    said = nothing_fits(["Meier 1"], {"sabcdefghij23", "slide-2"}, "tiles")
    assert said.endswith("slides are named by their file's stem")


def test_drawings_are_told_how_files_are_named() -> None:
    assert "`pathprep pseudonyms KEYFILE SLIDE`" in how_named({"sabcdefghij23"}, drawings=True)
    assert how_named({"slide-2"}, drawings=True) == "slides are named by their file's stem"
