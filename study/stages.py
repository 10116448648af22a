"""The stages of a study, run by Ray Tune; what Tune reports goes into the record."""

import base64
import logging
from typing import Any

import ray
from ray.tune import CheckpointConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.checkpoints import keep_best, load_checkpoint, remove_checkpoints, save_checkpoint
from study.cluster.nodes import Nodes
from study.cluster.waiting import Waiting
from study.confirm import confirm_plan, missing_confirm_trials, missing_tune_trials
from study.designs import arm_label
from study.errors import error_line, error_text
from study.plan import Plan
from study.record import Record
from study.searcher import ListSearcher, StageSearcher, StudySearcher
from study.signals import Interrupted
from study.state import TRIES, state_at_end
from study.watch.surfaces import DriverCallback, Surfaces, Ticks
from trainables.config import EpochMetrics, TrialConfig
from trainables.orders import Workplace
from trainables.parts import TrialData, confirm_data, search_data
from trainables.resnet import NetworkCost, network_cost
from trainables.trainable import ResNetTrainable
from trainables.vocabulary import Stage, TrialStatus

log = logging.getLogger("study")


class RecordCallback(DriverCallback):
    """Writes what Tune reports of the trials into the record, and their checkpoints beside it."""

    def __init__(self, record: Record, interrupted: Interrupted, is_cluster: bool) -> None:
        self._record = record
        self._interrupted = interrupted
        self._is_cluster = is_cluster

    def begin(self, number: int, stage: Stage, origin: str, config: TrialConfig) -> None:
        """Record a new trial."""
        arm = arm_label(config, self._record.state.header["design"])
        cost = self.cost(config)
        self._record.append(
            "trial_started",
            trial=number,
            stage=stage,
            origin=origin,
            arm=arm,
            config=config.to_dict(),
            parameters=cost.parameters,
            forward_flops=cost.forward_flops,
        )

    def cost(self, config: TrialConfig) -> NetworkCost:
        """What a trial's network costs."""
        data = self._record.state.header["dataset"]
        return network_cost(config, tuple(data["image_shape"]), len(data["classes"]))

    def resume(self, number: int) -> Any:
        """The newest checkpoint that a trial can be resumed from; record which it is."""
        epoch, content, note = load_checkpoint(
            self._record.folder, self._record.state.trials[number]
        )
        self._record.append("trial_continued", trial=number, from_epoch=epoch, note=note)
        return None if content is None else ray.put(content)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        metrics = EpochMetrics(**{name: result[name] for name in EpochMetrics.__dataclass_fields__})
        known = self._record.state.trials[trial.config["trial"]]
        # Taken out, for Tune keeps a trial's last result in its own snapshots.
        checkpoint = result.pop("checkpoint", None)
        if checkpoint is not None:
            save_checkpoint(self._record.folder, known.trial, metrics.epoch, memoryview(checkpoint))
        correct = result.pop("correct", None)
        if metrics.epoch <= len(known.epochs):
            return  # trained again after a checkpoint: the first reading stands
        bits = {}
        if correct is not None:
            bits["correct"] = base64.b64encode(correct.tobytes()).decode()
        self._record.append(
            "epoch",
            trial=known.trial,
            node=self._node(result),
            diverged=metrics.diverged,
            checkpoint=checkpoint is not None,
            **metrics.to_dict(),
            **bits,
        )

    def _node(self, result: dict[str, Any]) -> str:
        """The host, and of a cluster, which may have several nodes on one, the node's id."""
        host: str = result["hostname"]
        return f"{host} {result['node_id'][:6]}" if self._is_cluster else host

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        result = trial.last_result
        state = state_at_end(
            result["epoch"], result["diverged"], trial.config["config"]["max_epochs"]
        )
        end_trial(self._record, trial.config["trial"], state)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial.config["trial"]
        text = error_text(trial)
        log.debug("trial %d failed:\n%s", number, text)
        error = f"{error_line(text)} (all of it: study.log)"
        self._record.append("trial_failed", trial=number, error=error)
        if self._record.state.trials[number].failures >= TRIES:
            end_trial(self._record, number, TrialStatus.FAILED, error)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if self._interrupted.asked:
            # No Exception, so Tune does not wait for epochs to end; what counts is in the record.
            raise KeyboardInterrupt


