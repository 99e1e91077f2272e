"""The lines of the simulator and the replay are what the grammar says, and dirty ones are not."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.stream import lines
from infra.stream.batch import DIRTY, RATE, Batch
from infra.stream.dirty import spoil
from infra.stream.lines import Answer
from infra.stream.simulate import Simulation, batches
from marquee.errors import InputError
from marquee.events.grammar import parse
from marquee.events.schema import KINDS
from tests.unit import stream_oracle


def _all(simulation: Simulation) -> Batch:
    made = list(batches(simulation))
    keys = [key for batch in made for key in batch.keys]
    values = [value for batch in made for value in batch.values]
    return Batch(keys, values, np.concatenate([batch.kinds for batch in made]))


def test_each_kind_of_line_is_written_as_the_streaming_service_writes_it() -> None:
    time = "2026-11-23T10:04:05"
    assert lines.watch(time, 7, "louis+c.k.+live+2015", 12) == (
        b"2026-11-23T10:04:05,7,GET /data/m/louis+c.k.+live+2015/12.mpg"
    )
    assert lines.rate(time, 7, "you_+the+living+2007", 10) == (
        b"2026-11-23T10:04:05,7,GET /rate/you_+the+living+2007=10"
    )
    assert lines.create_account(time, 7) == b"2026-11-23T10:04:05,7,GET /create_account"
    assert lines.recommendation(time, 7, Answer("127.0.0.1:8082", 200, "a+1994,b+2001", 113)) == (
        b"2026-11-23T10:04:05,7,recommendation request 127.0.0.1:8082, status 200, "
        b"result: a+1994,b+2001, 113 ms"
    )


def test_times_have_a_fraction_only_when_one_of_them_needs_it() -> None:
    assert lines.format_times(np.array([0, 1_000_000])) == ["1970-01-01T00:00:00", "1970-01-01T00:00:01"]
    assert lines.format_times(np.array([0, 1])) == [
        "1970-01-01T00:00:00.000000",
        "1970-01-01T00:00:00.000001",
    ]


_SIMULATIONS = st.builds(
    Simulation,
    users=st.integers(2, 60),
    movies=st.integers(2, 80),
    seed=st.integers(0, 10_000),
    events=st.just(400),
    dirty_share=st.sampled_from([0.0, 0.1, 1.0]),
    rating_scale=st.sampled_from([5, 10]),
    watch_every_minutes=st.integers(1, 60),
)


@settings(max_examples=30, deadline=None)
@given(_SIMULATIONS)
def test_every_clean_line_matches_the_grammar_and_no_dirty_one_does(simulation: Simulation) -> None:
    made = _all(simulation)
    assert len(made) == 400
    for key, value, kind in zip(made.keys, made.values, made.kinds.tolist(), strict=True):
        read = stream_oracle.read(value, simulation.rating_scale)
        if kind == DIRTY:
            assert read is None, value
        else:
            assert read is not None, value
            assert read["kind"] == KINDS[kind]
            assert read["user"] == key.decode()


@pytest.mark.parametrize("scale", [5, 10])
def test_ingest_accepts_the_clean_lines_and_refuses_the_dirty_ones(scale: int) -> None:
    made = _all(Simulation(users=100, movies=50, events=20_000, dirty_share=0.2, rating_scale=scale))
    offsets = pa.array(range(len(made)), pa.int64())
    partitions = pa.array([0] * len(made), pa.int32())
    events, rejects = parse(pa.array(made.values, pa.binary()), partitions, offsets, scale)
    assert events.num_rows == int((made.kinds != DIRTY).sum())
    assert set(rejects["offset"].to_pylist()) == set(np.flatnonzero(made.kinds == DIRTY).tolist())
    reasons = set(rejects["reason"].to_pylist())
    assert reasons == {"encoding", "shape", "time", "user", "minute", "rating"}


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    simulation = Simulation(users=50, movies=40, events=3_000, seed=5, dirty_share=0.05)
    first, again = _all(simulation), _all(simulation)
    assert first.values == again.values
    assert first.keys == again.keys
    assert _all(Simulation(users=50, movies=40, events=3_000, seed=6)).values != first.values


def test_spoiling_keeps_keys_and_places_and_leaves_a_clean_share_clean() -> None:
    clean = _all(Simulation(users=50, movies=40, events=5_000, dirty_share=0.0))
    spoilt = spoil(clean, 0.3, np.random.default_rng(1))
    assert spoilt.keys == clean.keys
    dirty = spoilt.kinds == DIRTY
    assert 0.25 < dirty.mean() < 0.35
    kept = np.flatnonzero(~dirty)
    assert [spoilt.values[place] for place in kept] == [clean.values[place] for place in kept]


def test_a_batch_is_cut_into_slices_that_together_are_the_batch() -> None:
    made = _all(Simulation(users=20, movies=20, events=1_000))
    parts = list(made.slices(300))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert [value for part in parts for value in part.values] == made.values


def test_ratings_are_among_the_lines_so_that_these_tests_see_all_kinds() -> None:
    kinds = _all(Simulation(users=20, movies=20, events=1_000, dirty_share=0.1)).kinds
    assert set(kinds.tolist()) == {*range(len(KINDS)), DIRTY}
    assert RATE in kinds


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dirty_share", 1.5),
        ("requests_share", -0.1),
        ("events", 0),
        ("days", -1.0),
        ("watch_every_minutes", 0),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError) as refused:
        Simulation(**{field: value})
    assert refused.value.parameter == field
