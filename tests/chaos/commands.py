"""Every command that writes, a line each: what it is given, what is there before.

``{out}`` is a folder of its own for each trial, ``{name}`` an input of INPUTS, made when it is first needed.
"""

from dataclasses import dataclass
from fnmatch import fnmatch

# Each by a command; what it names in braces is made first
INPUTS = {
    "slides": "pathprep synth {slides} --slides 2 --size 640",
    "dataset": "pathprep shard {slides} --out {dataset} --workers 2 --tile 128",
    "damaged": "make damaged {damaged} {dataset}",
    "toy": "make-train toy {toy}",
    "toy_labels": "make-train toy_labels {toy_labels}.csv",
    "first": "make first {first}",
    "second": "make second {second}",
    "tile_set": "make tile_set {tile_set}",
    "picture": "make picture {picture}.png",
    "imported": "pathprep import-tiles {tile_set} --out {imported} --tiles-per-shard 4 --workers 2",
    "recipe": "make-train recipe {recipe}.yaml",
    "run": "make-train run {run} {toy}",
    "other_run": "make-train other_run {other_run} {toy}",
    "model": "pathtrain export {other_run} --out {model}/model",
    "staged": "make-train staged {staged}",
    "staged_labels": "make-train staged_labels {staged_labels}.csv",
    "staged_recipe": "make-train staged_recipe {staged_recipe}.yaml",
    "staged_run": "pathtrain pretrain {staged} --labels {staged_labels}.csv --recipe {staged_recipe}.yaml"
    " --out {staged_run}",
    "features": "pathtrain embed {run} {toy} --out {features}",
    "key": "make key {key}",
    "task_tiles": "make-train task_tiles {task_tiles}",
    "masked": "make-train masked {masked}",
    "sections": "make-train sections {sections}",
    "settled": "make-train settled {settled} {toy}",
    "slide_features": "pathtrain embed {other_run} {staged} --out {slide_features}",
}


@dataclass(frozen=True)
class Command:
    """A command that writes to {out}.

    Attributes:
        name: in results. line: program and arguments. before: the input that {out} begins as a copy of.
        check: a command that must find {out} whole. share: of the kills, against the others'.
        foreign: whether strangers' files may lie in {out}. remakes: markers of what it makes anew
            vouch for nothing meanwhile, so that an error may leave that unmade until the next run.
        sheds: patterns of what further starts may leave besides, which is not compared: names, or folders/.
    """

    name: str
    line: str
    before: str | None = None
    check: str | None = None
    share: int = 1
    foreign: bool = True
    remakes: bool = False
    sheds: tuple[str, ...] = ()

    def is_shed(self, name: str) -> bool:
        """Whether a file or folder is of what ``sheds`` says."""
        words = [name, *name.split("/")]
        return any(fnmatch(word, pattern) for word in words for pattern in self.sheds)

    @property
    def package(self) -> str:
        """The warm process that it runs in."""
        program = self.line.split()[0]
        return {"make": "pathprep", "make-train": "pathtrain"}.get(program, program)


