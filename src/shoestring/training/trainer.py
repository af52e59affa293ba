"""A thin transformers Trainer: our losses and our evaluation in its loop, for gradients and for forward passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from shoestring.errors import NonFiniteLossError, NonFiniteScoreError, OptimizerError
from shoestring.files import saving
from shoestring.memory import PeakMemory
from shoestring.models.batch import Batch
from shoestring.models.evaluation import answers_of, evaluate
from shoestring.models.folding import examples_in, is_folded, row_losses
from shoestring.models.prompted import Passes, PromptedModel
from shoestring.models.tail import Tail, tail_of, tails_read
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.seeds import MASK_32, derive
from shoestring.tasks.metrics import METRICS
from shoestring.training.asking import Asking
from shoestring.training.callbacks import Meter
from shoestring.training.cheaper import in_own_precision, is_in_integers, save_trained, trainable_beside_integers
from shoestring.training.objective import OBJECTIVES, default_objective
from shoestring.training.settings import TrainSettings
from shoestring.training.trackers import Tracking
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.closures import Closure, PerExample
from shoestring.zeroth.engines.compiled import uncompiled

if TYPE_CHECKING:
    from torch import nn

_EXAMPLE = "example"


@dataclass(frozen=True)
class Job:
    """What is trained, on what, how, and where its checkpoints go."""

    subject: PromptedModel
    train: Sequence[EncodedPrompt]
    dev: Sequence[EncodedPrompt]
    settings: TrainSettings
    seed: int
    folder: Path
    memory: PeakMemory
    eval_batch_size: int = 64
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the log of a zeroth-order training is to say of it."""
    tracking: Tracking = field(default_factory=Tracking)
    """The trackers of experiments that it reports to."""


