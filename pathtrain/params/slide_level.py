"""Parameters of `pathtrain evaluate slides`; quick to import, so that help is instant."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.encoding import Device

Method = Literal["clam-sb", "clam-mb", "abmil", "transmil", "dsmil", "mean-mlp", "linear"]
METHODS: tuple[Method, ...] = get_args(Method)
USUAL: tuple[Method, ...] = ("clam-sb", "clam-mb", "abmil", "linear")
Protocol = Literal["clam", "eva"]
By = Literal["slide", "patient"]
AttentionSize = Literal["small", "big"]
InstanceLoss = Literal["svm", "ce"]
RegressionLoss = Literal["mse", "huber"]
TRAINING = "Training"
RISK_SET = 16  # slides a step of survival
# What is published. CLAM: its authors' commands. eva: configs/vision/pathology/offline/classification of
# kaiko-ai/eva, camelyon16_small and panda_small, weight decay that of torch's AdamW
PUBLISHED: dict[Protocol, dict[str, Any]] = {
    "clam": {
        "lr": 2e-4, "weight_decay": 1e-5, "epochs": 200, "patience": 20, "stop_epoch": 50, "batch": 1,
    },
    "eva": {"lr": 1e-3, "weight_decay": 0.01, "epochs": 100, "patience": 20, "stop_epoch": -1, "batch": 32},
}  # fmt: skip
SEEDS: dict[Protocol, int] = {"clam": 4, "eva": 20}


@dataclass(frozen=True)
class TrainConfig:
    """How bag models are trained; None is what the protocol has (``PUBLISHED``). CLAM's code left to its
    defaults has lr 1e-4 and draws each slide once.

    Attributes:
        weighted: each epoch draws as many slides as there are, with replacement, classes equally often;
            otherwise each slide once. Of the protocol clam, and of classes.
        lr, weight_decay: of Adam (as L2), or AdamW with eva.
        epochs: at most.
        patience: epochs in a row without a better validation, after which training may stop.
        stop_epoch: the last epoch, counted from 0, at which it may not stop yet.
        batch: slides a step; of survival those that are compared with each other.
    """

    weighted: Annotated[
        bool, Setting("Draw classes equally often, with replacement, as CLAM's commands do.", TRAINING)
    ] = True
    lr: Annotated[float | None, Setting("Default: 2e-4 as CLAM's commands; eva 1e-3.", TRAINING)] = None
    weight_decay: float | None = None
    epochs: Annotated[
        int | None, Setting("At most; the val slides stop earlier. Default: 200; eva 100.", TRAINING)
    ] = None
    patience: int | None = None
    stop_epoch: int | None = None
    batch: Annotated[
        int | None,
        Setting(f"Slides a step. Default: 1; eva 32; of survival {RISK_SET}, a risk set.", TRAINING),
    ] = None

    def __post_init__(self) -> None:
        check(
            {
                "`epochs` must be above 0": self.epochs is None or self.epochs >= 1,
                "`lr` must be above 0": self.lr is None or self.lr > 0,
                "`batch` must be above 0": self.batch is None or self.batch >= 1,
            }
        )

    def of(self, protocol: Protocol, *, survival: bool = False) -> "Schedule":
        """With what the protocol says where this says nothing."""
        found = dict(PUBLISHED[protocol])
        if survival and protocol == "clam":
            found["batch"] = RISK_SET
        said = {name: getattr(self, name) for name in found if getattr(self, name) is not None}
        weighted = self.weighted and protocol == "clam" and not survival
        return Schedule(protocol=protocol, weighted=weighted, **(found | said))


@dataclass(frozen=True)
class Schedule:
    """A TrainConfig in which nothing is open."""

    protocol: Protocol
    weighted: bool
    lr: float
    weight_decay: float
    epochs: int
    patience: int
    stop_epoch: int
    batch: int


@dataclass(frozen=True)
class SlidesConfig:
    """What runs.

    Attributes:
        methods: in the order of the table; None: those of the protocol.
        protocol: ``clam``, or ``eva``: its ABMIL, trained as it does.
        seeds: how many; they are 0, 1, ...; None: 4, with eva 20.
        folds: patient-grouped folds instead of the CSV's parts; None for its parts.
        by: what is a bag: a slide, or all slides of a patient.
        size: of the attention, ``small`` or ``big``.
        instance_loss: of CLAM, ``svm`` or ``ce``.
        regression_loss: ``mse`` or ``huber``, in standard deviations of the training slides.
        training: of all but linear.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: that decode tiles for colour.
    """

    methods: Annotated[
        list[Method],
        Setting(
            "May be repeated. Default: clam-sb, clam-mb, abmil and linear; eva: abmil.", TRAINING, "method"
        ),
    ] = field(default_factory=list)
    protocol: Annotated[
        Protocol, Setting("clam: as CLAM's commands. eva: its ABMIL, as in Midnight's table.", TRAINING)
    ] = "clam"
    seeds: Annotated[
        int | None, Setting("Trainings per method (and fold). Default: 4; eva 20.", TRAINING)
    ] = None
    folds: Annotated[
        int | None,
        Setting("Patient-grouped, stratified folds, instead of the column split.", TRAINING),
    ] = None
    by: Annotated[By, Setting("A bag: a slide, or all slides of a patient.", TRAINING)] = "slide"
    size: Annotated[AttentionSize, Setting("Attention: small (256) or big (384).", TRAINING, "clam_size")] = (
        "small"
    )
    instance_loss: Annotated[InstanceLoss, Setting("Of CLAM: svm or ce (cross-entropy).", TRAINING)] = "svm"
    regression_loss: Annotated[
        RegressionLoss, Setting("Of tasks of numbers: mse, or huber where some are far off.", TRAINING)
    ] = "mse"
    training: TrainConfig = field(default_factory=TrainConfig)
    device: Annotated[Device, Setting("auto: a GPU if there is one.", "Running")] = "auto"
    threads: Annotated[int, Setting("Threads that decode tiles for colour.", "Running")] = 2

    def __post_init__(self) -> None:
        check(
            {
                f"`method` must be {', '.join(METHODS[:-1])} or {METHODS[-1]}": set(self.methods)
                <= set(METHODS),
                "`protocol` must be clam or eva": self.protocol in get_args(Protocol),
                "`protocol` eva is of `method` abmil alone (and linear beside it)": self.protocol == "clam"
                or set(self.methods) <= {"abmil", "linear"},
                "`seeds` must be above 0": self.seeds is None or self.seeds >= 1,
                "`by` must be slide or patient": self.by in get_args(By),
                "`clam_size` must be small or big": self.size in get_args(AttentionSize),
                "`instance_loss` must be svm or ce": self.instance_loss in get_args(InstanceLoss),
                "`regression_loss` must be mse or huber": self.regression_loss in get_args(RegressionLoss),
                "`device` must be auto, cpu or cuda": self.device in get_args(Device),
                "`threads` must be above 0": self.threads >= 1,
            }
        )

    def settled(self) -> "SlidesConfig":
        """With the protocol's methods and seeds where none are said."""
        methods = self.methods or list(USUAL if self.protocol == "clam" else ("abmil",))
        return replace(self, methods=methods, seeds=self.seeds or SEEDS[self.protocol])