VERIFY = "pathprep verify {out}"
CHECKED = "pathtrain verify {out}"
STAGED = "{staged_run} {staged}"
COMMANDS = (
    Command("shard", "pathprep shard {slides} --out {out} --workers 2 --tile 128", check=VERIFY, share=3),
    Command(
        "shard --rebuild",
        "pathprep shard {slides} --out {out} --workers 2 --tile 96 --rebuild",
        before="dataset",
        check=VERIFY,
        remakes=True,
        share=3,
    ),
    Command(
        "shard to a URL",
        "pathprep shard {slides} --out chaos://{out} --workers 2 --tile 128",
        check=VERIFY,
        share=3,
        # there are no locks: what seems to be left over may be in work, and goes hours later; nor folders
        sheds=(".tmp-*", "failed/"),
    ),
    Command(
        "shard --pseudonymise",
        "pathprep shard {slides} --out {out} --workers 2 --tile 128 --pseudonymise {key}/key",
        check=VERIFY,
        share=3,
    ),
    Command(
        "import-tiles",
        "pathprep import-tiles {tile_set} --out {out} --tiles-per-shard 4 --workers 2",
        check=VERIFY,
        share=4,
    ),
    Command(
        "import-tiles --rebuild",
        "pathprep import-tiles {tile_set} --out {out} --tiles-per-shard 5 --workers 2 --rebuild",
        before="imported",
        check=VERIFY,
        remakes=True,
        share=3,
    ),
    Command(
        "mix",
        "pathprep mix {first} {second} --out {out} --tiles-per-shard 6 --workers 2",
        check=VERIFY,
        share=8,
    ),
    Command(
        "repair", "pathprep repair {out} --workers 2", before="damaged", check=VERIFY, remakes=True, share=4
    ),
    Command("report", "pathprep report {out}", before="dataset", share=2),
    Command("target of a slide", "pathprep target {slides}/synth-000.tif --out {out}/target.json", share=2),
    Command("target of a picture", "pathprep target {picture}.png --out {out}/target.json", share=2),
    Command("synth", "pathprep synth {out} --slides 2 --size 512", share=3),
    Command(
        "inspect --out-json", "pathprep inspect {slides}/synth-000.tif --out-json {out}/facts.json", share=2
    ),
    Command(
        "pseudonyms --labels",
        "pathprep pseudonyms {key}/key --labels {key}/labels.csv --out {out}/labels.csv",
        share=2,
    ),
    Command(
        "overlay",  # a dataset's index is a file of scores too
        "pathprep overlay {dataset}/index/synth-000.parquet {slides}/synth-000.tif --out {out}",
        share=2,
    ),
    Command("audit --out-json", "pathprep audit {first} --out-json {out}/found.json"),
    Command(
        "pretrain", "pathtrain pretrain {toy} --recipe {recipe}.yaml --out {out}", share=2, check=CHECKED
    ),
    Command(
        "pretrain, three stages",
        "pathtrain pretrain {staged} --labels {staged_labels}.csv --recipe {staged_recipe}.yaml --out {out}",
        check=CHECKED,
    ),
    Command(
        "pretrain --fresh",
        "pathtrain pretrain {toy} --recipe {recipe}.yaml --out {out}/run --fresh",
        before="settled",
        check=CHECKED.replace("{out}", "{out}/run"),
        remakes=True,
        sheds=("run.old-[2-9]*",),
    ),
    Command("embed", "pathtrain embed {run} {toy} --out {out}", share=2, check=CHECKED),
    Command(
        "embed --format parquet",
        "pathtrain embed {run} {toy} --out {out} --format parquet",
        share=2,
        check=CHECKED,
    ),
    Command("embed --level region", f"pathtrain embed {STAGED} --out {{out}} --level region", check=CHECKED),
    Command("embed --level slide", f"pathtrain embed {STAGED} --out {{out}} --level slide", check=CHECKED),
    Command(
        "export",
        "pathtrain export {run} --out {out}/model",
        share=2,
        check=CHECKED.replace("{out}", "{out}/model"),
    ),
    Command(
        "export over an older one",
        "pathtrain export {run} --out {out}/model",
        before="model",
        share=3,
        check=CHECKED.replace("{out}", "{out}/model"),
    ),
    Command("scores clusters", "pathtrain scores clusters {features} --count 3 --out {out}/scores.parquet"),
    Command("pathtrain report", "pathtrain report {out}", before="run"),
    Command("compare", "pathtrain compare {run} {other_run} --out {out}/compare.html"),
    Command(
        "lr-range", "pathtrain lr-range {toy} --recipe {recipe}.yaml --steps 20 --out {out}/lr-range.html"
    ),
    Command(
        "evaluate knn",
        "pathtrain evaluate knn {out} --train {toy} --labels {toy_labels}.csv --k 3",
        before="run",
    ),
    Command(
        "evaluate linear",
        "pathtrain evaluate linear {out} --train {toy} --labels {toy_labels}.csv --iterations 20",
        before="run",
    ),
    Command("evaluate collapse", "pathtrain evaluate collapse {out} {toy} --k 3", before="run"),
    Command(
        "evaluate robustness",
        "pathtrain evaluate robustness {out} {toy} --by slide --labels {toy_labels}.csv"
        " --measures share --picture pca",
        before="run",
    ),
    Command(
        "evaluate hest",
        "pathtrain evaluate hest {out} {sections} --top-genes 3 --baselines colour --out {out}/genes",
        before="run",
    ),
    Command(
        "evaluate perturbation",
        "pathtrain evaluate perturbation {out} {toy} --labels {toy_labels}.csv --kinds light,cast:5"
        " --baselines colour --k 3 --out {out}/perturbed",
        before="run",
    ),
    Command(
        "evaluate tasks",
        "pathtrain evaluate tasks {out} {staged} --labels {staged_labels}.csv",
        before="staged_run",
    ),
    Command(
        "evaluate slides",
        "pathtrain evaluate slides {slide_features} --labels {staged_labels}.csv --task colour"
        " --method linear --folds 2 --seeds 1 --out {out}",
    ),
    Command(
        "evaluate table",
        "pathtrain evaluate table {out} --tasks {task_tiles} --iterations 20 --seeds 1"
        " --cache {out}/cache --out {out}/tables",
        before="run",
    ),
    Command(
        "evaluate segmentation",
        "pathtrain evaluate segmentation {run} --train {masked} --size 32 --window 64 --steps 4 --seeds 1"
        " --decoder-batch 4 --cache {out}/cache --out {out}",
    ),
    Command("pathtrain verify --out-json", "pathtrain verify {run} --out-json {out}/found.json"),
)
