"""Changes of a Delta table that another writer's commit came before are made again, on what stands now."""

import random
import time
from collections.abc import Callable

from deltalake.exceptions import CommitFailedError, DeltaError

from marquee.errors import StorageError

ATTEMPTS = 10
_PAUSE_SECONDS = 0.2


def retried[Made](change: Callable[[], Made], failed: str) -> Made:
    """What ``change`` returns, which loads the table itself and so sees what the others committed.

    Parameters
    ----------
    failed : said before the reason when it comes to nothing, such as which rows still stand where.

    Raises
    ------
    StorageError : others were faster :data:`ATTEMPTS` times, or S3 refused or failed.
    """
    for attempt in range(ATTEMPTS):
        try:
            return change()
        except CommitFailedError as error:
            if attempt + 1 == ATTEMPTS:
                raise StorageError(f"{failed}: {error}") from error
            pause(attempt)
        except (DeltaError, OSError) as error:
            raise StorageError(f"{failed}: {error}") from error
    raise AssertionError("the last attempt returns or raises")


def pause(attempt: int) -> None:
    """Wait a random time that grows, so that two writers do not meet again."""
    time.sleep(random.uniform(0, _PAUSE_SECONDS * (attempt + 1)))
