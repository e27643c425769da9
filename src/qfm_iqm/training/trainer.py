"""The trainer: trains a recipe's model; interrupting and resuming does not change the result.

Design choices:
* `selection` keeps the epoch with the best validation SRCC and scores the test split once, at the
  end, with that model.
* Random draws depend on (seed, epoch, index). The state is saved every ten minutes, after every
  epoch and on interruption. On a CPU, a resumed run gives bit-identical weights.
"""

import copy
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader

from qfm_iqm.errors import InterruptedRunError, RecipeError, TableError, as_raised_here
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.averaging import MovingAverage, interpolated
from qfm_iqm.training.batches import Batch, CropDataset, EpochOrder, collate
from qfm_iqm.training.building import (
    build_augmentation,
    build_model,
    check_memory,
    on_cpu,
    open_feature_cache,
)
from qfm_iqm.training.data import UnlabeledImage, load_data
from qfm_iqm.training.objective import Objective
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.reporting import Reporter, in_bytes
from qfm_iqm.training.run_folder import RunFolder
from qfm_iqm.training.schedule import build_optimizer, rate_factor
from qfm_iqm.training.selection import Selection, SplitName
from qfm_iqm.training.state import (
    StopRequest,
    heed_no_signal,
    load_state,
    random_state,
    restore_random_state,
    save_state,
)

LOG_EVERY = 10  # steps
SAVE_EVERY = 600  # seconds


