"""Spark on this machine: ``spark-submit`` of :mod:`infra.spark.job`, which leaves no process behind."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.aws import Target
from infra.paths import LAYERS, ROOT, SPARK_ENV
from infra.processes import ProcessSpec, spawn, stop
from marquee.errors import StackError

JOB = Path(__file__).with_name("job.py")
_LEAST_JAVA = 17
_TOLD = re.compile(r"^marquee: (.+)$", re.MULTILINE)
_CAUSE = re.compile(r"(Caused by: |Exception in |: )?[\w.]+(Error|Exception)\b")
_LAST_LINES = 15
_CAUSES = 5


def missing() -> str | None:
    """What this machine lacks to run Spark, in one line; None when nothing is."""
    java = shutil.which("java")
    if java is None:
        return f"Spark needs Java {_LEAST_JAVA} or later: install a JRE (openjdk-{_LEAST_JAVA}-jre-headless)"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < _LEAST_JAVA:
        first = told.splitlines()[0] if told else "nothing"
        return f"Spark needs Java {_LEAST_JAVA} or later; {java} says {first}"
    if not (SPARK_ENV / "bin" / "spark-submit").exists():
        return "Spark is not installed: `make spark` brings it (some 450 MB to download)"
    return None


def command(
    master: str, arguments: Sequence[str], *, python: Path, submit: Path, memory: str, job: Path = JOB
) -> list[str]:
    """The ``spark-submit`` of a job on this machine alone, listening on loopback only and serving no pages.

    Parameters
    ----------
    master : ``local[2]``, ``local[*]``.
    python : interpreter of driver and workers.
    submit : ``spark-submit``.
    job : the script.
    memory : the JVM's heap, as Spark writes it: ``2g``.
    """
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # An ALS model's lineage is read back by recursion, which has overflowed the usual 1 MB of stack.
        "spark.driver.extraJavaOptions": "-Xss4m",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
        "spark.sql.shuffle.partitions": "4",
        "spark.pyspark.python": str(python),
    }
    options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    return [str(submit), "--master", master, "--driver-memory", memory, *options, str(job), *arguments]


def train(
    target: Target,
    bucket: str,
    request: Mapping[str, Any],
    *,
    recommend_function: str,
    master: str = "local[*]",
    memory: str = "2g",
) -> dict[str, Any]:
    """Train in a Spark of this process's own; the model's manifest.

    Parameters
    ----------
    request : as the training function's event.
    recommend_function : whose live model the new one is compared with.

    Raises
    ------
    StackError : Java or Spark is missing, or the job failed; the message has the job's own.
    """
    lacking = missing()
    if lacking is not None:
        raise StackError(lacking)
    with TemporaryDirectory(prefix="marquee-spark-") as scratch:
        log = Path(scratch) / "log"
        spec = ProcessSpec(
            name="spark",
            argv=tuple(
                command(
                    master,
                    [*_arguments(request), "--bucket", bucket, "--recommend-function", recommend_function],
                    python=SPARK_ENV / "bin" / "python",
                    submit=SPARK_ENV / "bin" / "spark-submit",
                    memory=memory,
                )
            ),
            log=log,
            env=environment(target, Path(scratch)),
        )
        process = spawn(spec)
        try:
            code = process.wait()
        finally:
            stop(process)
        return _answer(code, log.read_text(errors="replace"))


def environment(target: Target, scratch: Path) -> dict[str, str]:
    """Variables of a job: where its code, its S3 and its scratch folder are."""
    endpoint = {"AWS_ENDPOINT_URL": target.endpoint_url} if target.endpoint_url else {}
    keys = {name.upper(): value for name, value in target.credentials.items()}
    return {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(LAYERS / "core" / "python")]),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_HOME": str(next(SPARK_ENV.glob("lib/python*/site-packages/pyspark"))),
        "AWS_DEFAULT_REGION": target.region,
        **endpoint,
        **keys,
    }


def _arguments(request: Mapping[str, Any]) -> list[str]:
    names = {"algorithm": "--algorithm", "objective": "--objective", "dataset_id": "--dataset"}
    given = [part for key, name in names.items() if request.get(key) for part in (name, str(request[key]))]
    settings = request.get("hyperparameters")
    given += ["--hyperparameters", json.dumps(settings)] if settings else []
    return [*given, "--seed", str(request.get("seed", 0))]


def _answer(code: int, log: str) -> dict[str, Any]:
    if code == 0:
        return dict(json.loads(next(line for line in reversed(log.splitlines()) if line.startswith("{"))))
    told = _TOLD.findall(log)
    if told:
        raise StackError(told[-1])
    lines = log.splitlines()
    causes = [line.strip() for line in lines[:-_LAST_LINES] if _CAUSE.match(line.strip())][-_CAUSES:]
    raise StackError(f"Spark ended with code {code}:\n" + "\n".join(causes + lines[-_LAST_LINES:]))
