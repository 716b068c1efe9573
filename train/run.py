"""A whole run: steps, what is measured on the way, what is told, and the checkpoints that stay."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from corpusmill.schemas.files import Files
from corpusmill.train import checkpoint
from corpusmill.train.card import model_card
from corpusmill.train.checkpoint import State
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.evaluation import Evaluation
from corpusmill.train.generation import LanguageModel, generate
from corpusmill.train.model.folder import write_model
from corpusmill.train.monitor import Monitor
from corpusmill.train.scoring import score
from corpusmill.train.trainer import Trainer

__all__ = ["Outcome", "Run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: steps that are done.
        signal: number of the one that stopped it early, on any process; 0: none.
        evaluation: of the last step; None where there was nothing to score, or no time to.
    """

    step: int
    signal: int
    evaluation: Evaluation | None


class Run:
    """A trainer with its folder and its watchers."""

    def __init__(self, trainer: Trainer, files: Files, monitor: Monitor, held_out: Sequence[TokenDataset]) -> None:
        """Put the parts together.

        Args:
            trainer: at the step from which it goes on.
            files: the run folder.
            monitor: told of every step.
            held_out: the datasets at the split that is scored; may be empty.
        """
        self._trainer, self._files, self._monitor, self._held_out = trainer, files, monitor, held_out
        self._signal = 0

    def train(self) -> Outcome:
        """Train to the last step, to `stop_at`, or until a signal.

        A checkpoint of the last step is kept. It is scored, too, unless a signal came.
        """
        trainer, config = self._trainer, self._trainer.setup.config
        evaluation = None
        with self._signals():
            ended = time.perf_counter()
            for rows in trainer.rows(config.last_step):
                awaited, began = ended, time.perf_counter()
                result = trainer.train_step(rows, stop=self._signal > 0)
                ended = time.perf_counter()
                ends, stops = trainer.step == config.last_step, result.asked_to_stop
                saves = ends or stops or trainer.step % config.checkpoint.every == 0
                if saves:  # first: scores take long, and who sends a signal waits some seconds before the next
                    self._save()
                measures = not stops and (ends or bool(config.eval.every and trainer.step % config.eval.every == 0))
                evaluation = self._evaluate(None if ends else config.eval.max_documents) if measures else None
                if saves and evaluation is not None:
                    self._write_card(evaluation)
                self._monitor.step(
                    trainer.step,
                    loss=result.loss,
                    lr=result.lr,
                    grad_norm=result.grad_norm,
                    tokens=trainer.n_tokens,
                    step_tokens=result.n_targets,
                    seconds=ended - awaited,
                    data_seconds=began - awaited,
                    evaluation=evaluation,
                    samples=self._samples() if measures and not self._signal else (),
                )
                if stops and not ends:
                    return Outcome(step=trainer.step, signal=self._signal or signal.SIGTERM, evaluation=None)
                ended = time.perf_counter()
        return Outcome(step=trainer.step, signal=0, evaluation=evaluation)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step in hand; a second Ctrl-C ends it at once."""

        def note(number: int, _: object) -> None:
            if self._signal == number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number

        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _evaluate(self, max_documents: int | None) -> Evaluation | None:
        if not self._held_out:
            return None
        trainer = self._trainer
        return score(
            trainer.decoder,
            self._held_out,
            sequence_length=trainer.setup.sequence_length,
            precision=trainer.precision,
            processes=trainer.processes,
            max_documents=max_documents,
            stop=lambda: self._signal > 0,
        )

    def _samples(self) -> list[tuple[str, str]]:
        trainer = self._trainer
        settings = trainer.setup.config.eval
        if not settings.prompts or not trainer.processes.is_main:
            return []
        texts = generate(
            self._language_model,
            settings.prompts,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
        )
        return list(zip(settings.prompts, texts, strict=True))

    @cached_property
    def _language_model(self) -> LanguageModel:
        """The model in training, with tables of its tokens that are made once for all samples."""
        setup = self._trainer.setup
        return LanguageModel(
            model=self._trainer.decoder,
            tokenizer=setup.first.tokenizer,
            eos=setup.first.eos,
            pad=setup.first.pad,
            context=setup.sequence_length,
        )

    def _state(self) -> State:
        trainer = self._trainer
        return State(
            step=trainer.step,
            plan=trainer.plan,
            config=trainer.setup.config,
            precision=trainer.precision,
            datasets=tuple(trainer.used.values()),
            tokenizer_sha256=trainer.setup.first.manifest.tokenizer.sha256,
            n_tokens=trainer.n_tokens,
            libraries=checkpoint.current_libraries(),
        )

    def _save(self) -> None:
        """Commit a checkpoint: the main process writes, all wait."""
        trainer, setup = self._trainer, self._trainer.setup
        if trainer.processes.is_main:
            checkpoint.discard(self._files, trainer.step)
            state = self._state()
            model = write_model(
                self._files,
                checkpoint.model_folder(trainer.step),
                trainer.decoder,
                setup.first.tokenizer_json,
                eos=setup.first.eos_token,
                card=model_card(setup, state, None),
            )
            checkpoint.save(self._files, state, model, trainer.optimizers.state_tensors())
            keep = setup.config.checkpoint
            checkpoint.prune(self._files, keep=keep.keep, keep_every=keep.keep_every)
        trainer.processes.barrier()

    def _write_card(self, evaluation: Evaluation) -> None:
        if self._trainer.processes.is_main:
            card = model_card(self._trainer.setup, self._state(), evaluation)
            self._files.write_bytes(checkpoint.card_name(self._trainer.step), card.encode())
