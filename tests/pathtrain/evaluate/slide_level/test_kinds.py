"""Tasks of every kind from features with a known answer; patients as bags, external sets, eva's protocol."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.browser import check_page
from helpers.featured import write_features, write_labels
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain import evaluate
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.slide_level.linear import coral_weights, cox_weights, linear
from pathtrain.evaluate.slide_level.mil_training import cox_step, predict, steps, train
from pathtrain.evaluate.slide_level.objectives import Objective
from pathtrain.losses.survival import cox_loss
from pathtrain.models.mil import MilConfig
from pathtrain.params.slide_level import TrainConfig

CPU = torch.device("cpu")
SLIDES, PATIENTS = 96, 48
TASKS = ("grade:ordinal", "size", "months,state:survival")


def risks() -> np.ndarray:
    """(PATIENTS,) what decides everything: standard normal."""
    return np.random.default_rng(0).normal(size=PATIENTS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides a patient; the first number of a tile is its patient's risk and noise, the others noise."""
    root, rng, risk = tmp_path_factory.mktemp("kinds"), np.random.default_rng(1), risks()
    bags, rows = {}, []
    times = rng.exponential(np.exp(-2 * risk))
    for number in range(SLIDES):
        patient = number // 2
        bag = rng.normal(size=(6, 4)).astype(np.float32)
        bag[:, 0] += risk[patient]
        bags[f"s{number:02}"] = bag
        cut = float(np.quantile(times, 0.8))
        rows.append(
            {
                "slide_id": f"s{number:02}",
                "patient_id": f"p{patient}",
                "split": ("train", "train", "test")[patient % 3],
                "kind": "high" if risk[patient] > 0 else "low",
                "grade": int(np.digitize(risk[patient], [-0.8, 0, 0.8])),
                "size": f"{20 + 3 * risk[patient]:.4f}",
                "months": f"{min(times[patient], cut):.4f}",
                "state": "1:DECEASED" if times[patient] <= cut else "0:LIVING",
            }
        )
    write_features(root / "model", bags)
    noise = {name: rng.normal(size=bag.shape).astype(np.float32) for name, bag in bags.items()}
    write_features(root / "noise", noise)
    write_labels(root / "labels.csv", rows)
    return root


def run(place: Path, *arguments: object) -> Any:
    options = ["slides", place / "model", "--labels", place / "labels.csv", *arguments]
    return CliRunner().invoke(app, [*map(str, options)], env={"COLUMNS": "160"})


