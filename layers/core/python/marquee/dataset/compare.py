"""What changed between two dataset manifests."""

from collections.abc import Mapping
from typing import Any

_NOT_SETTINGS = frozenset(
    (
        "format",
        "dataset_id",
        "created_at",
        "delta_version",
        "files",
        "offsets",
        "counts",
        "time_range",
        "quality",
        "implicit",
        "profile",
    )
)
"""What :func:`compare` reports by itself, or what any two datasets differ in."""


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What ``new`` has otherwise than ``old``; a pair is ``[old, new]``, None where one of them has none.

    Returns
    -------
    ``datasets``, ``created_at``, ``delta_version``, ``rows``, ``users``, ``movies``, ``time_range`` and
    ``reject_share`` : pairs, whether they differ or not.
    ``kinds``, ``quarantined`` : pairs of counts by kind and by reason, all that either has.
    ``offsets`` : pairs by partition, only those that moved.
    ``files`` : ``added`` and ``removed`` keys, and how many are ``kept``.
    ``settings`` : pairs of everything else in the manifests that differs, nested names joined by dots.
    """
    files = {entry["key"] for entry in old["files"]}, {entry["key"] for entry in new["files"]}
    settings = settings_of(old), settings_of(new)
    return {
        "datasets": [old.get("dataset_id"), new.get("dataset_id")],
        "created_at": [old.get("created_at"), new.get("created_at")],
        "delta_version": [old["delta_version"], new["delta_version"]],
        "rows": [rows_of(old), rows_of(new)],
        "users": [old["counts"]["users"], new["counts"]["users"]],
        "movies": [old["counts"]["movies"], new["counts"]["movies"]],
        "time_range": [old["time_range"], new["time_range"]],
        "reject_share": [old["quality"]["reject_share"], new["quality"]["reject_share"]],
        "kinds": _pairs(old["counts"]["kinds"], new["counts"]["kinds"]),
        "quarantined": _pairs(old["quality"]["quarantined"], new["quality"]["quarantined"]),
        "offsets": _changed(_pairs(old["offsets"], new["offsets"])),
        "files": {
            "added": sorted(files[1] - files[0]),
            "removed": sorted(files[0] - files[1]),
            "kept": len(files[0] & files[1]),
        },
        "settings": _changed(_pairs(*settings)),
    }


def rows_of(manifest: Mapping[str, Any]) -> int:
    """Events in the dataset, of all kinds."""
    return sum(manifest["counts"]["kinds"].values())


def settings_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What says how the dataset was made, and all that :func:`compare` has no place for; names dotted."""
    settings = {name: value for name, value in manifest.items() if name not in _NOT_SETTINGS}
    for name, known in (
        ("counts", ("kinds", "users", "movies")),
        ("quality", ("quarantined", "reject_share")),
    ):
        if more := {key: value for key, value in manifest[name].items() if key not in known}:
            settings[name] = more
    if settings.get("movies"):
        settings["movies"] = {"delta_version": settings["movies"]["delta_version"]}
    return _flatten(settings)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; lists stay as they are."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [old.get(name), new.get(name)] for name in dict.fromkeys([*old, *new])}


def _changed(pairs: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