def end_trial(record: Record, number: int, state: TrialStatus, error: str = "") -> None:
    """Record the end of a trial; its checkpoints go, but the winner's last one becomes `best/`
    first."""
    record.append("trial_ended", trial=number, state=state, error=error)
    if state == TrialStatus.COMPLETE:  # no other can be chosen
        keep_best(record.folder, record.state)
    remove_checkpoints(record.folder, number)


class Stages:
    """The stages of a study, each run by Tune to its end; recorded trials are not run again."""

    def __init__(
        self,
        plan: Plan,
        record: Record,
        surfaces: Surfaces,
        interrupted: Interrupted,
        nodes: Nodes | None,
    ) -> None:
        self._plan = plan
        self._record = record
        self._surfaces = surfaces
        self._interrupted = interrupted
        self._nodes = nodes
        self._keeper = RecordCallback(record, interrupted, is_cluster=nodes is not None)

    def search(self, scheduler: TrialScheduler) -> None:
        """All search trials that have not ended."""
        plan, settings = self._plan, self._plan.settings
        searcher = StudySearcher(
            plan.design,
            settings.samples,
            settings.sampler,
            plan.epochs,
            settings.seed,
            *self._shared(),
        )
        data = search_data(plan.images.data, plan.images.split)
        self._run(searcher, scheduler, data, settings.samples)

    def tune(self) -> None:
        """All tune trials that have not ended: the arms to confirm at several learning rates, on
        validation images."""
        if not self._plan.confirm_seeds:
            return
        images = self._plan.images
        missing = missing_tune_trials(self._plan.design, self._record.state)
        self._run_listed(Stage.TUNE, missing, search_data(images.data, images.split))

    def confirm(self, seeds: int) -> None:
        """All confirm trials that have not ended, of the arms around the winner at their tuned
        learning rates."""
        images, state = self._plan.images, self._record.state
        arms = confirm_plan(self._plan.design, state).to_dict()
        if seeds and arms != state.confirm:
            self._record.append("confirm_planned", **arms)
        missing = missing_confirm_trials(self._plan.design, state, seeds)
        self._run_listed(Stage.CONFIRM, missing, confirm_data(images.data, images.split))

    def _run_listed(self, stage: Stage, missing: list[TrialConfig], data: TrialData) -> None:
        # Seed by seed, so that a stage cut short is even; the most expensive ones first, so that no
        # core waits long at its end.
        missing.sort(key=lambda config: (config.seed, -self._keeper.cost(config).forward_flops))
        known = len(self._record.state.in_stage(stage))
        searcher = ListSearcher(stage, missing, *self._shared())
        self._run(searcher, FIFOScheduler(), data, known + len(missing))

    def _shared(self) -> tuple[Any, ...]:
        """What `StageSearcher` takes."""
        shared = self._record.state, self._keeper.begin, self._keeper.resume
        return (*shared, self._nodes.avoided) if self._nodes else shared

    def _run(
        self, searcher: StageSearcher, scheduler: TrialScheduler, data: TrialData, trials: int
    ) -> None:
        if len(self._record.state.ended_trials(searcher.stage)) >= trials:
            return
        self._surfaces.stage(searcher.stage, trials)
        # Tune's own state is of no use to us: what resumes a study is its record.
        with self._interrupted.scratch_folder() as scratch:
            Tuner(
                ResNetTrainable,
                param_space=self._workplace(data).to_tune(),
                tune_config=self._tune_config(searcher, scheduler),
                run_config=self._run_config(scratch),
            ).fit()

    def _workplace(self, data: TrialData) -> Workplace:
        plan, settings = self._plan, self._plan.settings
        return Workplace(
            study=self._record.folder.name,
            cpus=settings.cpus_per_trial,
            gpus=plan.gpus_per_trial,
            precision=plan.precision,
            checkpoint_seconds=settings.checkpoint_seconds,
            data=ray.put(data),
        )

    def _tune_config(self, searcher: StageSearcher, scheduler: TrialScheduler) -> TuneConfig:
        return TuneConfig(
            num_samples=-1,  # the searcher knows when it is done
            max_concurrent_trials=self._plan.concurrent,
            search_alg=searcher,
            scheduler=scheduler,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']}-{trial.trial_id}",
        )

    def _run_config(self, scratch: str) -> RunConfig:
        cluster = [Waiting(), self._nodes] if self._nodes else []
        return RunConfig(
            name="tune",
            storage_path=scratch,
            verbose=2 if self._plan.settings.verbose else 0,
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            callbacks=[self._keeper, Ticks(self._surfaces), *cluster],
        )
