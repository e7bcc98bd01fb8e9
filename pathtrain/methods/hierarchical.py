"""Three stages trained in phases: DINO on tiles and on regions, and slide labels through all of them.

EXAONE Path 2.0 (arXiv 2507.06639). Stage 1 learns from DINO on tiles, stage 2 from DINO on the grids of
stage-1 vectors of regions (pathtrain.methods.region_dino), and from phase to phase all three from the
losses of slide-level tasks (pathtrain.methods.slide_objective), whose gradient goes into stage 1 through
every tile of the slide (pathtrain.methods.gradient_cache). The recipe's phases say what is trained when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.data.slide_labels import SlideLabels
from pathtrain.data.work import Regions, Slide, Work
from pathtrain.distributed.ranks import Ranks
from pathtrain.losses import spread
from pathtrain.methods import schedules
from pathtrain.methods.base import Outcome, slices
from pathtrain.methods.dino import Dino, momentum, teacher_temp
from pathtrain.methods.gradient_cache import cached_loss
from pathtrain.methods.region_dino import RegionTeaching
from pathtrain.methods.slide_objective import SlideObjective, head
from pathtrain.methods.stages import Stages
from pathtrain.models import backbone as body
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.grid_vit import GridViT
from pathtrain.recipes.hierarchical import HierarchicalRecipe, Phase, SlideTasks

HEADS = {"head": "tile", "region_head": "region"}  # DINO's, and what trains them


@dataclass(frozen=True)
class Part:
    """What goes forward and back at once.

    Attributes:
        objective: ``tile``, ``region`` or ``slide``.
        work: views, Regions or a Slide.
        factor: what makes up for the loop's weighting of parts by their number of samples, so that the
            step's loss is the sum of the objectives' means.
    """

    objective: str
    work: Any
    factor: float


class Hierarchical:
    """All networks of a run.

    Args:
        recipe: stages, phases, ``dino`` and ``views``.
        total: steps of the run.
        device: where everything lives.
        fresh: whether to fetch stage 1's initial weights; False where a checkpoint follows.
        labels: tasks and class weights; None where no phase has slides.

    Raises:
        ModelError: stage 1 cannot be made or initialised.
    """

    uniform = False  # its objectives take turns, and slides go back chunk by chunk

    def __init__(
        self,
        recipe: HierarchicalRecipe,
        total: int,
        device: torch.device,
        fresh: bool = True,
        labels: SlideLabels | None = None,
    ) -> None:
        self.recipe, self.total, self.device = recipe, total, device
        config = recipe.hierarchy
        self.tile = Dino(recipe, total, device, fresh)
        backbone = self.tile.student["backbone"]
        body.check(backbone, recipe.model, {"hierarchy.tile": config.tile})
        stage2 = GridViT(config.stage2, int(backbone.num_features))  # type: ignore[arg-type]  # timm's
        self.region = RegionTeaching(stage2, config.region_head, recipe.dino, device)
        stage3 = GridViT(config.stage3, config.stage2.dim)
        tasks = labels.tasks if labels is not None else ()
        heads = nn.ModuleList(head(task, config.stage3.dim) for task in tasks)
        self.tasks = [] if labels is None else labels.describe()
        self.labels = labels
        self.objective = None if labels is None else SlideObjective(labels, device)
        self.student = nn.ModuleDict(
            {
                "backbone": backbone,
                "head": self.tile.student["head"],
                "stage2": stage2,
                "region_head": self.region.student["head"],
                "stage3": stage3.to(device).train(),
                "tasks": heads.to(device),
            }
        )
        self.stages = Stages(recipe, self.student, device)
        if fresh:
            self._settle_chunk(None)

    def networks(self) -> list[nn.Module]:
        """DINO's students and teachers, and stage 3."""
        # the tiles' networks themselves too: slides go through stage 1 beside DINO
        own = [] if self.tile.running[0] is self.tile.student else [self.tile.student]
        return [*self.tile.running, *own, *self.region.running, self.student["stage3"]]

    def compile(self, backend: Any = "inductor", blocks: bool = False) -> None:
        """DINO on tiles: the shapes of slides differ from step to step."""
        self.tile.compile(backend, blocks)

    def refresh(self) -> None:
        """Before a step: what computes in DINO on tiles."""
        self.tile.refresh()

    def computing(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Those of DINO on tiles; slides and regions go through the trained weights, under autocast."""
        return self.tile.computing()

    def encoder(self) -> nn.Module:
        """Stage 1 of the teacher."""
        return self.tile.encoder()

    def schedule(self, step: int) -> dict[str, float]:
        """The phase, and what DINO on tiles and on regions has by now.

        A temperature follows the steps that its objective had in all phases, a momentum those that moved its
        teacher. Where objectives have rates of their own, all of them are there: ``lr`` is the step's.
        """
        number, at, phase = self._at(step)
        rates = {}
        if any(getattr(phase, name).lr is not None for name in phase.objectives):
            for name in phase.objectives:
                optim = self.recipe.optim_of(phase, name)
                rates[f"{name}_lr"] = schedules.learning_rate(at, phase.steps, optim)
        return {
            "phase": float(number + 1),
            **rates,
            "tile_teacher_temp": self._temperature("tile", step),
            "region_teacher_temp": self._temperature("region", step),
            "tile_momentum": self._momentum("tile", step),
            "region_momentum": self._momentum("region", step),
        }

    def figures(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How widely outputs and features of tiles and of regions are spread, of those that the step had."""
        found: dict[str, Tensor] = {}
        for objective in ("tile_", "region_"):
            own = {n.removeprefix(objective): mean for n, mean in means.items() if n.startswith(objective)}
            if own:
                found |= {objective + name: value for name, value in spread.figures(own).items()}
        return found

    def frozen(self, step: int) -> list[nn.Parameter]:
        """The last layer of each head in its objective's first steps."""
        few, turns = self.recipe.dino.freeze_last_layer_steps, self.recipe.turns
        heads = [self.student[name] for name, of in HEADS.items() if turns(step, of) < few]
        return [p for head in heads if isinstance(head, DinoHead) for p in head.last_layer()]

    def split(self, views: Work, size: int) -> list[Part]:
        """One part for the tiles (or several of ``size``), one for the regions, one for each slide."""
        counts = {
            "tile": len(views.tiles[0]) if views.tiles else 0,
            "region": len(views.regions.places) if views.regions is not None else 0,
            "slide": len(views.slides),
        }
        whole = sum(counts.values())
        parts = []
        if views.tiles:
            parts += [Part("tile", part, whole / counts["tile"]) for part in slices(views.tiles, size)]
        if views.regions is not None:
            parts.append(Part("region", views.regions, whole / counts["region"]))
        return parts + [Part("slide", slide, whole / counts["slide"]) for slide in views.slides]

    def prepare(self, parts: list[Part], step: int, ranks: Ranks) -> list[Part]:
        """Nothing couples a batch's samples."""
        return parts

    def loss(self, part: Part, step: int) -> Outcome:
        """Weighted loss of a part."""
        _, _, phase = self._at(step)
        objective = getattr(phase, part.objective)
        if part.objective == "tile":
            found = self.tile.loss(part.work, self.recipe.turns(step, "tile"))
        elif part.objective == "region":
            found = self._region_loss(part.work, phase, step)
        else:
            found = self._slide_loss(part.work, objective)
        means = {f"{part.objective}_{name}": value * part.factor for name, value in found.means.items()}
        means[f"{part.objective}_loss"] = found.loss.detach().float() * part.factor
        weight = objective.weight * part.factor
        return replace(found, loss=weight * found.loss, means=means)

    def update(self, means: Mapping[str, Tensor], step: int, taken: Tensor | None = None) -> None:
        """Move the centres of what the step had, and the teachers whose students it trained.

        A teacher moves as a whole, so that its head is as old as what the head reads: with a step of slides,
        which trains the network below and not the head, too. Without it, what slides teach stage 1 would not
        reach the encoder, which is the teacher's.
        """
        _, at, phase = self._at(step)
        if "tile_center" in means:
            self.tile.move_center(means["tile_center"], self.recipe.dino.center_momentum, taken)
        if "region_center" in means:
            assert phase.region is not None
            self.region.update(means["region_center"], phase.region, taken)
        if "slide_risks" in means:
            assert self.objective is not None
            self.objective.remember(means["slide_risks"], taken)
        for name, pair in (("tile", self.tile), ("region", self.region)):
            if any(phase.due(at, objective) for objective in phase.trainers(name)):
                pair.follow(self._momentum(name, step))

    def state(self) -> dict[str, Any]:
        """For a checkpoint: as of DINO, with ``stage2`` and ``region_head``; ``stage3`` and ``tasks``; with
        survival ``risks``, the scores that are remembered.
        """
        teacher = {
            **dict(self.tile.teacher.items()),
            "stage2": self.region.teacher["stage2"],
            "region_head": self.region.teacher["head"],
        }
        memory = None if self.objective is None else self.objective.memory
        return {
            **({} if memory is None else {"risks": memory}),
            "student": {name: module.state_dict() for name, module in self.student.items()},
            "teacher": {name: module.state_dict() for name, module in teacher.items()},
            "loss": {"center": self.tile.center, "region_center": self.region.center},
            "tasks": self.tasks,
            "chunk": self.stages.chunk or 0,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; every name and shape must fit."""
        for name, module in self.student.items():
            module.load_state_dict(state["student"][name])
        for name, module in self.tile.teacher.items():
            module.load_state_dict(state["teacher"][name])
        for name, key in (("stage2", "stage2"), ("head", "region_head")):
            self.region.teacher[name].load_state_dict(state["teacher"][key])
        self.tile.center.copy_(state["loss"]["center"])
        self.region.center.copy_(state["loss"]["region_center"])
        if self.objective is not None and "risks" in state:
            self.objective.memory = state["risks"].to(self.device)
        self._settle_chunk(state["chunk"] or None)

    def _settle_chunk(self, known: int | None) -> None:
        """Before the first loss, which must change nothing: measure the chunk, if a phase does not say it."""
        self.stages.chunk = known
        phases = self.recipe.hierarchy.phases
        unsaid = any((p.region or p.slide) and (p.slide is None or p.slide.chunk is None) for p in phases)
        if known is None and unsaid:
            self.stages.measure()

    def _region_loss(self, regions: Regions, phase: Phase, step: int) -> Outcome:
        assert phase.region is not None
        side = phase.region.side
        # the vectors are data here: no graph, no stochastic depth
        vectors = self.stages.tile_vectors(regions.pixels, phase.slide).to(self.device)
        cells = torch.from_numpy(regions.layout.cells).to(self.device)
        grids = vectors[cells].view(len(cells), side, side, -1)
        seed = self.recipe.seed + self._at(step)[0]
        temp = self._temperature("region", step)
        return self.region.loss(grids, regions.places, phase.region, seed, temp)

    def _slide_loss(self, slide: Slide, config: SlideTasks) -> Outcome:
        objective, stages = self.objective, self.stages
        assert objective is not None
        seen: list[Tensor] = []

        def loss_of(vectors: Tensor) -> Tensor:
            regions = stages.regions(vectors, slide.layout, config, config.checkpointing)
            scores = stages.heads(stages.slide(regions, slide.layout, config.checkpointing))
            if objective.memory is not None:
                seen.append(objective.seen(scores, slide))
            balanced = config.class_weights == "balanced"
            return objective.loss(scores, slide, balanced, config.regression_loss)

        chunk, trained = stages.chunk_of(config), config.stage1 == "trained"
        loss = cached_loss(stages.encode, slide.pixels, loss_of, chunk, self.device, trained)
        return Outcome(loss, loss.detach().view(1), {"risks": seen[0]} if seen else {})

    def _temperature(self, objective: str, step: int) -> float:
        region = self._at(step)[2].region
        if objective == "region" and region is not None and region.teacher_temp is not None:
            return region.teacher_temp
        return teacher_temp(self.recipe.dino, self.recipe.turns(step, objective))

    def _momentum(self, teacher: str, step: int) -> float:
        moves = self.recipe.moves
        return momentum(self.recipe.dino, moves(step, teacher), moves(self.total, teacher))

    def _at(self, step: int) -> tuple[int, int, Phase]:
        """Phase number, step within it, and the phase."""
        number, at = self.recipe.place(step)
        return number, at, self.recipe.hierarchy.phases[number]