class Trainer:
    """One training run.

    Args:
        recipe: the validated recipe.
        out: the run's folder.
        resume: continue the run in `out`, or begin if there is none.
        reporter: shows progress; None is silent.
        unlabeled: images for Distilled Label Expansion, with their pseudo-labels.
        teachers: networks whose scores of unlabeled crops replace these pseudo-labels.
        pseudo_labels: tables of crops that a teacher scored.
        replace: whether to replace a run of another recipe in `out`.

    Raises:
        RecipeError: `out` holds a run and `resume` is False, or holds a run of another recipe or
            of other images; or the memory bank needs more than is free.
        TableError, ModelError: data or weights cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        resume: bool = False,
        reporter: Reporter | None = None,
        unlabeled: Sequence[UnlabeledImage] = (),
        teachers: Sequence[QualityNetwork] = (),
        pseudo_labels: Iterable[Path] = (),
        replace: bool = False,
    ) -> None:
        self.recipe = recipe
        self.folder = RunFolder(out, recipe, resume=resume, replace=replace)
        config = recipe.train
        self.data = load_data(recipe, unlabeled, pseudo_labels)
        if self.folder.resuming:
            self.folder.refuse_another_split(self.data.split)
        torch.manual_seed(config.seed)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            cpu=on_cpu(recipe),
        )
        spoken = reporter if self.accelerator.is_main_process else None
        self.reporter = spoken or Reporter(None)
        self.model = build_model(recipe, self.data)
        self.memory_bytes = check_memory(recipe, self.model.network, self.accelerator.device)
        for teacher in teachers:
            teacher.to(self.accelerator.device).eval().requires_grad_(False)
        self.objective = Objective(
            self.model.network,
            recipe.method,
            teachers=teachers,
            fidelity=config.fidelity,
        )
        self.model.to(self.accelerator.device)  # before it is copied
        self.average = None if config.ema is None else MovingAverage(self.model, config.ema)
        self._start = copy.deepcopy(self.model) if config.start_share else None
        optimizer = build_optimizer(self.objective, config)
        self.features = open_feature_cache(self.model, recipe)
        self.dataset = CropDataset(
            self.data.samples,
            recipe.training_crops,
            seed=config.seed,
            flip=config.flip,
            cache=config.cache,
            fixed_crops=config.fixed_crops,
            features=self.features,
            augmentation=build_augmentation(recipe),
        )
        self.order = EpochOrder(
            self.data.supervised,
            config.batch_size,
            pairs=self.data.pairs,
            pairs_batch=0 if recipe.augment is None else recipe.augment.pairs,
            unlabeled=self.data.unlabeled,
            unlabeled_batch=max(1, round(config.batch_size * recipe.distillation.share)),
            seed=config.seed,
        )
        loader = DataLoader(
            self.dataset,
            batch_sampler=self.order,
            collate_fn=collate,
            num_workers=config.workers,
            worker_init_fn=heed_no_signal,
            pin_memory=self.accelerator.device.type == "cuda",
            # A separate generator: each pass draws a seed for its readers. Drawing it from the
            # layers' generator would change the draws after a resume in mid-epoch.
            generator=torch.Generator(),
        )
        self.step_module, self.optimizer, self.loader = self.accelerator.prepare(
            self.objective, optimizer, loader
        )
        self.epoch = 0
        self.step = 0  # steps done in this epoch
        self.stopping = StopRequest()
        self.selection = Selection(
            recipe,
            self.data,
            self.folder,
            self.reporter,
            self.stopping,
            device=self.accelerator.device,
            features=self.features,
        )

    def run(self, *, split: SplitName = "test") -> Evaluation:
        """Trains to the end, and tests once; see `train` and `test`."""
        self.train()
        return self.test(split)

    def train(self) -> None:
        """Trains to the end; the best epoch's model is in `best/`.

        Raises:
            InterruptedRunError: on Ctrl-C or a termination signal, with the state saved.
            ImageError: an image cannot be read; once it can, the run can be resumed.
            RecipeError: the loss became infinite or NaN.
            TableError: in every epoch, all scores were equal.
        """
        if self.folder.resuming:
            self._restore()
        elif self.accelerator.is_main_process:
            self.folder.begin(self.data.split)
        if self.memory_bytes:
            entries, size = self.recipe.method.memory, in_bytes(self.memory_bytes)
            self.reporter.say(f"The memory of {entries} entries takes {size} when full.")
        with self.stopping, closing(self.reporter):
            self._fill_features()
            if self.recipe.train.cache and self.recipe.train.workers:
                self.dataset.fill()  # before other processes start: all share the memory
            for epoch in range(self.epoch, self.recipe.train.epochs):
                self._train_epoch(epoch)
                self._save_state()
                self.accelerator.wait_for_everyone()
                if self.accelerator.is_main_process:
                    kept = self.model if self.average is None else self.average.model
                    if self._start is not None:
                        kept = interpolated(self._start, kept, self.recipe.train.start_share)
                    self.selection.validate(kept, epoch)
                self.epoch, self.step = epoch + 1, 0
                self._save_state()
        best = [self.selection.best]
        broadcast_object_list(best)  # only the first process validated
        self.selection.best = best[0]
        if best[0]["epoch"] is None:
            raise TableError(
                "In no epoch did the scores differ between validation images, so there is no model "
                "to test: lower train.lr, or check the labels."
            )

    def test(self, split: SplitName = "test", network: Path | None = None) -> Evaluation:
        """Evaluates and writes the model in the first process; all processes get the figures.

        Args:
            split: the split that evaluates the model. "validation" leaves the test split unseen,
                for choosing among recipes.
            network: folder of the model; None takes the best epoch's.

        Raises:
            InterruptedRunError: on Ctrl-C or a termination signal.
        """
        with self.stopping, closing(self.reporter):
            first = self.accelerator.is_main_process
            found = [self.selection.finish(split, network) if first else None]
            broadcast_object_list(found)
        assert found[0] is not None
        return found[0]

    def _fill_features(self) -> None:
        """Fills the feature cache with all that the run needs."""
        if self.features is None or not self.accelerator.is_main_process:
            return
        data = self.data
        covered = [path for table in data.held_out.values() for path in table.paths(data.root)]
        learned = [sample.path for sample in data.samples]
        if self.recipe.protocol == "test-selected":
            learned += data.test.paths(data.root)
        self.features.fill(learned, covered, self._stoppable_features)

    def _stoppable_features(self, paths: Iterator[Path], total: int) -> Iterator[Path]:
        """Yields the images to compute features of, with progress; a stop keeps earlier ones."""
        self.reporter.say(f"Computing the frozen part of the backbone for {total} images.")
        for path in self.reporter.scoring(paths, total, "features"):
            if self.stopping.asked:
                raise InterruptedRunError
            yield path

    def _train_epoch(self, epoch: int) -> None:
        config = self.recipe.train
        self.epoch = epoch
        self.dataset.epoch = self.order.epoch = epoch
        self.order.start = self.step * self.accelerator.num_processes
        steps = self.step + len(self.loader)
        self.step_module.train()
        self.reporter.begin_epoch(epoch, config.epochs, steps, self.step)
        saved = time.monotonic()
        for batch in self._batches():
            began = time.perf_counter()
            progress = epoch + self.step / steps
            factor = rate_factor(progress, config)
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            with self.accelerator.autocast():
                losses = self.step_module(
                    batch.input(),
                    batch.label.float(),
                    batch.content,
                    progress,
                    supervised_B=batch.supervised,
                    groups_B=batch.group,
                    pairs_B=batch.pair,
                    draw=_seed(config.seed, epoch, self.step),
                )
            self.accelerator.backward(losses["loss"])
            self.accelerator.clip_grad_norm_(self.step_module.parameters(), config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update(self.model)
            self.step += 1
            values = {key: value.item() for key, value in losses.items()}
            if not math.isfinite(values["loss"]):
                raise RecipeError(
                    f"The loss became infinite or NaN in step {self.step} of epoch {epoch + 1}, "
                    f"and cannot recover: lower train.lr (it is {config.lr:g})."
                )
            self.reporter.step(values["loss"], len(batch.label))
            if self.step % LOG_EVERY == 0 or self.step == steps:
                seconds = time.perf_counter() - began
                self._log(
                    kind="step", epoch=epoch, step=self.step, lr=config.lr * factor,
                    **values, seconds=seconds,
                )  # fmt: skip
            if self.stopping.asked or time.monotonic() - saved > SAVE_EVERY:
                self._save_state()
                saved = time.monotonic()
            if self.stopping.asked:
                raise InterruptedRunError
        self._log_matches(epoch)

    def _log_matches(self, epoch: int) -> None:
        """Logs the match counts of the run so far, summed over all processes."""
        if self.objective.memory is not None:
            counts = self.objective.counts
            mine = torch.tensor(list(counts.values()), device=self.accelerator.device)
            totals = self.accelerator.reduce(mine).tolist()
            self._log(kind="matches", epoch=epoch, **dict(zip(counts, totals, strict=True)))

    def _batches(self) -> Iterator[Batch]:
        """The epoch's batches; an unreadable image raises its own error."""
        with as_raised_here():
            yield from self.loader

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            memory = self.objective.memory
            state = {
                "epoch": self.epoch,
                "step": self.step,
                "best": self.selection.best,
                "network": self.model.network.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.optimizer.state_dict(),
                "counts": self.objective.counts,
                "memory": None if memory is None else memory.state_dict(),
                "random": random_state(),
            }
            save_state(state, self.folder.state)

    def _restore(self) -> None:
        state = load_state(self.folder.state)
        self.epoch, self.step = state["epoch"], state["step"]
        self.selection.best = state["best"]
        if self.accelerator.is_main_process:  # each process counts its own crops
            self.objective.counts = state["counts"]
        self.model.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.objective.memory is not None:
            self.objective.memory.load_state_dict(state["memory"])
        restore_random_state(state["random"])

    def _log(self, **fields: Any) -> None:
        if self.accelerator.is_main_process:
            self.folder.log(**fields)


def _seed(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
