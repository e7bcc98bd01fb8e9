"""Parameters of `pathtrain evaluate slides`; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.encoding import Device

Method = Literal["clam-sb", "clam-mb", "abmil", "linear"]
METHODS: tuple[Method, ...] = get_args(Method)
AttentionSize = Literal["small", "big"]
InstanceLoss = Literal["svm", "ce"]
TRAINING = "Training"


@dataclass(frozen=True)
class TrainConfig:
    """How bag models are trained: as CLAM's published commands do (Exact); left to its defaults, its code has
    lr 1e-4 and draws each slide once.

    Attributes:
        weighted: each epoch draws as many slides as there are, with replacement, classes equally often;
            otherwise each slide once.
        lr: of Adam.
        weight_decay: of Adam, as L2.
        epochs: at most.
        patience: epochs in a row without a lower validation loss, after which training may stop.
        stop_epoch: the last epoch, counted from 0, at which it may not stop yet.
    """

    weighted: Annotated[
        bool, Setting("Draw classes equally often, with replacement, as CLAM's commands do.", TRAINING)
    ] = True
    lr: Annotated[float, Setting("Of Adam for clam and abmil; 2e-4 as CLAM's commands.", TRAINING)] = 2e-4
    weight_decay: float = 1e-5
    epochs: Annotated[int, Setting("At most; stopped earlier by the val slides.", TRAINING)] = 200
    patience: int = 20
    stop_epoch: int = 50

    def __post_init__(self) -> None:
        check({"`epochs` must be above 0": self.epochs >= 1, "`lr` must be above 0": self.lr > 0})


@dataclass(frozen=True)
class SlidesConfig:
    """What runs.

    Attributes:
        methods: in the order of the table.
        seeds: how many; they are 0, 1, ...
        folds: patient-grouped folds instead of the CSV's parts; None for its parts.
        size: of the attention, ``small`` or ``big``.
        instance_loss: of CLAM, ``svm`` or ``ce``.
        training: of CLAM and ABMIL.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: that decode tiles for colour.
    """

    methods: Annotated[list[Method], Setting("May be repeated.", TRAINING, "method")] = field(
        default_factory=lambda: list(METHODS)
    )
    seeds: Annotated[int, Setting("Trainings per method (and fold).", TRAINING)] = 4
    folds: Annotated[
        int | None,
        Setting("Patient-grouped, stratified folds, instead of the column split.", TRAINING),
    ] = None
    size: Annotated[AttentionSize, Setting("Attention: small (256) or big (384).", TRAINING, "clam_size")] = (
        "small"
    )
    instance_loss: Annotated[InstanceLoss, Setting("Of CLAM: svm or ce (cross-entropy).", TRAINING)] = "svm"
    training: TrainConfig = field(default_factory=TrainConfig)
    device: Annotated[Device, Setting("auto: a GPU if there is one.", "Running")] = "auto"
    threads: Annotated[int, Setting("Threads that decode tiles for colour.", "Running")] = 2

    def __post_init__(self) -> None:
        check(
            {
                "`method` must be clam-sb, clam-mb, abmil or linear": set(self.methods) <= set(METHODS),
                "`seeds` must be above 0": self.seeds >= 1,
                "`clam_size` must be small or big": self.size in get_args(AttentionSize),
                "`instance_loss` must be svm or ce": self.instance_loss in get_args(InstanceLoss),
                "`device` must be auto, cpu or cuda": self.device in get_args(Device),
                "`threads` must be above 0": self.threads >= 1,
            }
        )
