"""Labels of slides from CSV and Parquet, and every way in which they can be wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pathprep.errors import UsageError
from pathtrain.data.slide_labels import LabelTask, read, read_for
from pathtrain.losses.tasks import masked_cross_entropy

KNOWN = {"s1", "s2", "s3", "s4", "a_b"}
GOOD = "slide_id,split,organ,msi\ns1,train,lung,\ns2,train,colon,1\ns3,val,lung,0\ns4,train,lung,0\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_classes_values_and_splits(tmp_path: Path) -> None:
    found = read(write(tmp_path, GOOD), KNOWN)
    assert found.tasks == (LabelTask("organ", ("colon", "lung")), LabelTask("msi", ("0", "1")))
    assert found.values.tolist() == [[1, -1], [0, 1], [1, 0], [1, 0]]
    assert found.of("train").tolist() == [0, 1, 3]
    assert found.of("val").tolist() == [2]


def test_class_weights_are_counted_over_training(tmp_path: Path) -> None:
    weights = read(write(tmp_path, GOOD), KNOWN).class_weights(balanced=True)
    np.testing.assert_allclose(weights[0], [3 / 2, 3 / 4])
    np.testing.assert_allclose(weights[1], [1, 1])
    plain = read(write(tmp_path, GOOD), KNOWN).class_weights(balanced=False)
    assert [w.tolist() for w in plain] == [[1, 1], [1, 1]]


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    columns = {
        "slide_id": ["s1", "s2", "s3", "s4"],
        "split": ["train", "train", "val", "train"],
        "organ": ["lung", "colon", "lung", "lung"],
        "msi": [None, 1.0, 0.0, 0.0],  # a missing number makes floats of all
    }
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    found = read(tmp_path / "labels.parquet", KNOWN)
    expected = read(write(tmp_path, GOOD), KNOWN)
    assert found.tasks == expected.tasks
    assert found.values.tolist() == expected.values.tolist()


def test_the_numbers_of_rows_are_no_task(tmp_path: Path) -> None:
    numbered = "\n".join(f"{n},{line}" if n else f",{line}" for n, line in enumerate(GOOD.splitlines()))
    assert read(write(tmp_path, numbered), KNOWN).tasks == read(write(tmp_path, GOOD), KNOWN).tasks


def test_names_are_those_of_the_dataset_and_the_split_may_lack(tmp_path: Path) -> None:
    found = read(write(tmp_path, "slide_id,t\na.b,x\ns1,y\n"), KNOWN)
    assert found.slides == ("a_b", "s1")
    assert found.splits == ("train", "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stem,t\ns1,x\n", "no column slide_id .*; it has stem, t"),
        ("slide_id,t\n", "needs a header and rows below it"),
        ("slide_id,split\ns1,train\n", "no column beside slide_id, split holds classes to learn"),
        ("slide_id,t\ns1,x\nnew,y\n", r"slide new has no tile in the dataset \(1 such; the dataset has a_b"),
        ("slide_id,t\ns1,x\ns1,y\n", r"line 3: slide s1 is there more than once \(before: .*line 2\)"),
        (
            "slide_id,split,t\ns1,train,x\ns2,tune,y\n",
            "line 3: slide s2: split is tune; give train, val or test",
        ),
        ("slide_id,t\ns1,x\ns2,x\n", r"\(t: all 2 labels are x\)"),
        ("slide_id,split,t\ns1,train,\ns2,train,\ns3,val,x\n", r"\(t: no label\)"),
        (
            "slide_id,split,t\ns1,train,x\ns2,train,y\ns3,val,z\n",
            "slide s3: t is 'z', which no training slide is",
        ),
        (
            "slide_id,split,patient,t\ns1,train,p1,x\ns2,train,p2,y\ns3,test,p1,y\n",
            "patient p1 has slides in train and in test",
        ),
        ("slide_id,split,group,t\ns1,val,g,x\ns2,train,g,y\ns3,train,,x\n", "group g has slides in val"),
    ],
)
def test_wrong_labels_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(write(tmp_path, text), KNOWN)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "labels.csv") in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "gone.csv", KNOWN)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="not a Parquet file"):
        read(tmp_path / "bad.parquet", KNOWN)
    (tmp_path / "bad.csv").write_bytes(b"slide_id,t\n\xff\xfe,x\n")
    with pytest.raises(UsageError, match="line 2: not text in UTF-8"):
        read(tmp_path / "bad.csv", KNOWN)


def test_only_the_tasks_that_are_asked_for(tmp_path: Path) -> None:
    assert [t.name for t in read(write(tmp_path, GOOD), KNOWN, ("msi",)).tasks] == ["msi"]
    with pytest.raises(UsageError, match="no task grade; its tasks: organ, msi"):
        read(write(tmp_path, GOOD), KNOWN, ("grade",))


def test_labels_to_test_with(tmp_path: Path) -> None:
    tasks = (LabelTask("organ", ("colon", "lung")), LabelTask("stage", ("1", "2")))
    found = read_for(write(tmp_path, GOOD), KNOWN, tasks)
    assert found.tasks == tasks[:1]
    assert found.values.tolist() == [[1], [0], [1], [1]]
    with pytest.raises(UsageError, match="has none of the run's tasks"):
        read_for(tmp_path / "labels.csv", KNOWN, tasks[1:])
    with pytest.raises(UsageError, match="organ is 'colon', which no training slide is"):
        read_for(tmp_path / "labels.csv", KNOWN, (LabelTask("organ", ("lung", "skin")),))


def test_unknown_tasks_cost_nothing_and_get_no_gradient() -> None:
    scores = [torch.tensor([1.0, 2.0, 0.5], requires_grad=True), torch.tensor([0.3, 0.1], requires_grad=True)]
    weights = [torch.tensor([1.0, 3.0, 1.0]), torch.ones(2)]
    loss = masked_cross_entropy(scores, torch.tensor([1, -1]), weights)
    expected = -3 * torch.log_softmax(scores[0].detach(), 0)[1]
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert scores[1].grad is None
    both = masked_cross_entropy(scores, torch.tensor([1, 0]), weights)
    torch.testing.assert_close(both.detach(), (expected - torch.log_softmax(scores[1].detach(), 0)[0]) / 2)


def test_columns_and_splits_are_spelt_as_in_the_evaluation_of_slides(tmp_path: Path) -> None:
    text = "slide_id,split,patient_id,organ\ns1,Train,p1,lung\ns2,train,p2,colon\ns3,valid,p3,lung\n"
    found = read(write(tmp_path, text), KNOWN)
    assert [task.name for task in found.tasks] == ["organ"]
    assert found.splits == ("train", "train", "val")
    with pytest.raises(UsageError, match="patient_id p1 has slides in train and in val"):
        read(write(tmp_path, text.replace("p3", "p1")), KNOWN)
