"""Tables of labels as other tools write them: the same tasks from all, and what is said of the rest."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pathprep.errors import UsageError
from pathtrain.data import label_account, label_table, slide_labels
from pathtrain.data.label_table import why_no_task
from pathtrain.evaluate.slide_level.tasks import Task, read_tasks

SLIDES = [f"TCGA-AA-{1000 + n // 2}-01Z-00-DX{n % 2 + 1}" for n in range(20)]
PATIENTS = [slide[:12] for slide in SLIDES]
LABELS = ["IDC", "ILC"] * 10
ROWS = list(zip(SLIDES, PATIENTS, LABELS, strict=True))
NO_LABEL = (3, 8, 15)


def lines(*columns: list[object], by: str = ",") -> str:
    return "".join(by.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def with_missing(cell: str) -> list[str]:
    return [cell if n in NO_LABEL else label for n, label in enumerate(LABELS)]


NUMBERS = list(range(20))
# Programs and their tables, all of the same 20 slides, 10 patients and two classes
TABLES: dict[str, str] = {
    "CLAM": "case_id,slide_id,label\n" + lines(PATIENTS, SLIDES, LABELS),
    "pandas to_csv": ",slide_id,patient_id,label\n" + lines(NUMBERS, SLIDES, PATIENTS, LABELS),
    "pandas, twice": "Unnamed: 0.1,Unnamed: 0,slide_id,patient_id,label\n"
    + lines(NUMBERS, NUMBERS, SLIDES, PATIENTS, LABELS),
    "R, write.csv": '"","slide_id","patient","label"\n'
    + lines([f'"{n + 1}"' for n in NUMBERS], SLIDES, PATIENTS, LABELS),
    "R, write.csv read back": "X,slide_id,patient,label\n" + lines(NUMBERS, SLIDES, PATIENTS, LABELS),
    "R, write.table": "slide_id\tpatient\tlabel\n" + lines(NUMBERS, SLIDES, PATIENTS, LABELS, by="\t"),
    "R, row names are slides": '"","patient","label"\n' + lines(SLIDES, PATIENTS, LABELS),
    "Excel": "Slide ID;Patient ID;label\r\n" + lines(SLIDES, PATIENTS, LABELS, by=";").replace("\n", "\r\n"),
    "slideflow": "patient,dataset,label,slide\n" + lines(PATIENTS, ["BRCA"] * 20, LABELS, SLIDES),
    "GDC": "cases.submitter_id\tproject.project_id\tslide_id\tlabel\tdays_to_death\n"
    + lines(PATIENTS, ["TCGA-BRCA"] * 20, SLIDES, LABELS, ["'--"] * 20, by="\t"),
    "cBioPortal": "#Patient\tSlide\tSubtype\n#of it\tof it\tof it\n#STRING\tSTRING\tSTRING\n#1\t1\t1\n"
    "PATIENT_ID\tSLIDE_ID\tlabel\n" + lines(PATIENTS, SLIDES, LABELS, by="\t"),
    "with what is no task": "slide_id,PatientID,uuid,age,born,note,centre,label\n"
    + lines(
        SLIDES, PATIENTS, [f"{n:08x}" for n in NUMBERS], [40 + n for n in NUMBERS],
        [f"19{40 + n // 2}-01-0{1 + n % 2}" for n in NUMBERS], [f"seen by {n // 2}" for n in NUMBERS],
        ["A"] * 20, LABELS,
    ),
}  # fmt: skip


def evaluated(path: Path, **more: bool) -> Task:
    (task,) = read_tasks([path], None, set(SLIDES), **more)
    assert isinstance(task, Task)
    return task


@pytest.mark.parametrize("program", TABLES)
def test_the_same_tasks_whoever_wrote_them(program: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TABLES[program], newline="")
    task = evaluated(path)
    assert (task.name, task.classes, task.slides, len(task.patients)) == ("label", ["IDC", "ILC"], SLIDES, 10)
    assert task.labels.tolist() == [0, 1] * 10
    assert task.by_patient
    found = slide_labels.read(path, set(SLIDES))
    assert found.describe() == [{"name": "label", "classes": ["IDC", "ILC"]}]
    assert found.values[:, 0].tolist() == [0, 1] * 10


@pytest.mark.parametrize("cell", ["", "NA", "nan", "None", "[Not Available]", "'--", "#N/A", "Not Reported"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_missing_labels_leave_their_slides_out_and_are_counted(
    cell: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, written = tmp_path / f"labels.{kind}", with_missing(cell)
    if kind == "csv":
        path.write_text("slide_id,patient_id,label\n" + lines(SLIDES, PATIENTS, written))
    else:
        pq.write_table(pa.table({"slide_id": SLIDES, "patient_id": PATIENTS, "label": written}), path)
    with caplog.at_level("INFO", logger="pathtrain"):
        task = evaluated(path)
    assert (task.classes, len(task.slides)) == (["IDC", "ILC"], 17)
    said = f"3 slides without a label ({cell or 'empty'} 3)"
    assert any(f"task label: IDC 9, ILC 8; {said}" in line for line in caplog.messages)
    trained = slide_labels.read(path, set(SLIDES))
    assert (trained.values == slide_labels.UNKNOWN).sum() == 3
    assert any(said in line for line in trained.account)


def test_numbers_that_became_floats_are_one_class(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide_id,label\n" + lines(SLIDES, ["1.0", "0.0", "1", "0"] * 5))
    assert evaluated(path).classes == ["0", "1"]
    pq.write_table(
        pa.table({"slide_id": SLIDES, "label": [1.0, None] * 5 + [0.0] * 10}), tmp_path / "l.parquet"
    )
    assert evaluated(tmp_path / "l.parquet").classes == ["0", "1"]


def test_what_is_said_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TABLES["with what is no task"])
    known = {*SLIDES, "extra-1", "extra-2", "extra-3"}
    account = slide_labels.read(path, known).account
    assert account == (
        f"{path}: 20 rows; slide_id names the slides, PatientID the patients (10), no column split",
        "no task: uuid (a value of its own for each of 20 slides), age (a value of its own for each of 20 "
        "slides), born (dates), note (10 values on 20 slides: names or text, not classes), "
        "centre (all 20 labels are A)",
        "3 slides with tiles are in no row: extra-1, extra-2, ...",
        "task label: IDC 10, ILC 10",
        "task label: 10 patients have slides of different classes: TCGA-AA-1000, TCGA-AA-1001, ...",
    )


def test_a_column_that_is_named_is_taken_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TABLES["with what is no task"])
    (task,) = read_tasks([path], None, set(SLIDES), only=["note"])
    assert isinstance(task, Task)
    assert len(task.classes) == 10
    assert [t.name for t in slide_labels.read(path, set(SLIDES), ("note",)).tasks] == ["note"]
    with pytest.raises(UsageError, match="task centre: all 20 of its slides are A"):
        read_tasks([path], None, set(SLIDES), only=["centre"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slide_id,label\nx1,a\nx2,b\nx3,b\n", r"none of its 3 slides \(x1, x2, ...\) has .*TCGA-AA-1000"),
        (f"slide_id,label\n{SLIDES[0]},IDC\n{SLIDES[1]},idc\n", "line 3: label is 'idc', elsewhere 'IDC'"),
        (f"slide_id,label\n{SLIDES[0]},a\n,b\n", "line 3: the slide has no name"),
        (f"slide_id,label\n{SLIDES[0]},a\nNA,b\nNA,b\n", r"line 3: the slide has no name \(NA\)"),
        ("case_id,label\np1,a\np2,b\n", "no column slide_id .*; a row per slide is needed, with its case_id"),
        (f"slide_id,fold\n{SLIDES[0]},1\n{SLIDES[1]},2\n", "fold: numbers of folds"),
        ("slide_id,age\n" + lines(SLIDES, [n / 8 for n in NUMBERS]), "age: numbers: 20 values on 20 slides"),
    ],
)  # fmt: skip
def test_refused_with_file_and_fix(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    for read in (lambda p: slide_labels.read(p, set(SLIDES)), lambda p: read_tasks([p], None, set(SLIDES))):
        with pytest.raises(UsageError, match=error) as caught:
            read(tmp_path / "labels.csv")
        assert str(tmp_path / "labels.csv") in str(caught.value)


def test_a_patient_that_is_missing_is_no_patient(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide_id,patient_id,label\n" + lines(SLIDES, ["NA", *PATIENTS[1:]], LABELS))
    with pytest.raises(UsageError, match=rf"line 2: slide {SLIDES[0]} has no patient_id"):
        evaluated(path)
    path.write_text("slide_id,patient_id,case_id,label\n" + lines(SLIDES, ["NA"] * 20, PATIENTS, LABELS))
    assert len(evaluated(path).patients) == 10


def test_slides_are_found_by_their_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    folders, endings = ("/data/", "D:\\scans\\", ""), (".svs", ".TIFF", "", ".h5")
    files = [f"{folders[n % 3]}{slide}{endings[n % 4]}" for n, slide in enumerate(SLIDES)]
    path.write_text("filename,label\n" + lines(files, LABELS))
    assert evaluated(path).slides == SLIDES


def test_of_two_columns_that_may_name_slides_the_one_that_does(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide_id,file_name,label\n" + lines([f"u{n}" for n in NUMBERS], SLIDES, LABELS))
    assert label_table.read([path], set(SLIDES)).slide_column == "file_name"
    assert label_account.some(["a", "b", "c"]) == "a, b, ..."
    assert evaluated(path).slides == SLIDES


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a", "b", ""], None),
        (["a", "b", "c"], None),
        (["", ""], "no label"),
        (["a", "a", ""], "all 2 labels are a"),
        (["01/02/2020", "2/3/21"], "dates"),
        (["2020-01-02 10:00", "2020-03-04T00:00:00Z"], "dates"),
        (["20200131", "19991231"], "dates"),
        (["Train", "test"], "names of parts; call the column split if it is to part the slides"),
        (["x" * 101, "y"], "free text"),
        ([str(n) for n in range(21)] * 3, "numbers: 21 values on 63 slides"),
        ([str(n) for n in range(20)] * 3, None),
        ([f"{n}.5" for n in range(11)] * 3, "numbers: 11 values on 33 slides"),
        ([f"c{n}" for n in range(6)], "a value of its own for each of 6 slides"),
        ([f"c{n}" for n in range(40)] * 3, None),
        (["1-2", "3-4"], None),
    ],
)
def test_why_a_column_is_no_task(labels: list[str], reason: str | None) -> None:
    assert why_no_task(labels, None) == reason


def test_a_second_name_of_the_patients_is_no_task() -> None:
    owners = [f"p{n // 3}" for n in range(21)]
    assert (
        why_no_task([f"mrn{n // 3}" for n in range(21)], owners)
        == "a value of its own for each of 7 patients"
    )
    assert why_no_task([f"mrn{n // 3}" for n in range(21)], None) is None


@pytest.mark.parametrize(
    "name", ["Age", "age_at_diagnosis", "year of birth", "scan_date", "OS.months", "n_tiles"]
)
def test_columns_that_are_no_task_by_their_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        f"slide_id,label,{name},stage\n" + lines(SLIDES, LABELS, [n // 4 for n in NUMBERS], LABELS)
    )
    assert [task.name for task in read_tasks([path], None, set(SLIDES))] == ["label", "stage"]
    assert [task.name for task in read_tasks([path], None, set(SLIDES), only=[name])] == [name]


@pytest.mark.parametrize(
    "name", ["patient_no", "MRN", "case number", "donor_id", "bcr_patient_uuid", "USUBJID"]
)
def test_further_names_of_patients(name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"slide_id,{name},label\n" + lines(SLIDES, PATIENTS, LABELS))
    assert len(evaluated(path).patients) == 10
