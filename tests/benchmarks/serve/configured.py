"""What the recommend function is deployed with, from its Chalice template."""

import json

from infra.paths import FUNCTIONS

_TEMPLATE = json.loads((FUNCTIONS / "recommend" / ".chalice" / "config.template.json").read_text())
MEGABYTES = int(_TEMPLATE["lambda_memory_size"])
ARCHITECTURE = str(_TEMPLATE.get("lambda_architecture", "x86_64"))
BLAS_THREADS = str(_TEMPLATE["environment_variables"]["OPENBLAS_NUM_THREADS"])
