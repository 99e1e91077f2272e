"""CloudWatch Embedded Metric Format: a metric is a JSON line on stdout, so it costs no call.

CloudWatch Logs turns such lines into metrics on AWS; locally the emulator package does. Format:
"Specification: Embedded metric format", Amazon CloudWatch user guide.
"""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

_NONE: Mapping[str, object] = MappingProxyType({})


def document(
    namespace: str,
    dimensions: Mapping[str, str],
    metrics: Mapping[str, tuple[float, str]],
    properties: Mapping[str, object] = _NONE,
    dimension_sets: Sequence[Sequence[str]] | None = None,
) -> dict[str, object]:
    """One EMF document, stamped with the present time.

    Parameters
    ----------
    namespace : CloudWatch namespace the metrics go to.
    dimensions : names and values, 30 at most; CloudWatch refuses an empty value, so those are left out.
    metrics : name to ``(value, unit)``, 100 at most; the unit is CloudWatch's word, such as ``Count``,
        ``Milliseconds``, ``Bytes`` or ``None``. A value that is not finite is left out: JSON cannot carry it.
    properties : searchable in the logs, never a metric. A metric or dimension of the same name wins.
    dimension_sets : the combinations of dimension names to keep a series for; by default the one with all.
    """
    named = {name: value for name, value in dimensions.items() if value != ""}
    finite = {name: pair for name, pair in metrics.items() if math.isfinite(pair[0])}
    sets = [list(named)] if dimension_sets is None else [list(names) for names in dimension_sets]
    directive = {
        "Namespace": namespace,
        "Dimensions": [names for names in sets if all(name in named for name in names)],
        "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in finite.items()],
    }
    values = {name: value for name, (value, _) in finite.items()}
    stamp = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
    return {**properties, **named, **values, "_aws": stamp}


def emit(
    namespace: str,
    dimensions: Mapping[str, str],
    metrics: Mapping[str, tuple[float, str]],
    properties: Mapping[str, object] = _NONE,
    dimension_sets: Sequence[Sequence[str]] | None = None,
) -> None:
    """Write :func:`document` to stdout as one line, in one write so that threads do not interleave."""
    line = json.dumps(
        document(namespace, dimensions, metrics, properties, dimension_sets),
        separators=(",", ":"),
        default=str,
    )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