@pytest.mark.browser
@pytest.mark.slow  # every kind with every method
def test_every_kind_finds_what_decides_and_noise_does_not(place: Path, tmp_path: Path) -> None:
    asked = [part for task in TASKS for part in ("--task", task)]
    done = run(
        place, place / "noise", *asked, "--method", "linear", "--method", "clam-sb",
        "--lr", "1e-3", "--epochs", 12, "--seeds", 1, "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "task size: taken as numbers (regression): 96 slides" in done.output
    result = json.loads((tmp_path / "out" / "slides.json").read_text())
    least = {"kappa": 0.6, "pearson": 0.85, "c_index": 0.7}
    assert [task["figure"] for task in result["tasks"]] == list(least)
    for task in result["tasks"]:
        key = task["figure"]
        rows = {(row["model"], row["method"]): row for row in task["results"]}
        assert {method for _, method in rows} == {"linear", "abmil"}  # CLAM needs classes
        for (model, method), row in rows.items():
            if model == "model":
                assert row[key]["mean"] > least[key], (key, method)
                (lead,) = row["leads"]
                assert (lead["test"], lead["p"] < 0.05, lead["p_holm"] >= lead["p"]) == (
                    "paired bootstrap",
                    True,
                    True,
                )
            else:
                assert row[key]["mean"] < least[key]
    survival = result["tasks"][2]["results"][0]
    assert survival["risk_groups"]["log_rank_p"] < 0.01
    assert survival["risk_groups"]["high"]["rows"] == 16
    for words in ("kappa", "Pearson", "c-index", "log-rank p", "p (Holm)"):
        assert words in done.stdout
    page = check_page(tmp_path / "out" / "slides.html", 1200, None, False)
    assert (page.errors, page.broken, page.without_alt, page.overflow) == ([], [], 0, 0)
    assert page.images == 2 + 2  # bars and radar; numbers and survival have a picture of their own
    for words in ("Kaplan and Meier", "What is said against what is true", "Holm"):
        assert words in page.text


def test_patients_as_bags(place: Path) -> None:
    options: dict[str, Any] = {"method": ["linear"], "task": ["kind", "months,state:survival"]}
    single = evaluate.slides([place / "model"], [place / "labels.csv"], **options)
    both = evaluate.slides([place / "model"], [place / "labels.csv"], by="patient", **options)
    for one, other in zip(single["tasks"], both["tasks"], strict=True):
        assert (one["bags"], other["bags"], other["slides"]) == (SLIDES, PATIENTS, SLIDES)
        assert other["test"] == [16]
    kind = both["tasks"][0]["results"][0]
    assert (kind["slides"], kind["patients"]) == (16, 16)


def test_attention_to_patients_is_slide_by_slide(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "attention.csv"
    evaluate.slides(
        [place / "model"], [place / "labels.csv"], task=["kind"], by="patient", method=["abmil"], seeds=1,
        epochs=1, attention=out,
    )  # fmt: skip
    lines = out.read_text().splitlines()
    assert len(lines) - 1 == 32 * 6  # both slides of 16 patients, six tiles each
    assert len({line.split(",")[0] for line in lines[1:]}) == 32


def test_folds_where_all_had_the_event(place: Path, tmp_path: Path) -> None:
    """sebp/scikit-survival#261: data without any censored."""
    (tmp_path / "l.csv").write_text((place / "labels.csv").read_text().replace("0:LIVING", "1:DECEASED"))
    options: dict[str, Any] = {
        "task": ["months,state:survival"],
        "method": ["mean-mlp"],
        "epochs": 1,
        "seeds": 1,
    }
    result = evaluate.slides([place / "model"], [tmp_path / "l.csv"], folds=3, **options)
    assert result["tasks"][0]["per_class"] == {"without an event": 0, "with an event": SLIDES}


def test_slides_of_a_patient_that_disagree(place: Path, tmp_path: Path) -> None:
    text = (place / "labels.csv").read_text().splitlines()
    header = text[0].split(",")
    cells = text[1].split(",")
    cells[header.index("kind")] = "low" if cells[header.index("kind")] == "high" else "high"
    (tmp_path / "l.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]) + "\n")
    with pytest.raises(
        UsageError, match=r"slides of patient p0 have different labels \(s00: \w+; s01: \w+\)"
    ):
        evaluate.slides(
            [place / "model"], [tmp_path / "l.csv"], task=["kind"], by="patient", method=["linear"]
        )


def parts(place: Path, folder: Path) -> tuple[Path, Path]:
    """The table's slides for testing as a set of their own."""
    lines = (place / "labels.csv").read_text().splitlines()
    for name, wanted in (("own", "train"), ("other", "test")):
        kept = [line.replace(f",{wanted},", ",") for line in lines[1:] if f",{wanted}," in line]
        (folder / f"{name}.csv").write_text("\n".join([lines[0].replace("split,", ""), *kept]) + "\n")
    return folder / "own.csv", folder / "other.csv"


def test_an_external_test_set_is_scored_by_what_was_learnt_elsewhere(place: Path, tmp_path: Path) -> None:
    own, other = parts(place, tmp_path)
    options: dict[str, Any] = {"method": ["linear"], "task": ["kind", *TASKS]}
    known = evaluate.slides([place / "model"], [place / "labels.csv"], **options)
    features = {"own": tmp_path / "a", "other": tmp_path / "b"}
    for path, name in ((own, "own"), (other, "other")):
        features[name].mkdir()
        for line in path.read_text().splitlines()[1:]:
            slide = line.split(",")[0]
            (features[name] / f"{slide}.h5").write_bytes((place / "model" / f"{slide}.h5").read_bytes())
    found = evaluate.slides(
        [f"model={features['own']}"], [own], test_features=[features["other"]], test_labels=[other], **options
    )
    for one, again in zip(known["tasks"], found["tasks"], strict=True):
        key = one["figure"]
        assert again["test"] == one["test"]
        assert again["results"][0][key]["mean"] == pytest.approx(one["results"][0][key]["mean"], abs=1e-12)
    same = evaluate.slides([place / "model"], [own], test_labels=[other], **options)  # one folder holds both
    assert same["tasks"][0]["results"][0]["auroc"]["mean"] == known["tasks"][0]["results"][0]["auroc"]["mean"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"test_labels": [], "test_features": ["model"]}, "`test_features` without `test_labels`"),
        ({"folds": 3}, "`folds`: not with `test_labels`"),
        ({"test_features": ["noise"]}, "slides .* there and in"),
        ({"test_features": ["noise", "noise"]}, "2 folders for 1 model"),
        ({"other": ("p2,", "p0,")}, "patient p0 in `labels` too"),
        ({"other": (",low,", ",strange,")}, "has class strange, which no training slide has"),
    ],
)
def test_external_sets_that_cannot_be(
    change: dict[str, Any], error: str, place: Path, tmp_path: Path
) -> None:
    own, other = parts(place, tmp_path)
    if "other" in change:
        other.write_text(other.read_text().replace(*change.pop("other")))
    options = {"test_labels": [other], "method": ["linear"], "task": ["kind"]} | change
    options["test_features"] = [place / name for name in options.get("test_features", ())]
    with pytest.raises(UsageError, match=error):
        evaluate.slides([place / "model"], [own], **options)