class PromptTrainer(Trainer):
    """Trains a prompted model with gradients, in the Trainer's own loop.

    Two private names of the Trainer are used, `_get_grad_norm` for what is logged and `_save_checkpoint` to name a disk
    that refuses; everything else overridden is documented.

    Differs from the stock Trainer: the loss is always the mean over the micro-batches of a step. Stock, RoBERTa, BERT
    and T5 losses are multiplied by the number of accumulation steps (huggingface/transformers issue 47688).
    """

    def __init__(self, job: Job, meter: Meter, callbacks: list[TrainerCallback]) -> None:
        self.job, self.meter = job, meter
        task = job.subject.task
        self.objective = OBJECTIVES.get(job.settings.objective or default_objective(task.kind))
        self.dev_subject = replace(job.subject, passes=Passes())
        self._asking = Asking(job)
        with trainable_beside_integers(job.subject.model):
            super().__init__(
                model=job.subject.model,
                args=training_arguments(job),
                data_collator=self.collate,
                train_dataset=range(len(job.train)),  # pyright: ignore[reportArgumentType] - indices are all it needs
                eval_dataset=range(len(job.dev)),  # pyright: ignore[reportArgumentType]
                callbacks=[*callbacks, meter, *early_stopping(job.settings), *job.tracking.callbacks()],
            )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False

    def collate(self, indices: Sequence[int]) -> Batch:
        """Return the batch of training examples `indices`, with several in a row where that saves padding.

        Their indices are in it, so that errors can name them.
        """
        subject = self.job.subject
        batch, prompts = self._padded(self._asking.prompts(indices, self.state.global_step))
        batch[_EXAMPLE] = torch.tensor(indices)
        if not self._own("folds"):
            return batch
        with in_own_precision(subject.model):
            return subject.fold(batch, prompts)

    def _padded(self, prompts: Sequence[EncodedPrompt]) -> tuple[Batch, Sequence[EncodedPrompt]]:
        """Return the batch of prompts, and what of them is in it."""
        prompts = self.objective.narrow(prompts) if self._own("narrow") else prompts
        return {**self.objective.prepare(self.job.subject.collate(prompts), prompts)}, prompts

    def _own(self, name: str) -> Any:
        """Return what the objective's own class says: one made of another may well look at more than that one does."""
        return vars(type(self.objective)).get(name)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer from our settings."""
        if self.optimizer is None:
            self.optimizer = self.job.settings.optimizer(model or self.job.subject.model, self.job.seed)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the objective on one micro-batch.

        Raises:
            NonFiniteLossError: if it is NaN or infinite; names the step and the examples.
        """
        return self.losses(inputs).mean()

    def losses(self, inputs: Batch) -> Tensor:
        """Return the losses [N] of a batch that may be repeated; of a folded one, [R], whose mean is theirs.

        Raises:
            NonFiniteLossError: if one is NaN or infinite, unless such steps are skipped; names step and examples.
        """
        return row_losses(self._losses, inputs)

    def _losses(self, inputs: Batch) -> Tensor:
        batch = {name: value for name, value in inputs.items() if name != _EXAMPLE}
        losses = self.objective.losses(self.job.subject, batch)
        skip = getattr(self.job.settings, "nonfinite", "raise") == "skip"
        if not skip and not math.isfinite(total := float(losses.detach().sum())):
            broken = inputs[_EXAMPLE][~losses.detach().isfinite()].tolist()
            examples = dict.fromkeys(self.job.train[index].uid for index in broken or inputs[_EXAMPLE].tolist())
            raise NonFiniteLossError(self.state.global_step + 1, total, list(examples), self._remedies())
        return losses

    def _blaming(self, error: NonFiniteLossError, batches: Sequence[Batch]) -> NonFiniteLossError:
        """Return an error that names those examples alone whose own loss is not finite, if there are any.

        In a row what is not a number makes all of it so: nothing times NaN is NaN.
        """
        if not any(map(is_folded, batches)):
            return error
        named = [prompt for prompt in self.job.train if prompt.uid in error.examples]
        with torch.no_grad():
            losses = self.objective.losses(self.job.subject, self._prepare_inputs(self._padded(named)[0]))
        broken = [prompt.uid for prompt, loss in zip(named, losses.tolist(), strict=True) if not math.isfinite(loss)]
        return NonFiniteLossError(error.step, error.loss, broken or error.examples, self._remedies())

    def _remedies(self) -> list[str]:
        """Return what may help where the loss is not finite, of what this training has."""
        eps = " (or method.eps)" if "eps" in type(self.job.settings).model_fields else ""
        half = any(param.dtype in (torch.float16, torch.bfloat16) for param in self.job.subject.model.parameters())
        return [f"a smaller method.lr{eps}", *(["model.dtype=float32"] if half else [])]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Make one forward and one backward pass, and count the latter."""
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except NonFiniteLossError as error:
            raise self._blaming(error, [inputs]) from None
        self.job.subject.passes.backward += 1
        self.job.subject.passes.backward_examples += examples_in(inputs)
        self.meter.loss.add(loss)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean loss since the line before, be that from before an interruption."""
        if "loss" in logs:
            logs["loss"] = self.meter.loss.take(self.state.global_step)
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the task's metrics on dev; of a generation task that is selected by its loss, the loss alone.

        Raises:
            NonFiniteLossError: if a score is not finite, so that broken weights are never saved as a checkpoint.
        """
        # Nobody waits for answers that nothing is selected by.
        write, size = self.job.settings.select != "loss", self.args.per_device_eval_batch_size
        try:
            with in_own_precision(self.job.subject.model):
                scores, texts = answers_of(self.dev_subject, self.job.dev, size, write=write)
            found = evaluate(self.job.subject.task, self.job.dev, scores, texts)
        except NonFiniteScoreError as error:
            raise NonFiniteLossError(self.state.global_step, math.nan, error.examples, self._remedies()) from error
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights, and beside them what they cost; of a model in integers, only weights that are trained."""
        if is_in_integers(self.job.subject.model):
            save_trained(self.job.subject.model, Path(output_dir or self.args.output_dir or "."))
        else:
            super().save_model(output_dir, _internal_call)
        self.meter.write(Path(output_dir or self.args.output_dir or "."))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with saving(self.job.folder):
            super()._save_checkpoint(model, trial)


