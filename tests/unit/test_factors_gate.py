"""Which candidates may be released."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.factors.gate import COMPARED, NOT_COMPARED, NOTHING_LIVE, SAME_RECIPE, judge

ENDS = st.floats(-1, 1)
INTERVALS = st.none() | st.tuples(ENDS, ENDS).map(sorted)
STATUSES = st.sampled_from([NOTHING_LIVE, COMPARED, SAME_RECIPE, NOT_COMPARED])
MARGINS = st.floats(0, 1)


def metrics(status: str, popularity: Any = None, live: Any = None) -> dict[str, Any]:
    """Figures of a model; ``popularity`` and ``live`` are the intervals over them."""
    model_id = None if status == NOTHING_LIVE else "svd-live"
    return {
        "intervals": {"ndcg_at_10_over_popularity": popularity, "ndcg_at_10_over_live": live},
        "live": {"model_id": model_id, "status": status, "reason": "it is odd"},
    }


@given(STATUSES, INTERVALS, INTERVALS, MARGINS)
def test_a_model_is_refused_exactly_when_it_is_surely_worse_or_cannot_be_compared(
    status: str, popularity: list[float] | None, live: list[float] | None, margin: float
) -> None:
    worse_than_popularity = popularity is not None and popularity[1] < 0
    worse_than_live = status == COMPARED and live is not None and live[1] + margin < 0
    unknown = status == NOT_COMPARED or (status == COMPARED and live is None)
    found = judge(metrics(status, popularity, live), margin)
    assert found.releasable == (not (worse_than_popularity or worse_than_live or unknown))
    assert found.against == (None if status == NOTHING_LIVE else "svd-live")
    assert (found.margin, len(found.reasons)) == (margin, 2)


@given(INTERVALS, st.tuples(ENDS, ENDS).map(sorted), MARGINS, st.floats(0, 1), st.floats(0, 1))
def test_a_better_model_or_a_wider_margin_never_makes_the_gate_stricter(
    popularity: list[float] | None, live: list[float], margin: float, better: float, wider: float
) -> None:
    before = judge(metrics(COMPARED, popularity, live), margin).releasable
    raised = [end + better for end in live]
    assert judge(metrics(COMPARED, popularity, raised), margin).releasable >= before
    assert judge(metrics(COMPARED, popularity, live), margin + wider).releasable >= before


def test_the_reasons_name_the_live_model_the_interval_and_the_margin() -> None:
    found = judge(metrics(COMPARED, [0.01, 0.03], [-0.09, -0.0301]), 0.02)
    assert found.to_dict() == {
        "releasable": False,
        "against": "svd-live",
        "margin": 0.02,
        "reasons": [
            "it ranks no worse than the popularity list: NDCG@10 differs by +0.0100 to +0.0300 (95%)",
            "it ranks worse than svd-live, which is live: NDCG@10 differs by -0.0900 to -0.0301 (95%),"
            " 0.02 below is allowed",
        ],
    }
    refused = judge(metrics(NOT_COMPARED)).reasons
    assert refused[1] == "it cannot be compared with svd-live: it is odd"


@pytest.mark.parametrize("figures", [{}, {"users_evaluated": 0}, metrics(NOTHING_LIVE)])
def test_a_model_without_figures_passes_where_nothing_is_live(figures: dict[str, Any]) -> None:
    found = judge(figures)
    assert (found.releasable, found.against) == (True, None)
    assert found.reasons[0].startswith("too little is held out")
