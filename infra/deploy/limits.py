"""Lambda's limits on code size, checked before anything is uploaded."""

from collections.abc import Sequence

from infra.deploy.layers import BuiltLayer
from marquee.errors import DeployError

MAX_UNZIPPED_BYTES = 262_144_000
"""A function's code and its layers together, unpacked."""
MAX_LAYERS = 5
MAX_DIRECT_ZIPPED_BYTES = 50_000_000
"""A larger zip is uploaded through S3 (the limit is 50 MB of request, taken here with room for the rest)."""


def check_function(function: str, code_bytes: int, layers: Sequence[BuiltLayer]) -> int:
    """The unzipped bytes of ``function`` with its ``layers``; :class:`DeployError` if Lambda refuses."""
    if len(layers) > MAX_LAYERS:
        listed = ", ".join(layer.name for layer in layers)
        raise DeployError(
            f"{function} has {len(layers)} layers ({listed}); Lambda accepts at most {MAX_LAYERS}"
        )
    total = code_bytes + sum(layer.unzipped_bytes for layer in layers)
    if total > MAX_UNZIPPED_BYTES:
        raise DeployError(_too_large(function, total, layers))
    return total


def _too_large(function: str, total: int, layers: Sequence[BuiltLayer]) -> str:
    ranked = sorted(layers, key=lambda layer: -layer.unzipped_bytes)
    sizes = ", ".join(f"{layer.name} {layer.unzipped_bytes:,}" for layer in ranked)
    worst = ranked[0]
    files = "\n".join(f"  {size:>12,}  {name}" for name, size in worst.largest)
    return (
        f"{function} unpacks to {total:,} bytes with its layers; Lambda accepts {MAX_UNZIPPED_BYTES:,}, "
        f"so {total - MAX_UNZIPPED_BYTES:,} must go.\nLayers: {sizes}.\n"
        f"Layer {worst.name}'s ten largest files (layers/{worst.name}/layer.toml says what to drop):\n{files}"
    )