class ZerothTrainer(PromptTrainer):
    """Trains with forward passes only: a step is *estimate* (here) and *apply* (`optimizer.step()`, in the loop).

    Micro-batches are collected and evaluated inside one closure, so accumulation averages losses before the projected
    gradient is formed: it is exact. The closure gives one loss an example, so that an engine may evaluate several
    points in one forward pass.
    """

    def __init__(self, job: Job, meter: Meter, callbacks: list[TrainerCallback]) -> None:
        self._micro: list[dict[str, Any]] = []
        self._zeroth: ZerothOrder | None = None
        self._tail: Tail | None = None
        super().__init__(job, meter, callbacks)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer, and keep it unwrapped: accelerate's wrapper would swallow the loss.

        Raises:
            OptimizerError: if it is no zeroth-order optimizer.
        """
        optimizer = super().create_optimizer(model)
        if self._zeroth is None:
            if not isinstance(optimizer, ZerothOrder):
                raise OptimizerError(
                    f"{type(optimizer).__name__} is no ZerothOrder optimizer, yet needs no backward pass"
                )
            self._zeroth = optimizer
        return optimizer

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the task's metrics on dev, with every update applied."""
        self.zeroth.finalize()
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights, with every update applied."""
        self.zeroth.finalize()
        super().save_model(output_dir, _internal_call)

    @property
    def zeroth(self) -> ZerothOrder:
        """The optimizer, unwrapped.

        Raises:
            OptimizerError: before there is one.
        """
        if self._zeroth is None:
            raise OptimizerError("the optimizer of this training has not been made yet")
        return self._zeroth

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Collect a micro-batch; on the last one of a step estimate the projected gradient over all of them."""
        model.eval()
        self._micro.append(self._prepare_inputs(inputs))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        micro, self._micro = self._micro, []
        passes, rows = self.job.subject.passes, sum(map(examples_in, micro))
        forward, examples = passes.forward, passes.forward_examples
        with self._reading(micro[0]):
            before = self.zeroth.last_loss
            try:
                loss = self.zeroth.estimate(self._closure(micro))
            except NonFiniteLossError as error:
                raise self._blaming(error, micro) from None
        # One pass over a batch repeated for P points costs what P passes cost, and is counted so; that an engine tries
        # both ways in the first step is not counted.
        passes.forward = forward + len(micro) * self.zeroth.last_passes
        passes.forward_examples = examples + rows * self.zeroth.last_passes
        # In the mean that is logged, a skipped step stands for the one before it.
        logged = (loss if before is None or loss.isfinite() else before).to(self.args.device)
        self.meter.loss.add(logged)
        return logged

    def _reading(self, batch: Batch) -> AbstractContextManager[None]:
        """Return a context in which passes compute only what is read, down to the last layer."""
        model = self.job.subject.model
        if self._tail is None:
            with uncompiled():
                self._tail = tail_of(model, batch["input_ids"].shape[1])
        return tails_read(model, self._tail)

    def _closure(self, micro: Sequence[Batch]) -> Closure:
        whole = PerExample(self.losses, micro)
        if self.objective.repeats:
            return whole
        return partial(whole.mean, getattr(self.job.settings, "max_rows", None))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, calling the number in the place of the gradient's norm what it is."""
        if "loss" in logs:
            if "grad_norm" in logs:
                logs["projected_grad"] = logs.pop("grad_norm")
            if self.zeroth.shared["skipped"]:
                logs["skipped"] = self.zeroth.shared["skipped"]
        super().log(logs, start_time)

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        grads = self.zeroth.last_projected_grads
        # A step that was skipped has none, and logs none.
        return sum(abs(grad) for grad in grads) / len(grads) if grads else None


def training_arguments(job: Job) -> TrainingArguments:
    """Translate our settings into the Trainer's."""
    settings, device = job.settings, job.subject.model.device
    metric = METRICS.get(job.subject.task.metric)
    every = settings.evaluations
    arguments = TrainingArguments(
        output_dir=str(job.folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=job.eval_batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule if settings.warmup_steps == 0 else _WITH_WARMUP[settings.schedule],
        warmup_steps=settings.warmup_steps,
        max_grad_norm=getattr(settings, "max_grad_norm", 0.0),
        bf16=getattr(settings, "mixed_precision", None) == "bfloat16",
        fp16=getattr(settings, "mixed_precision", None) == "float16",
        logging_strategy="steps",
        logging_steps=min(settings.log_every, settings.steps),
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        load_best_model_at_end=settings.select != "last",
        metric_for_best_model=_SELECTED.get(settings.select, job.subject.task.metric),
        greater_is_better=settings.select == "metric" and metric.higher_is_better,
        restore_callback_states_from_checkpoint=True,
        seed=derive(job.seed, "training") & MASK_32,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        remove_unused_columns=False,
        **job.tracking.arguments(),
    )
    # Several visible GPUs would make the Trainer wrap the model in DataParallel, which no scorer expects.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def early_stopping(settings: TrainSettings) -> list[TrainerCallback]:
    """Return the callback that stops after `patience` evaluations without a better one, where that is asked for."""
    return [] if settings.patience is None else [EarlyStoppingCallback(early_stopping_patience=settings.patience)]


# What the Trainer compares checkpoints by: nothing, where the last is kept; else it would keep the best one instead.
_SELECTED: dict[str, str | None] = {"loss": "loss", "last": None}
_WITH_WARMUP = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