def test_eva_is_its_loop(place: Path) -> None:
    """The same weights as a loop as eva's, on padded batches with a mask, gives."""
    rng = np.random.default_rng(0)
    bags = [rng.normal(size=(rng.integers(2, 6), 4)).astype(np.float32) for _ in range(40)]
    labels = np.arange(40) % 3
    objective, rows = Objective("classes", 3, labels), np.arange(30)
    config = TrainConfig(epochs=3, batch=8).of("eva")
    options: dict[str, Any] = {
        "dim": 4,
        "network": "eva-abmil",
        "mil": MilConfig(method="abmil"),
        "device": CPU,
    }
    ours = train(bags.__getitem__, objective, rows, np.arange(30, 40), config=config, seed=0, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, order = objective.model("eva-abmil", 4, MilConfig()), np.random.default_rng(0)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        best, kept = -1.0, {}
        for _ in range(3):
            drawn = order.permutation(rows)
            for start in range(0, 30, 8):
                batch = drawn[start : start + 8]
                padded = torch.full((len(batch), 5, 4), -torch.inf)
                for place_, row in enumerate(batch):
                    padded[place_, : len(bags[row])] = torch.from_numpy(bags[row])
                mask = (padded == -torch.inf).all(dim=-1, keepdim=True)
                h = model.embed(padded.masked_fill(mask, 0))
                a = model.attention.score(model.attention.tanh(h) * model.attention.sigmoid(h))
                weights = a.masked_fill(mask, -torch.inf).softmax(dim=1)
                logits = model.classifier((weights * h).sum(dim=1))
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[batch])).backward()
                optimiser.step()
            guesses = np.array([int(model(torch.from_numpy(bags[row]))[0].argmax()) for row in range(30, 40)])
            recalls = [(guesses == c)[labels[30:] == c].mean() for c in range(3)]
            if np.mean(recalls) > best:
                best, kept = float(np.mean(recalls)), {k: v.clone() for k, v in model.state_dict().items()}
    assert -ours.val_loss == pytest.approx(best)
    for name, value in ours.model.state_dict().items():
        if name == "attention.score.bias":
            continue  # softmax does not see it: its gradient is rounding, which Adam makes steps of
        torch.testing.assert_close(value, kept[name], atol=1e-5, rtol=1e-4)


