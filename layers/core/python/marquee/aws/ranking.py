"""The list that an answer holds, from what is known of the user: one way for serving and for replaying it."""

from marquee.aws.model_reader import Model, User
from marquee.aws.provenance import Source
from marquee.scoring.top_k import Rows, Scores, take_unseen


def source_of(user: User | None) -> Source:
    """Where the list of a user comes from, who is None when the model does not know them."""
    return "cold_start" if user is None else "model"


def rank(model: Model, user: User | None, k: int) -> tuple[Rows, Scores | None]:
    """Up to ``k`` item rows, best first, and their scores; None of a ready list, which has none.

    Parameters
    ----------
    user : None when the model does not know them, or their row could not be had in time.
    """
    if user is None:
        return take_unseen(model.cold_start, k), None
    return model.top_k(user.factors, k, user.seen)
