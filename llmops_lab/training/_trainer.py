"""trl's trainer without what nobody looks at, and with checkpoints that are whole or not there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.training import SMALL, checkpoint
from llmops_lab.training.tokens import IGNORED


@dataclass(frozen=True)
class Step:
    """One line of the training log. ``loss`` is the mean since the line before, ``validation`` the loss on the validation rows."""

    step: int
    epoch: float
    loss: float | None = None
    validation: float | None = None


@functools.cache
def lean_trainer() -> type:
    """The class; made when it is first wanted, since trl takes seconds to import."""
    from trl import SFTTrainer

    class LeanTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            large = self.args.device.type != "cpu" and self.model.num_parameters() >= SMALL
            if self.aux_loss_enabled or return_outputs or large:
                # On a GPU trl's fused head never holds the logits at all, but cannot read an embedding of which tokens are trained, as
                # small models' are; experts need their second loss.
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return _loss_of_answers(model, inputs, num_items_in_batch)

        def _send_telemetry(self) -> None:
            """A tuning tells nobody but MLflow: trl's own reports to the model hub that a trainer was made."""

        def _issue_warnings_after_load(self, load_result: Any) -> None:
            """A checkpoint holds a tied weight once, so its twin is not missing; whatever else is missing is told."""
            tied = set(getattr(self.model, "all_tied_weights_keys", ()))
            missing = [name for name in load_result.missing_keys if name not in tied]
            super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """Ours is written at the end, with the verdict in it."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            checkpoint.seal(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    return LeanTrainer


def _loss_of_answers(model: Any, inputs: dict[str, Any], count: Any) -> Any:
    """Mean cross entropy of the answers' tokens; logits are made only of places where some row of the batch has one."""
    from torch.nn.functional import cross_entropy

    labels = inputs.pop("labels")[:, 1:]
    taught = labels != IGNORED
    places = taught.any(0).nonzero().squeeze(1)
    logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
    total = cross_entropy(logits.flatten(0, 1).float(), labels[:, places].flatten(), reduction="sum")
    return total / (taught.sum() if count is None else count)


def teller(tell: Callable[[Step, int], None] | None) -> Any:
    """A callback that hands each line of the log on, and ends a training whose loss is no number."""
    from transformers import TrainerCallback

    class Teller(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            step = step_of({**(logs or {}), "step": state.global_step, "epoch": state.epoch})
            if step is None:
                return
            loss = step.loss if step.loss is not None else step.validation
            if loss is not None and not math.isfinite(loss):
                raise LabError(f"the loss is {loss} at step {step.step}: the training went astray. Try a lower learning_rate.")
            if tell is not None:
                tell(step, state.max_steps)

    return Teller()


def early_stop(patience: int) -> Any:
    """Transformers' early stop, which also ends a training that was killed after it had stopped and before its model was saved."""
    from transformers import EarlyStoppingCallback

    class EarlyStop(EarlyStoppingCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= self.early_stopping_patience_counter >= self.early_stopping_patience

    return EarlyStop(patience)


def step_of(line: dict[str, Any]) -> Step | None:
    """A line of trl's log as a Step; None for a line that tells neither loss."""
    if "loss" in line:
        return Step(line["step"], line["epoch"], loss=float(line["loss"]))
    return Step(line["step"], line["epoch"], validation=float(line["eval_loss"])) if "eval_loss" in line else None
