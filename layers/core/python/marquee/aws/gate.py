"""Which model a candidate is compared with: the one now live, found in Lambda and read from S3."""

from typing import Any

from marquee.aws.bucket import Bucket
from marquee.aws.drift import look_up_live
from marquee.aws.live_factors import StoredModel
from marquee.aws.model_store import ModelStore
from marquee.errors import InputError, MarqueeError
from marquee.factors.fit import recipe
from marquee.factors.live import NOTHING_LIVE, Live
from marquee.factors.manifest import NUMPY


def find_live(bucket: Bucket, functions: Any, function_name: str) -> Live:
    """The model that the alias ``live`` serves, of two the one that was live before: its recipe and factors.

    The recipe of a model that the deadline stopped has the epochs it came to.

    Nothing here fails a training: where Lambda, S3 or the manifest does not tell, the reason stands in the
    answer.

    Parameters
    ----------
    functions : boto3's Lambda client.
    function_name : the function behind the API; empty means that there is none.
    """
    model_id: str | None = None
    try:
        model_id = look_up_live(functions, function_name)
        if model_id is None:
            return NOTHING_LIVE
        manifest = ModelStore(bucket).read_manifest(model_id)
        if manifest.engine != NUMPY:
            return Live(model_id, reason=f"it was trained by {manifest.engine}, whose solver is not here")
        made = recipe(manifest.algorithm, manifest.objective, manifest.hyperparameters)
        if manifest.stopped is not None:
            made = made.of_epochs(int(manifest.stopped["epochs_done"]))
    except InputError as error:
        return Live(model_id, reason=f"its recipe cannot be fitted here: {error}")
    except MarqueeError as error:
        return Live(model_id, reason=str(error))
    return Live(model_id, made, manifest.seed, stored=StoredModel.of(bucket, manifest))
