"""Times, events, numbers and ranks in tables as other programs write them, and what is wrong in some."""

import re
from pathlib import Path

import numpy as np
import pytest

from pathprep.errors import UsageError
from pathtrain.data import label_table, targets
from pathtrain.data.label_table import LabelTable
from pathtrain.params.tasks import Asked, asked

KNOWN = {f"s{n}" for n in range(1, 9)}
CBIOPORTAL = "OS_MONTHS,OS_STATUS:survival"
GDC = "days_to_death|days_to_last_follow_up,vital_status:survival"


def table(folder: Path, text: str) -> LabelTable:
    path = folder / "clinical.csv"
    path.write_text(text)
    return label_table.read([path], KNOWN)


def survival(folder: Path, text: str, task: str) -> targets.Times:
    found = table(folder, text)
    return targets.survival(found, asked(task, found.cells), range(len(found.slides)))


def test_cbioportal(tmp_path: Path) -> None:
    """Its file of patients, joined to slides: comments above, tabs, 0: and 1: before the words.

    cBioPortal/datahub#130: patients with OS_STATUS and no OS_MONTHS; #272: a time of 0.
    """
    text = (
        "#Patient Identifier\tSlide\tOverall Survival (Months)\tOverall Survival Status\n"
        "#STRING\tSTRING\tNUMBER\tSTRING\n"
        "PATIENT_ID\tslide_id\tOS_MONTHS\tOS_STATUS\n"
        "TCGA-1\ts1\t12.3\t1:DECEASED\nTCGA-2\ts2\t40\t0:LIVING\nTCGA-3\ts3\t\t1:DECEASED\n"
        "TCGA-4\ts4\t0\t0:LIVING\nTCGA-5\ts5\t[Not Available]\t\nTCGA-6\ts6\t7\tNA\n"
    )
    found = survival(tmp_path, text, CBIOPORTAL)
    np.testing.assert_array_equal(found.times, [12.3, 40, np.nan, 0, np.nan, np.nan])
    assert found.events.tolist() == [1, 0, -1, 0, -1, -1]
    assert found.account == [
        "1 slide left out: an event's state, but no time (s3)",
        "1 slide left out: a time, but no event (s6)",
        "1 slide has a time of 0",
    ]


def test_gdc(tmp_path: Path) -> None:
    """Two columns of times. TCGAbiolinks#324: dead without a time, alive with one, negative ones."""
    head = "case_submitter_id,slide_id,vital_status,days_to_death,days_to_last_follow_up\n"
    good = (
        head + "c1,s1,Dead,300,'--\nc2,s2,Alive,'--,900\nc3,s3,Dead,'--,80\n"
        "c4,s4,Dead,100,100\nc5,s5,Not Reported,'--,5\n"
    )
    found = survival(tmp_path, good, GDC)
    np.testing.assert_array_equal(found.times, [300, 900, np.nan, 100, np.nan])
    assert found.events.tolist() == [1, 0, -1, 1, -1]
    with pytest.raises(
        UsageError, match=re.escape("line 2: vital_status is Alive, but there is a time of the event")
    ):
        survival(tmp_path, head + "c1,s1,Alive,300,310\n", GDC)
    with pytest.raises(UsageError, match=re.escape("line 3: days_to_last_follow_up is -64, a negative time")):
        survival(tmp_path, head + "c1,s1,Dead,300,'--\nc2,s2,Alive,'--,-64\n", GDC)


@pytest.mark.parametrize(
    ("words", "events"),
    [
        ("1 0 1.0 0.0", [1, 0, 1, 0]),
        ("True False TRUE false", [1, 0, 1, 0]),
        ("Dead Alive dead LIVING", [1, 0, 1, 0]),
        ("1:Recurred/Progressed 0:DiseaseFree 1:PROGRESSION 0:CENSORED", [1, 0, 1, 0]),
        ("DECEASED LIVING unknown --", [1, 0, -1, -1]),
    ],
)
def test_words_of_events(words: str, events: list[int], tmp_path: Path) -> None:
    rows = "".join(f"s{n + 1},{n + 1},{word}\n" for n, word in enumerate(words.split()))
    assert survival(tmp_path, "slide_id,t,e\n" + rows, "t,e:survival").events.tolist() == events


@pytest.mark.parametrize("word", ["2", "maybe", "2:DEAD", "-1"])
def test_events_that_are_neither(word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clinical.csv, line 2: e is .*; give 1 where the event came and 0"):
        survival(tmp_path, f"slide_id,t,e\ns1,3,{word}\n", "t,e:survival")


@pytest.mark.parametrize("cell", ["soon", "inf", "1e999", "12 months"])
def test_times_that_are_no_numbers(cell: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2: t is .*, not a number"):
        survival(tmp_path, f"slide_id,t,e\ns1,{cell},1\n", "t,e:survival")


def test_numbers_with_decimal_commas_and_without(tmp_path: Path) -> None:
    found = table(tmp_path, "slide_id;age\ns1;61,5\ns2;NaN\ns3;70\n")
    np.testing.assert_array_equal(targets.numbers(found, "age", range(3)), [61.5, np.nan, 70])


def test_ranks_are_in_the_order_of_numbers_or_of_what_is_said(tmp_path: Path) -> None:
    found = table(tmp_path, "slide_id,isup,stage\ns1,10,II\ns2,9,I\ns3,2.0,\n")
    order, ranks = targets.ranks(found, asked("isup:ordinal", found.cells), range(3))
    assert (order, ranks.tolist()) == (["2", "9", "10"], [2, 1, 0])
    order, ranks = targets.ranks(found, asked("stage:ordinal:I<II<III", found.cells), range(3))
    assert (order, ranks.tolist()) == (["I", "II", "III"], [1, 0, -1])


def test_a_column_of_many_numbers_is_no_class_even_if_it_is_named(tmp_path: Path) -> None:
    rows = "".join(f"s{n + 1},{n % 4},{n / 7:.3f}\n" for n in range(8))
    found = table(tmp_path, "slide_id,few,many\n" + rows)
    many = LabelTable(**{**vars(found), "labels": {**found.labels, "many": [f"{n}.5" for n in range(40)]}})
    assert targets.kind_of(found, "few", range(8)) == "classes"
    assert targets.kind_of(many, "many", range(40)) == "regression"


def test_a_column_that_is_called_so_is_meant() -> None:
    assert asked("a:ordinal", ["a:ordinal"]) == Asked("a:ordinal")
    assert asked("a:ordinal", ["a"]) == Asked("a", "ordinal")
    assert asked("grade 1:2", ["x"]) == Asked("grade 1:2")
    assert asked("t|u,e:survival", []).columns == ("t", "u", "e")


@pytest.mark.parametrize(
    "text",
    ["a:survival", "a,:survival", ",e:survival", "a,e:survival:x<y", "a:regression:x<y", "a:ordinal:x"],
)
def test_tasks_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"`{text}`")):
        asked(text, [])
