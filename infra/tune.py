"""Searching hyperparameters: TPE proposes settings, successive halving stops the poor ones early."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from infra.tune_workers import Workers
from marquee.errors import StackError, TrainingError
from marquee.factors.search import HALVING, NDCG, Range, Task, metric_of

if TYPE_CHECKING:
    import optuna


class Submits(Protocol):
    """What :class:`~infra.tune_workers.Workers` do for a search."""

    def submit(self, hyperparameters: Mapping[str, Any], rung: int) -> "Future[float | None]":
        """Validate these settings on a rung, some time."""
        ...


type WorkersOf = Callable[[Task, int], AbstractContextManager[Submits]]


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    ``value`` is the metric on the validation ratings of ``users`` users, None where the settings could not be
    fitted; ``finished`` says that they were all the users. Trial 0 has the defaults.
    """

    number: int
    hyperparameters: Mapping[str, float | str]
    value: float | None
    users: int
    finished: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a search found; ``trials`` stand in the order they ended, and ``best`` is a finished one."""

    trials: tuple[Trial, ...]
    best: Trial
    interrupted: bool

    @property
    def default(self) -> Trial | None:
        """The trial of the defaults; None when the search was interrupted before its end."""
        return next((trial for trial in self.trials if trial.number == 0 and trial.finished), None)


def search(
    task: Task,
    budget: int,
    jobs: int = 1,
    seed: int = 0,
    *,
    ended: Callable[[Trial], None] = lambda _: None,
    workers: WorkersOf = Workers,
) -> Outcome:
    """Try ``budget`` settings, the defaults first, in ``jobs`` processes.

    TPE (Bergstra et al. 2011) proposes each from those before it. On large data a trial first sees part of
    the users, and asynchronous successive halving (Li et al. 2020) says whether it goes on to more. With one
    job the same task, budget and seed give the same trials; with more the order in which they end has a say.
    Ctrl-C ends all workers; what had finished by then is returned, and nothing is lost but what ran.

    Parameters
    ----------
    ended : is told each trial as it ends.
    workers : makes what the trials run in.

    Raises
    ------
    TrainingError : no settings could be fitted.
    StackError : a worker was killed.
    KeyboardInterrupt : before any trial had finished.
    """
    better = 1 if metric_of(task.objective) == NDCG else -1
    trials: list[Trial] = []
    interrupted = False

    def note(trial: Trial) -> None:
        trials.append(trial)
        ended(trial)

    try:
        with workers(task, jobs) as started:
            _run(task, _study(task, budget, seed), started, (budget, jobs), note)
    except KeyboardInterrupt:
        interrupted = True
    except BrokenProcessPool as error:
        raise StackError(
            f"a worker was killed, after {len(trials)} of {budget} settings;"
            f" if memory ran out, use fewer --jobs than {jobs}"
        ) from error
    finished = [
        (better * trial.value, trial) for trial in trials if trial.finished and trial.value is not None
    ]
    if not finished and interrupted:
        raise KeyboardInterrupt
    if not finished:
        raise TrainingError(
            f"none of {budget} settings of {task.algorithm} for {task.objective} could be fitted"
        )
    best = max(finished, key=lambda pair: (pair[0], -pair[1].number))[1]
    return Outcome(tuple(trials), best, interrupted)


def _study(task: Task, budget: int, seed: int) -> "optuna.Study":
    import optuna  # noqa: PLC0415  takes a second, which no other command need wait for

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if metric_of(task.objective) == NDCG else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, budget // 4)),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=HALVING),
    )
    defaults = task.recipe({}).hyperparameters
    study.enqueue_trial({name: defaults[name] for name in task.space})
    return study


@dataclass
class _Running:
    trial: "optuna.Trial"
    hyperparameters: dict[str, float]
    rung: int
    began: float


def _run(
    task: Task, study: "optuna.Study", workers: Submits, size: tuple[int, int], note: Callable[[Trial], None]
) -> None:
    """Ask, validate, tell, until as many trials have ended as ``size``'s budget; of its jobs at a time."""
    from optuna.trial import TrialState  # noqa: PLC0415  as above

    budget, jobs = size
    running: dict[Future[float | None], _Running] = {}
    asked, last = 0, len(task.rungs) - 1
    while asked < budget or running:
        while asked < budget and len(running) < jobs:
            trial, asked = study.ask(), asked + 1
            one = _Running(trial, _proposed(trial, task.space), 0, time.perf_counter())
            running[workers.submit(one.hyperparameters, 0)] = one
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            one, value = running.pop(future), future.result()
            stops = value is None or one.rung == last
            if value is not None and not stops:
                one.trial.report(value, HALVING**one.rung)
                stops = one.trial.number > 0 and one.trial.should_prune()
            if not stops:
                one.rung += 1
                running[workers.submit(one.hyperparameters, one.rung)] = one
                continue
            finished = value is not None and one.rung == last
            if finished:
                study.tell(one.trial, value)
            else:
                study.tell(one.trial, state=TrialState.FAIL if value is None else TrialState.PRUNED)
            note(_trial(task, one, value, finished=finished))


def _trial(task: Task, one: _Running, value: float | None, *, finished: bool) -> Trial:
    made = task.recipe(one.hyperparameters)
    users, seconds = task.rungs[one.rung].train.users, time.perf_counter() - one.began
    return Trial(one.trial.number, made.hyperparameters, value, users, finished, seconds)


def _proposed(trial: "optuna.Trial", space: Mapping[str, Range]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, where in space.items():
        if where.whole:
            found[name] = trial.suggest_int(name, int(where.low), int(where.high), log=where.logarithmic)
        else:
            found[name] = trial.suggest_float(name, where.low, where.high, log=where.logarithmic)
    return found
