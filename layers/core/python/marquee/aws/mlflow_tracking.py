"""MLflow behind :class:`~marquee.aws.registry.Tracking`. Its client, slow to import, is imported late."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import batched
from typing import Any
from urllib.parse import urlsplit

from marquee.aws.registry import Run, Version
from marquee.aws.registry_record import FORCED_TAG, MODEL_TAG, ModelRecord
from marquee.errors import RegistryError

_CONNECT_SECONDS = 3.0
_TIMEOUTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PAGE = 1_000
_METRICS_AT_ONCE = 500
_TAGS_AT_ONCE = 90
"""MLflow takes 1,000 metrics and 100 parameters or tags a call."""


def connect(uri: str, name: str) -> "MlflowTracking":
    """The experiment and the registered model ``name`` on the server at ``uri``, made if they are not there.

    A server that is down is found out before MLflow's client is imported.

    Raises
    ------
    RegistryError : nothing listens there, or what listens is no MLflow.
    """
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise RegistryError(f"MLflow at {uri} does not answer: {error}") from error
    os.environ.update(_TIMEOUTS)
    from mlflow import MlflowClient  # noqa: PLC0415 - seconds, which a function should not pay at its start

    return MlflowTracking(MlflowClient(uri, uri), uri, name)


class MlflowTracking:
    """One experiment and one registered model of the same name; ``client`` is an ``MlflowClient``."""

    def __init__(self, client: Any, uri: str, name: str) -> None:
        self._client, self._uri, self._name = client, uri, name
        with self._translated():
            self._experiment = self._ensure_experiment()
            self._ensure_model()

    def runs(self, model_id: str | None = None) -> list[Run]:
        """See :class:`~marquee.aws.registry.Tracking`; so for the methods below."""
        where = f"tags.`{MODEL_TAG}` = '{model_id}'" if model_id else f"tags.`{MODEL_TAG}` != ''"

        def page(token: str | None) -> Any:
            return self._client.search_runs(
                [self._experiment],
                where,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )

        with self._translated():
            return [
                Run(
                    run.info.start_time,
                    run.info.run_id,
                    run.data.tags[MODEL_TAG],
                    run.info.status == "FINISHED",
                )
                for run in _all(page)
            ]

    def create_run(self, model_id: str) -> None:
        with self._translated():
            now = time.time_ns() // 1_000_000
            self._client.create_run(self._experiment, now, {MODEL_TAG: model_id}, run_name=model_id)

    def fill_run(self, run_id: str, record: ModelRecord) -> None:
        from mlflow import entities  # noqa: PLC0415 - see connect

        metrics = [entities.Metric(key, value, record.created_ms, 0) for key, value in record.metrics.items()]
        parameters = [entities.Param(key, value) for key, value in record.parameters.items()]
        tags = [entities.RunTag(key, value) for key, value in record.tags.items()]
        dataset = entities.Dataset(
            name=record.dataset.dataset_id,
            digest=record.dataset.digest,
            source_type="s3",
            source=json.dumps({"uri": record.dataset.uri}),
            profile=json.dumps(dict(record.dataset.profile)) if record.dataset.profile else None,
        )
        context = [entities.InputTag("mlflow.data.context", "training")]
        with self._translated():
            for some in batched(metrics, _METRICS_AT_ONCE, strict=False):
                self._client.log_batch(run_id, metrics=some)
            for some_parameters in batched(parameters, _TAGS_AT_ONCE, strict=False):
                self._client.log_batch(run_id, params=some_parameters)
            for some_tags in batched(tags, _TAGS_AT_ONCE, strict=False):
                self._client.log_batch(run_id, tags=some_tags)
            self._client.log_inputs(run_id, [entities.DatasetInput(dataset, context)])
            self._client.log_dict(run_id, dict(record.manifest), "manifest.json")
            self._client.set_terminated(run_id, "FINISHED")

    def delete_run(self, run_id: str) -> None:
        with self._translated():
            self._client.delete_run(run_id)

    def versions(self) -> list[Version]:
        def page(token: str | None) -> Any:
            return self._client.search_model_versions(
                f"name = '{self._name}'", max_results=_PAGE, page_token=token
            )

        with self._translated():
            return [
                Version(
                    int(found.version),
                    str(found.tags.get(MODEL_TAG, "")),
                    str(found.run_id),
                    found.tags.get(FORCED_TAG) == "true",
                )
                for found in _all(page)
            ]

    def create_version(self, record: ModelRecord, run_id: str) -> None:
        tags = {MODEL_TAG: record.model_id, "marquee.dataset_id": record.dataset.dataset_id}
        with self._translated():
            self._client.create_model_version(
                self._name,
                record.source,
                run_id,
                tags,
                description=f"model {record.model_id}",
                await_creation_for=0,
            )

    def delete_version(self, number: int) -> None:
        with self._translated():
            self._client.delete_model_version(self._name, str(number))

    def aliases(self) -> dict[str, int]:
        with self._translated():
            found: Mapping[str, str] = self._client.get_registered_model(self._name).aliases
        return {alias: int(number) for alias, number in found.items()}

    def set_alias(self, alias: str, number: int) -> None:
        with self._translated():
            self._client.set_registered_model_alias(self._name, alias, str(number))

    def delete_alias(self, alias: str) -> None:
        with self._translated():
            self._client.delete_registered_model_alias(self._name, alias)

    def mark_forced(self, number: int) -> None:
        with self._translated():
            self._client.set_model_version_tag(self._name, str(number), FORCED_TAG, "true")

    def _ensure_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            try:
                return str(self._client.create_experiment(self._name))
            except _mlflow_errors():  # made by somebody else meanwhile, or else the next call says why
                found = self._client.get_experiment_by_name(self._name)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                f"MLflow at {self._uri}: experiment {self._name!r} was deleted; restore it there"
            )
        return str(found.experiment_id)

    def _ensure_model(self) -> None:
        errors = _mlflow_errors()
        try:
            self._client.get_registered_model(self._name)
        except errors as error:
            if getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
                raise
            try:
                self._client.create_registered_model(self._name)
            except errors as refused:
                if getattr(refused, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                    raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _mlflow_errors() as error:
            raise RegistryError(f"MLflow at {self._uri}: {error}") from error


def _mlflow_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see connect

    return MlflowException, OSError


def _all(page: Callable[[str | None], Any]) -> Iterator[Any]:
    """What all pages hold; ``page`` takes the token of the page before, None for the first."""
    token: str | None = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return
