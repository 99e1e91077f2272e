"""Where things stand on disk."""

from pathlib import Path

from marquee.settings import StackSettings

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
EMULATOR_ENV = BUILD / "envs" / "emulator"
RUNTIME_ENV = BUILD / "envs" / "runtime"
MLFLOW_ENV = BUILD / "envs" / "mlflow"
SPARK_ENV = BUILD / "envs" / "spark"
LAYERS = ROOT / "layers"
LAYER_ZIPS = BUILD / "layers"
FUNCTIONS = ROOT / "functions"


def state_dir(settings: StackSettings) -> Path:
    """Folder of the running stack's state, logs and scratch data; each stack has its own."""
    return Path(settings.state_dir).resolve() if settings.state_dir else BUILD / "state"


def functions_dir(settings: StackSettings) -> Path:
    """Folder of the Chalice apps; a second stack needs a copy, since chalice keeps state beside the app."""
    return Path(settings.functions_dir).resolve() if settings.functions_dir else FUNCTIONS
