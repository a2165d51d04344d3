"""Training: the phases of a recipe, one after the other, from data shards to the best weights."""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from kcnn.config import Config, Phase
from kcnn.data.input_pipeline.batches import steps_per_epoch
from kcnn.models.spec import model_spec
from kcnn.nn.inference import inference_function
from kcnn.nn.keras_settings import dtype_policy, needed_settings
from kcnn.progress import bar
from kcnn.terminal import print_lines
from kcnn.training.auxiliary import Loss, with_auxiliary, without_auxiliary
from kcnn.training.batch_norm import batch_norms, memory_of, recalibrate_batch_norm, shorten_batch_norm_memory
from kcnn.training.constraints import constrain_kernels
from kcnn.training.distillation import TaughtModel, distillation_loss, freeze_teacher
from kcnn.training.distribution import check_batch_size, choose_strategy, without_sharding
from kcnn.training.divergence import largest_gradients
from kcnn.training.epoch_end import DivergedError, EpochEnd
from kcnn.training.freezing import has_linear_head, is_frozen, set_trainable, split_at_head
from kcnn.training.gradient_clipping import clip_gradients
from kcnn.training.judging import accuracy_and_log_loss, answer_images, describe_phase, is_better, is_perfect
from kcnn.training.linear_head import solve_head
from kcnn.training.optimizers import build_optimizer, stage_multipliers
from kcnn.training.penalties import KernelPenalties
from kcnn.training.phase_data import frozen_features, phase_data
from kcnn.training.pixel_statistics import fit_preprocessing, fitted_layers
from kcnn.training.plateau import FollowPlateau, Plateau
from kcnn.training.run import TrainingData, TrainingRun
from kcnn.training.schedules import SCHEDULES
from kcnn.training.sharpness import SharpnessAwareModel
from kcnn.training.smoothing import smoothed_crossentropy
from kcnn.training.state import Progress, load_progress, load_state
from kcnn.training.weight_averaging import MovingAverages, load_mean
from kcnn.weights import load_weights, save_weights


