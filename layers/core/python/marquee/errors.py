"""Every error Marquee raises on purpose. Each names the value met and what would be accepted.

::

    MarqueeError
    ├── SettingError          an environment variable or option has an unusable value
    ├── InputError            the caller's request is wrong (HTTP 400): names parameter and accepted range
    ├── NotFoundError         a named thing does not exist (HTTP 404)
    │   ├── ModelNotFoundError
    │   ├── DatasetNotFoundError
    │   └── UnknownMovieError     the model to answer with does not know the movie
    ├── NoModelError          no model is released yet (HTTP 503)
    ├── StorageError          S3 refused, failed or did not answer in time
    ├── CorruptObjectError    bytes on S3 do not match the manifest's SHA-256 or shape
    ├── RegistryError         MLflow refused, failed or did not answer in time
    ├── TrainingError         the data cannot be trained on (empty, one user, NaN)
    ├── InvokeError           a function of ours could not be invoked, or failed
    ├── IngestError
    │   ├── StaleWriterError  another drain committed these offsets first
    │   ├── OffsetRegressedError  the topic ends before our committed offset: it was re-created
    │   ├── BrokerError       Kafka did not answer within the time allowed
    │   ├── CatalogueError    the catalogue service did not answer, or not with what can be understood
    │   └── WorkerError       a worker of a drain failed, or could not be invoked
    └── StackError            the local stack cannot do what was asked
        ├── PortBusyError
        ├── DeployError
        └── ReleaseError      an alias cannot take the traffic weights asked for
"""


class MarqueeError(Exception):
    """Root of the tree; the command line prints its message without a traceback and exits 1."""


class SettingError(MarqueeError):
    """A setting has an unusable value."""


class InputError(MarqueeError):
    """The caller's request is wrong.

    Parameters
    ----------
    parameter : name of the offending parameter, as the caller wrote it.
    message : what was met and what would be accepted.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class NotFoundError(MarqueeError):
    """A named thing does not exist."""


class ModelNotFoundError(NotFoundError):
    """No manifest stands under the model id, so the model does not exist."""


class DatasetNotFoundError(NotFoundError):
    """No dataset manifest stands under the id."""


class UnknownMovieError(NotFoundError):
    """The model to answer with does not know the movie."""


class NoModelError(MarqueeError):
    """Nothing has been trained or released yet."""


class StorageError(MarqueeError):
    """S3 refused, failed or did not answer in time; asking again may help."""


class CorruptObjectError(MarqueeError):
    """Bytes read do not match what the manifest recorded."""


class RegistryError(MarqueeError):
    """MLflow refused, failed or did not answer in time; nothing is lost, since S3 says what is missing."""


class TrainingError(MarqueeError):
    """The data cannot be trained on."""


class InvokeError(MarqueeError):
    """A function of ours could not be invoked, or failed."""


class IngestError(MarqueeError):
    """A drain could not finish; what it committed before stands."""


class StaleWriterError(IngestError):
    """Another drain committed these offsets first; this one's rows were not added."""


class OffsetRegressedError(IngestError):
    """The topic ends before the offset we committed: it was deleted and made again."""


class BrokerError(IngestError):
    """Kafka did not answer within the time allowed."""


class CatalogueError(IngestError):
    """The catalogue service did not answer, or not with what can be understood.

    Parameters
    ----------
    message : what was asked and what came of it.
    refused : the service works and refused this question; another one may do better.
    """

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


class WorkerError(IngestError):
    """A worker of a drain failed, or could not be invoked; the partitions of others are drained."""


class StackError(MarqueeError):
    """The local stack cannot do what was asked."""


class PortBusyError(StackError):
    """A port we need is taken by another process."""


class DeployError(StackError):
    """A deployment step failed."""


class ReleaseError(StackError):
    """An alias cannot take the traffic weights asked for."""
