"""What part 5 found, in tables and sentences."""

from collections.abc import Mapping
from typing import Any

from small.probes.foretelling import verdict


def sentences(table: Mapping[str, Any]) -> list[str]:
    """What each probe foretells and what it does not, in sentences of one kind."""
    lines = []
    for where, words in (("across", "Across runs"), ("along", "Along the steps of a run")):
        for probe, tests in table[where].items():
            if not any(tests.values()):
                lines.append(f"{words}, {probe}: too few to rank.")
                continue
            parts = []
            for test, found in tests.items():
                if found is None or found["rho"] is None:
                    parts.append(f"{test} cannot be ranked")
                    continue
                other, name = (
                    ("lost_at_random", "at random") if where == "across" else ("lost_at_end", "at the end")
                )
                parts.append(
                    f"{verdict(found)} {test} (rho {_rho(found)}; going by it loses "
                    f"{found['lost']:.3f} AUROC, {name} {found[other]:.3f})"
                )
            lines.append(f"{words}, {probe} {'; '.join(parts)}.")
    every = [
        each for where in ("across", "along") for tests in table[where].values() for each in tests.values()
    ]
    asked = [verdict(each) for each in every if each is not None and each["rho"] is not None]
    lines.append(
        f"Of {len(asked)} relations {asked.count('foretells')} foretell and {asked.count('misleads')} "
        "mislead; intervals are of 95 % each, so one in twenty would by chance."
    )
    return lines


def _rho(found: Mapping[str, Any]) -> str:
    """The rank correlation of the arms' means where there are arms, else the mean of the runs' own."""
    name = "rho_arms" if found.get("rho_arms") is not None else "rho"
    ends = found[f"{name}_interval"]
    return f"{found[name]:+.2f}" + ("" if ends is None else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]")


def markdown(result: Mapping[str, Any]) -> str:
    """Correlations as tables, then the sentences."""
    lines: list[str] = []
    for where, head in (
        ("across", "Across runs of a part, at their last step, by the means of its arms"),
        ("along", "Along the steps of a run"),
    ):
        tests = list(next(iter(result[where].values())))
        counts = ("runs", "arms") if where == "across" else ("runs",)
        lines += [f"{head}: Spearman's rho with the test's AUROC", ""]
        lines += [
            f"| probe | {' | '.join([*tests, *counts])} |",
            "| --- " * (len(tests) + len(counts) + 1) + "|",
        ]
        for probe, found in result[where].items():
            cells = [_rho(each) if each and each["rho"] is not None else "" for each in found.values()]
            cells += [str(max((each[key] for each in found.values() if each), default=0)) for key in counts]
            lines.append(f"| {probe} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["Intervals: across runs Fieller's, of the arms' means; along steps over runs.", ""]
    return "\n".join([*lines, *(f"- {each}" for each in result["sentences"]), ""])