@needed_settings()
def train(
    config: Config,
    data: TrainingData,
    build_model: Callable[[], keras.Model],
    directory: Path,
    *,
    build_teacher: Callable[[], keras.Model] | None = None,
    devices: list[str] | None = None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Run the phases of `config`, or go on where an interrupted run of them in the same directory stopped.

    Where all phases are finished nothing is trained. The global dtype policy is the same afterwards.

    Args:
        config: phases, optimizer, batch size, dtype policy, seed, ...
        data: shards and counts.
        build_model: makes the model with its starting weights; called once, within the strategy's scope.
        directory: receives `best.safetensors` (the weights of the best validation epoch of the first phase, and in the
            end those that the validation images prefer), `last.safetensors` (those of the last epoch of a later phase),
            `before.safetensors` (those that the phases before it left), `state.safetensors` (what an interrupted run
            goes on from) and `logs/` (TensorBoard).
        build_teacher: makes the teacher of the objective "distill", called like `build_model`.
        devices: logical devices to mirror over; None for all GPUs.
        after_epoch: called at the end of every epoch, and before an interrupted run goes on; what it raises ends the
            training.

    Returns:
        the final Progress, with the history of every epoch.

    Raises:
        UserError: a batch size that does not divide over the devices, too many stages to unfreeze.
        DivergedError: the loss became infinite or no number.
        KeyboardInterrupt: passed on; the state is that of an epoch's end, of the last unless saving takes long.
    """
    directory.mkdir(parents=True, exist_ok=True)
    strategy = choose_strategy(devices)
    check_batch_size(config.batch_size, strategy)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()  # for the rest of the process: there is no way back
        tf.random.set_global_generator(tf.random.Generator.from_seed(config.seed))  # keras-cv's layers ask for it
    state = directory / "state.safetensors"
    found = load_progress(state)
    progress = found or Progress()
    began = time.monotonic() - progress.seconds
    if progress.history or progress.step:
        steps = f" and {progress.step} steps" if progress.step else ""
        print_lines(f"Resuming after {len(progress.history)} epochs{steps}")
    if progress.history:
        after_epoch(progress)
    with strategy.scope(), dtype_policy(config.dtype):
        answer = freeze_teacher(build_teacher()) if build_teacher else None
        run = TrainingRun(config, data, build_model(), directory, progress, after_epoch, began, answer)
        if found:
            load_state(state, run.variables())
        else:
            for path in (run.best, run.last, run.before):
                path.unlink(missing_ok=True)
            if fitted_layers(run.model):
                progress.preprocess = fit_preprocessing(run.model, run.training_images(), data.train_count)
            if config.batch_norm == "recalibrate":
                recalibrate_batch_norm(run.model, run.training_images(), batch_norms(run.model))
            run.save()  # so that a run can go on that is interrupted in its first epoch
        while progress.phase < len(config.phases):
            phase = config.phases[progress.phase]
            if progress.phases and not progress.epoch and not progress.step:
                save_weights(run.model, run.before)
            if is_frozen(phase) and has_linear_head(without_auxiliary(run.model)):
                _solve_phase(run, phase)
            elif not progress.phase_is_over(phase.planned_epochs, config.patience):
                _run_phase(run, phase)
            _end_phase(run, phase)
            if config.transfer == "auto" and is_perfect(progress.history[-1]) and progress.phase < len(config.phases):
                print_lines("Fine-tuning: nothing left to gain by it that the images could show")
                progress.phase = len(config.phases)
                run.save()
        save_weights(run.model, run.best)
        for path in directory.glob("swa-*.safetensors"):
            path.unlink()
    return progress


def _end_phase(run: TrainingRun, phase: Phase) -> None:
    """Keep the weights that the validation images prefer, and say so.

    The state is written last, and then holds them: it may be interrupted anywhere, and done again.
    """
    progress = run.progress
    rows = [row for row in progress.history if row["phase"] == progress.phase]
    averaged = run.config.swa > 0 and "strength" not in rows[-1]  # a solved head has no epochs
    if averaged:
        _average_last_epochs(run, phase)
    if not progress.phases and averaged:
        accuracy, kept, score = None, "swa", progress.best_in_phase
        if run.validation is not None:
            accuracy, log_loss = accuracy_and_log_loss(*answer_images(_classifier(run.model), run.validation))
            score = accuracy, -log_loss
    elif not progress.phases:
        load_weights(run.model, run.best)
        accuracy, kept, score = rows[-1 - progress.waited].get("val_accuracy"), "best", progress.best_in_phase
    elif run.validation is None:
        load_weights(run.model, run.last)
        accuracy, kept, score = None, "last", progress.best_in_phase
    else:
        kept, score = _choose_weights(run)
        accuracy = score[0] if score and kept != "before" else rows[-1]["val_accuracy"]
    seconds = round(time.monotonic() - run.began - sum(row["seconds"] for row in progress.phases), 1)
    row = {
        "name": phase.name,
        "unfreeze": phase.unfreeze,
        "accuracy": accuracy,
        "seconds": seconds,
        "epochs": len(rows),
        "kept": kept,
    }
    progress.start_next_phase(row, score)
    run.save()
    if len(run.config.phases) > 1 or phase.unfreeze is not None:
        print_lines(describe_phase(row, run.data.val_count, first=len(progress.phases) == 1))


def _choose_weights(run: TrainingRun) -> tuple[str, tuple[float, float] | None]:
    """Give the model the weights that the validation images prefer, and return which, and their score.

    These are the weights "before" the phase, those of its "last" epoch, or the "mean" of both, which is often better
    than either (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The epoch that is best on few
    images is so by luck, and worse than the last on others.
    """
    model = run.model
    offers: dict[str, Callable[[], object]] = {
        "before": lambda: load_weights(model, run.before),
        "last": lambda: load_weights(model, run.last),
        "mean": lambda: load_mean(model, (run.before, run.last)),
    }
    kept, answers, classifier = "before", {}, _classifier(model)
    for name, load in offers.items():
        load()
        answers[name], labels = answer_images(classifier, run.validation)
        if is_better(answers[name], answers[kept], labels):
            kept = name
    offers[kept]()
    if kept == "before":
        return kept, run.progress.best
    accuracy, log_loss = accuracy_and_log_loss(answers[kept], labels)
    return kept, (accuracy, -log_loss)


def _classifier(model: keras.Model) -> ConcreteFunction:
    return inference_function(without_auxiliary(model))


def _average_last_epochs(run: TrainingRun, phase: Phase) -> None:
    """Put the mean of the weights of a phase's last epochs in the place of those that it kept.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018, algorithm 1:
    the batch norm that trained gets the statistics that the training images have at these weights.
    """
    last = run.progress.epoch
    load_mean(run.model, [run.of_epoch(epoch) for epoch in range(max(last - run.config.swa, 0) + 1, last + 1)])
    set_trainable(run.model, unfreeze=phase.unfreeze, batch_norm=run.config.batch_norm)
    if norms := [norm for norm in batch_norms(run.model) if norm.trainable]:
        recalibrate_batch_norm(run.model, run.training_images(), norms)
    save_weights(run.model, run.last if run.progress.phases else run.best)


def _run_phase(run: TrainingRun, phase: Phase) -> None:
    """Train a phase from the epoch that is next."""
    config, model, progress, epochs = run.config, run.model, run.progress, phase.planned_epochs
    set_trainable(model, unfreeze=phase.unfreeze, batch_norm=config.batch_norm)
    fitted, batches, validation = phase_data(run, phase)
    loss: Loss
    metrics: list[Loss | keras.metrics.Metric]
    if run.answer is not None:
        fitted = TaughtModel.of(fitted, run.answer, inherited=config.weights == "teacher")
        loss = distillation_loss(config.temperature)
        metrics = [keras.metrics.CategoricalAccuracy("accuracy")]  # how often both give the same answer
    else:
        crossentropy = smoothed_crossentropy(config.label_smoothing, config.smoothing_over, run.data.classes)
        fitted, loss, metrics = with_auxiliary(fitted, crossentropy, model_spec(config.model).auxiliary_weight)
    steps = steps_per_epoch(run.epoch_size, config.batch_size)
    shorten_batch_norm_memory(model, steps * epochs)
    schedule = SCHEDULES[config.schedule](phase.learning_rate, steps * epochs, phase.warmup)
    optimizer = build_optimizer(
        config.optimizer,
        fitted,
        schedule=schedule,
        weight_decay=config.weight_decay,
        multipliers=stage_multipliers(model, phase.rate_decay),
    )
    clip_gradients(optimizer, fitted, norm=config.clip_norm, value=config.clip_value, adaptive=config.clip_adaptive)
    constrain_kernels(model, largest=config.clip_weights, norm=config.max_norm)
    if config.sam:
        fitted = SharpnessAwareModel.of(fitted, config.sam)
    run.averages = MovingAverages(model, min(config.ema, memory_of(steps * epochs))) if config.ema else None
    fitted.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    if progress.step:
        fitted.test_on_batch(*next(iter(batches())))  # metrics have no state before their first batch
    if progress.epoch or progress.step:
        fitted.optimizer.build(fitted.trainable_variables)  # of float16: the loss scale's variables come first
        load_state(run.state, run.variables(fitted))
    penalties = [KernelPenalties(model, config.l1, config.l2)] if config.l1 or config.l2 else []
    with bar(total=steps * epochs, description=f"Training ({phase.name})", unit="step") as step_bar:
        step_bar.update(steps * progress.epoch + progress.step)
        callbacks = [
            keras.callbacks.TensorBoard(run.directory / "logs" / phase.name, write_graph=False),
            *penalties,
            EpochEnd(run, steps, epochs, step_bar),
            *([FollowPlateau(schedule, run)] if isinstance(schedule, Plateau) else []),
        ]
        # Of an epoch that was begun before, Keras fits the rest on its own.
        while not progress.phase_is_over(epochs, config.patience):
            try:
                fitted.fit(
                    without_sharding(batches()),
                    epochs=progress.epoch + 1 if progress.step else epochs,
                    initial_epoch=progress.epoch,
                    steps_per_epoch=steps - progress.step,
                    validation_data=None if validation is None else without_sharding(validation),
                    callbacks=callbacks,
                    shuffle=False,  # the batches are shuffled already, by seed and epoch
                    verbose=0,
                )
            except DivergedError as error:
                raise DivergedError(f"{error}; {_last_state(run, fitted, batches)}") from None


def _last_state(run: TrainingRun, fitted: keras.Model, batches: Callable[[], tf.data.Dataset]) -> str:
    """Return where the last state was saved, and its gradients on the batch after which the loss was no number.

    The model gets the weights of that state.
    """
    saved = load_progress(run.state) or Progress()
    load_state(run.state, run.variables())
    run.progress.step = max(0, run.progress.step - 1)
    images, labels = next(iter(batches()))
    largest = largest_gradients(fitted, images, labels)
    where = f"{run.state}: step {saved.step} of epoch {saved.epoch + 1}"
    return f"the last good weights are in {where}; the largest gradients of that batch with them: {largest}"


def _solve_phase(run: TrainingRun, phase: Phase) -> None:
    """Solve the head on frozen features; the phase has a single epoch."""
    began, model = time.monotonic(), run.model
    backbone, _ = split_at_head(without_auxiliary(model))
    (features, labels), judged_on = frozen_features(run, backbone, phase, phase.views)
    solved = solve_head(features, labels, views=phase.views, seed=run.config.seed)
    model.get_layer("head_logits").set_weights([solved.kernel, solved.bias])
    metrics = {"loss": solved.log_loss, "accuracy": solved.accuracy, "strength": solved.strength}
    score = (0.0, float(len(run.progress.history) + 1))
    if judged_on is not None:
        accuracy, loss = accuracy_and_log_loss(solved.answer(judged_on[0]), judged_on[1])
        metrics |= {"val_accuracy": accuracy, "val_loss": loss}
        score = accuracy, -loss
    run.progress.epoch, run.progress.best_in_phase = 0, None
    run.progress.record_epoch(score, {"seconds": round(time.monotonic() - began, 2), **metrics})
    save_weights(model, run.last if run.progress.phases else run.best)
    run.after_epoch(run.progress)
