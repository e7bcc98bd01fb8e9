"""What probes foretell, on tables of runs with known answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from small.core.config import Common, Study
from small.core.scores import Labels
from small.probes import foretelling
from small.probes import part as probes
from small.probes import words as probe_words

from pathprep.errors import UsageError

RUNS = 12


def test_rank_correlations_of_samples_are_those_of_their_copies() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(4, size=9).astype(float), rng.normal(size=9)
    copies = rng.integers(3, size=(5, 9)).astype(float)
    found = foretelling.spearman(x, y, copies)
    for value, counts in zip(found, copies.astype(int), strict=True):
        assert value == pytest.approx(spearmanr(np.repeat(x, counts), np.repeat(y, counts)).statistic)
    assert np.isnan(foretelling.spearman(np.ones(4), np.arange(4.0), np.ones((1, 4)))).all()


def test_what_is_lost_is_counted_from_the_best_run_of_the_sample() -> None:
    probe, test = np.array([1.0, 2.0, 3.0, 3.0]), np.array([0.9, 0.5, 0.6, 0.8])
    lost, at_random = foretelling.regret(probe, test, np.array([[1.0, 1, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]]))
    assert lost == pytest.approx([0.9 - 0.7, 0.0, 0.4])
    assert at_random == pytest.approx([0.9 - 0.7, 0.05, 0.2])
    assert np.isnan(foretelling.regret(probe, test, np.zeros((1, 4)))).all()


def test_a_planted_relation_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    test, arm, part = np.linspace(0.6, 0.9, RUNS), np.arange(RUNS) // 2, np.zeros(RUNS, np.int64)
    good = foretelling.across(test + rng.normal(0, 0.01, RUNS), test, arm, part)
    assert good is not None
    assert good["rho"] > 0.9
    assert (good["runs"], good["arms"]) == (RUNS, RUNS // 2)
    assert foretelling.verdict(good) == "foretells"
    assert good["lost"] < good["lost_at_random"]
    assert foretelling.verdict(foretelling.across(-test, test, arm, part)) == "misleads"
    assert foretelling.verdict(foretelling.across(rng.permutation(test), test, arm, part)) == "does not tell"
    assert foretelling.across(test[:3], test[:3], arm[:3], part[:3]) is None


def test_what_parts_have_of_their_own_foretells_nothing() -> None:
    """Two parts that are apart in probe and test, and within each of which the probe says nothing."""
    part, arm = np.repeat([0, 1], 8), np.arange(16) // 2
    probe = part * 10 + np.tile([1.0, 2, 3, 4, 4, 3, 2, 1], 2)
    test = part * 0.5 + np.tile([0.1, 0.2, 0.3, 0.4], 4)
    found = foretelling.across(probe, test, arm, part)
    assert found is not None
    assert abs(found["rho"]) < 0.1
    assert foretelling.verdict(found) == "does not tell"
    assert found["lost"] == pytest.approx(0.4 - (0.4 + 0.1) / 2)  # the largest two probes of each part


def test_few_arms_whose_seeds_agree_are_no_proof() -> None:
    """Fifteen runs that go with the test, but of five arms: their order may be chance."""
    arm = np.repeat(np.arange(5), 3)
    values = np.array([0.1, 0.3, 0.2, 0.5, 0.4])[arm] + np.tile([0.0, 0.01, 0.02], 5)
    found = foretelling.across(values, arm + 0.01, arm, np.zeros(15, np.int64))
    assert found is not None
    assert found["rho_interval"][0] > 0
    assert foretelling.verdict(found) == "does not tell"
    # of 30 pairs with rho .5 the z interval is arctanh(.5) -+ 1.96 sqrt(1.06 / 27)
    assert foretelling.fieller(0.5, 30) == pytest.approx([0.159, 0.734], abs=0.001)
    assert foretelling.fieller(0.5, 3) is None


def test_along_the_steps_each_run_is_ranked_by_itself() -> None:
    test = np.array([0.5, 0.6, 0.8, 0.7])
    runs = [(test + offset, test - offset) for offset in (0.0, 1.0, 2.0)]
    found = foretelling.along([*runs, (np.ones(4), test), (test[:2], test[:2])])
    assert found is not None
    assert found["runs"] == 3
    assert found["rho"] == pytest.approx(1)
    assert found["lost"] == pytest.approx(0)
    assert found["lost_at_end"] == pytest.approx(0.1)
    assert foretelling.along([(np.ones(4), test)]) is None


def test_probes_see_what_is_planted_in_the_features() -> None:
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 60)
    known = Labels(("a", "b"), label, np.arange(120) // 30)
    by_class = (np.eye(2)[label] + rng.normal(0, 0.01, (120, 2))).astype(np.float32)
    by_case = (np.eye(4)[known.group] + rng.normal(0, 0.01, (120, 4))).astype(np.float32)
    validates = known.group == 3
    assert probes.probed("mitoses", by_class, known, validates)["kNN of mitoses"] == 1
    assert abs(probes.probed("mitoses", by_class, known, validates)["collapse"]) < 0.1
    assert probes.probed("mitoses", by_case, known, validates)["collapse"] == pytest.approx(1)
    wide = probes.probed("ebhi", rng.normal(size=(120, 8)).astype(np.float32), known, validates)
    assert wide["rank"] > 6 > 2.5 > probes.probed("ebhi", by_class, known, validates)["rank"]
    assert wide["SD"] > 0
    assert set(wide) == {"kNN of ebhi", "rank", "SD"}


def _moment(run: int, step: int, last: bool, good: float, method: str = "dinov2") -> probes.Moment:
    arm = f"part-arm{run // 2}"
    values = {"kNN of ebhi": good, "collapse": 1 - good, "loss": 3 - good}
    found = probes.Moment(f"{arm}-{run % 2}", arm, method, step, last, Path("run"), values)
    found.tests["ebhi"] = good
    return found


def test_less_is_better_of_some_and_losses_of_other_methods_are_left_out() -> None:
    quality = np.linspace(0.6, 0.9, RUNS)
    found = [_moment(run, 40, True, value) for run, value in enumerate(quality)]
    found += [_moment(0, step, False, value) for step, value in ((10, 0.3), (20, 0.4), (30, 0.5))]
    found += [_moment(RUNS + extra, 40, True, 0.1, "dino") for extra in range(3)]
    table = probes.told(found)
    for probe in ("kNN of ebhi", "collapse", "loss"):
        assert table["across"][probe]["ebhi"]["rho"] == pytest.approx(1)
        assert table["along"][probe]["ebhi"]["rho"] == pytest.approx(1)
    assert table["across"]["kNN of ebhi"]["ebhi"]["runs"] == RUNS + 3
    assert table["across"]["loss"]["ebhi"]["runs"] == RUNS
    said = probe_words.sentences(table)
    assert len(said) == 7
    assert said[-1].startswith("Of 6 relations 3 foretell and 0 mislead;")
    assert said[0].startswith("Across runs, kNN of ebhi foretells ebhi (rho +1.00 [")
    assert "going by it loses 0.000 AUROC, at random 0.2" in said[0]
    assert said[3].startswith(
        "Along the steps of a run, kNN of ebhi does not tell ebhi (rho +1.00;"
    )  # one run
    text = probes.markdown({**table, "sentences": said})
    assert "| loss | +1.00 [" in text
    assert f"| {RUNS} | {RUNS // 2} |" in text


def test_moments_are_the_last_step_of_all_and_some_steps_of_the_first_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path, tmp_path, tmp_path / "study.yaml", Common(), {})
    settings = probes.Settings(steps=3)
    with pytest.raises(UsageError, match="no finished run of representation, stain, resolution"):
        probes.moments(study, settings)
    for name in ("resolution-kde-0", "resolution-kde-1", "choice-a", "stain-none-0", "slides-0"):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        run.with_suffix(".json").write_text("{}")
        (run / "log.jsonl").write_text(
            '{"step": 0, "rank": 1}\n{"step": 10, "loss": 4}\n{"step": 40, "loss": 2}\n'
        )
    (tmp_path / "runs" / "resolution-none-0").mkdir()  # not finished

    def recipe_of(run: Path) -> Any:
        return SimpleNamespace(method="exaonepath2" if run.name == "stain-none-0" else "dinov2")

    kept = [(step, Path(f"step-{step}")) for step in (10, 20, 30, 40)]
    monkeypatch.setattr(probes, "recipe_of", recipe_of)
    monkeypatch.setattr(probes, "load", lambda run: SimpleNamespace(step=40))
    monkeypatch.setattr(probes.milestones, "entries", lambda run: kept)
    found = probes.moments(study, settings)
    assert [(each.run, each.step, each.last) for each in found] == [
        ("resolution-kde-0", 10, False),
        ("resolution-kde-0", 30, False),
        ("resolution-kde-0", 40, True),
        ("resolution-kde-1", 40, True),
    ]
    assert [each.probes for each in found[:3]] == [{"loss": 4.0}, {"loss": 4.0}, {"loss": 2.0}]
    assert {each.arm for each in found} == {"resolution-kde"}