def test_eva_of_two_classes_has_one_output_and_its_methods_are_checked(place: Path) -> None:
    objective = Objective("classes", 2, np.array([0, 1]), binary=True)
    logit = torch.tensor([0.7])
    assert objective.loss(logit, 1).item() == pytest.approx(np.log1p(np.exp(-0.7)), rel=1e-6)
    assert objective.told(logit[None])[0].tolist() == pytest.approx(
        [1 / (1 + np.exp(0.7)), 1 / (1 + np.exp(-0.7))]
    )
    done = run(place, "--protocol", "eva", "--method", "clam-sb")
    assert "`protocol` eva is of `method` abmil alone" in str(done.exception)
    result = evaluate.slides(
        [place / "model"], [place / "labels.csv"], task=["kind"], protocol="eva", epochs=2, seeds=2
    )
    assert result["protocol"].startswith("eva")
    assert [row["method"] for row in result["tasks"][0]["results"]] == ["abmil"]


@pytest.mark.parametrize("network", ["abmil", "dsmil"])
def test_a_step_of_survival_is_the_gradient_of_all_its_bags(network: str) -> None:
    """Bag by bag, with dropout, against all at once with a graph."""
    rng = np.random.default_rng(0)
    bags = [rng.normal(size=(5, 4)).astype(np.float32) for _ in range(9)]
    objective = Objective("survival", 0, rng.integers(0, 2, 9), rng.integers(1, 5, 9).astype(float))
    torch.manual_seed(0)
    model = objective.model(network, 4, MilConfig(method="abmil")).train()  # type: ignore[arg-type]
    rows = np.arange(9)
    torch.manual_seed(5)
    cox_step(model, bags.__getitem__, objective, rows, CPU)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(5)
    outputs = [model(torch.from_numpy(bag)) for bag in bags]
    loss = objective.joint(torch.stack([own[0][0] for own in outputs]), rows)
    if network == "dsmil":
        highest = torch.stack([own[2].max() for own in outputs])
        loss = 0.5 * loss + 0.5 * objective.joint(highest, rows)
    loss.backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, atol=1e-6, rtol=1e-4)


def test_every_step_of_survival_has_an_event() -> None:
    labels = np.zeros(50, np.int64)
    labels[[3, 17, 40]] = 1
    objective, config = (
        Objective("survival", 0, labels, np.ones(50)),
        TrainConfig(batch=4).of("clam", survival=True),
    )
    found = list(steps(objective, np.arange(50), np.random.default_rng(0), config))
    assert [int(labels[rows].sum()) for rows in found] == [1, 1, 1]
    assert sorted(np.concatenate(found)) == list(range(50))


def test_linear_survival_is_the_minimum_and_lifelines() -> None:
    import pandas as pd
    from lifelines import CoxPHFitter

    rng = np.random.default_rng(0)
    x, times, events = rng.normal(size=(60, 3)), rng.integers(1, 20, 60).astype(float), rng.random(60) < 0.7
    tensors = torch.from_numpy(x), torch.from_numpy(times), torch.from_numpy(events)
    frame = pd.DataFrame({**{f"x{n}": x[:, n] for n in range(3)}, "t": times, "e": events})
    fitted = CoxPHFitter().fit(frame, "t", "e")
    np.testing.assert_allclose(cox_weights(*tensors, ridge=0), fitted.params_, atol=1e-5)
    weights = cox_weights(*tensors, ridge=5).requires_grad_()
    loss = events.sum() * cox_loss(tensors[0] @ weights, *tensors[1:]) + 2.5 * (weights**2).sum()
    loss.backward()
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) < 1e-6


def test_linear_ranks_are_the_minimum_and_those_of_logistic_regression_for_two() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    ranks = (x[:, 0] + rng.normal(size=60) > 0).astype(np.int64)
    weights, biases = coral_weights(torch.from_numpy(x), torch.from_numpy(ranks), 2)
    expected = LogisticRegression(C=1.0, tol=1e-10).fit(x, ranks)
    np.testing.assert_allclose(weights, expected.coef_[0], atol=1e-4)
    assert biases.item() == pytest.approx(expected.intercept_[0], abs=1e-4)
    three = Objective("ordinal", 4, np.digitize(x[:, 0], [-0.7, 0, 0.7]))
    told = linear(three, x.astype(np.float32), np.arange(40), np.arange(40, 60))
    assert told.sum(axis=1) == pytest.approx(np.ones(20))
    assert (told >= 0).all()


@pytest.mark.parametrize(
    ("change", "task", "error"),
    [
        (("1:DECEASED", "0:LIVING"), "months,state:survival", "0 events; survival needs at least two"),
        (("1:DECEASED", "maybe"), "months,state:survival", "state is 'maybe'; give 1 where the event came"),
        ((",train,", ",test,"), "months,state:survival", "the train part has 0 slides with 0 events"),
        (
            (",test,", ",train,"),
            "size:regression",
            "the test part has 0 slides with too few different numbers",
        ),
        (("s00", "s00"), "kind:regression", "kind is '(high|low)', not a number"),
        (("s00", "s00"), "grade,state", "no such task"),
    ],
)
def test_what_cannot_be_asked(
    change: tuple[str, str], task: str, error: str, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "l.csv").write_text((place / "labels.csv").read_text().replace(*change))
    with pytest.raises(UsageError, match=error):
        evaluate.slides([place / "model"], [tmp_path / "l.csv"], task=[task], method=["linear"])


def test_a_yaml_says_kinds(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n"
        "- {name: Grade, column: grade, kind: ordinal, order: [0, 1, 2, 3]}\n"
        "- {name: OS, column: months, event: state, kind: survival}\n"
        "- {name: Line, column: 'size:regression'}\n"
    )
    tasks = tmp_path / "tasks.yaml"
    result = evaluate.slides(
        [place / "model"], [place / "labels.csv"], tasks=tasks, method=["linear"], folds=3
    )
    assert [(task["name"], task["kind"]) for task in result["tasks"]] == [
        ("Grade", "ordinal"), ("OS", "survival"), ("Line", "regression"),
    ]  # fmt: skip
    assert all(sum(task["test"]) == SLIDES for task in result["tasks"])
    for text, error in (
        ("{name: A, column: grade, kind: survival}", "survival and event belong together"),
        ("{name: A, column: grade, kind: classes, order: [1]}", "order is of kind ordinal"),
        ("{name: A, column: grade, kind: ordinal, positive: 1}", "positive is of classes"),
    ):
        tasks.write_text(f"tasks: [{text}]")
        with pytest.raises(UsageError, match=re.escape(error)):
            evaluate.slides([place / "model"], [place / "labels.csv"], tasks=tasks, method=["linear"])


def test_survival_is_learnt_from_bags() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=90)
    bags = [
        np.concatenate([rng.normal(size=(8, 3)), np.full((8, 1), r)], axis=1).astype(np.float32) for r in risk
    ]
    objective = Objective("survival", 0, np.ones(90, np.int64), rng.exponential(np.exp(-2 * risk)))
    config = TrainConfig(lr=1e-3, epochs=10).of("clam", survival=True)
    options: dict[str, Any] = {"dim": 4, "mil": MilConfig(method="abmil"), "device": CPU, "seed": 0}
    done = train(
        bags.__getitem__,
        objective,
        np.arange(50),
        np.arange(50, 65),
        network="abmil",
        config=config,
        **options,
    )
    found = predict(done.model, objective, bags.__getitem__, np.arange(65, 90), CPU)
    assert np.corrcoef(found[:, 0], risk[65:])[0, 1] > 0.9
