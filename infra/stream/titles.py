"""Titles for films that do not exist, and the ids the stream gives them."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from marquee.errors import InputError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES = _words(
    "silent golden broken crimson distant hidden burning frozen last first lonely restless paper velvet iron "
    "electric secret forgotten savage gentle hollow midnight emerald scarlet wandering borrowed crooked "
    "endless fallen flying ghostly honest invisible little lucky mighty narrow northern painted quiet rising "
    "rusty sleeping smiling stolen strange sunken tall tender twisted ugly unknown upper vanishing violet "
    "western white wild wooden young"
)

_NOUNS = {
    "Action": _words("bullet hunter convoy vendetta fist ambush runner outlaw"),
    "Adventure": _words("island compass voyage summit treasure river caravan map"),
    "Animation": _words("puppet rabbit dragonfly toybox robot kitten pumpkin kite"),
    "Comedy": _words("wedding landlord uncle vacation waiter parrot roommate mayor"),
    "Crime": _words("alibi heist witness ledger informant motel verdict safe"),
    "Documentary": _words("archive glacier orchestra market border harvest reef workshop"),
    "Drama": _words("harbor letter winter mother promise orchard daughter window"),
    "Fantasy": _words("crown wizard oracle sword labyrinth lantern phoenix spell"),
    "Horror": _words("cellar scream grave mirror attic swarm asylum whisper"),
    "Romance": _words("kiss garden summer waltz stranger balcony serenade ring"),
    "Sci-Fi": _words("orbit android signal colony comet reactor galaxy clone"),
    "Thriller": _words("cipher passenger deadline shadow tunnel hostage cable trap"),
}

GENRES = tuple(_NOUNS)
FIRST_YEAR, LAST_YEAR = 1930, 2025
_YEARS = LAST_YEAR - FIRST_YEAR + 1
_NOUNS_PER_GENRE = 8
_TITLES_PER_GENRE = len(_ADJECTIVES) * _NOUNS_PER_GENRE
MOST_MOVIES = _TITLES_PER_GENRE * _YEARS
"""However the genres fall, so many films get different ids."""


def make_titles(genres: NDArray[np.int64], draw: Generator) -> tuple[list[str], list[int]]:
    """Titles and years for films whose main genres are ``genres`` (places in ``GENRES``); no pair twice."""
    if len(genres) > MOST_MOVIES:
        raise InputError("movies", f"{len(genres)} movies are too many: accepted is up to {MOST_MOVIES}")
    shape = (len(GENRES), _TITLES_PER_GENRE)
    words = draw.permuted(np.broadcast_to(np.arange(_TITLES_PER_GENRE), shape), axis=1)
    first_years = draw.integers(0, _YEARS, size=shape)
    used = [0] * len(GENRES)
    titles, years = [], []
    for genre in genres.tolist():
        turn, place = divmod(used[genre], _TITLES_PER_GENRE)
        used[genre] += 1
        adjective, noun = divmod(int(words[genre, place]), _NOUNS_PER_GENRE)
        titles.append(f"the {_ADJECTIVES[adjective]} {_NOUNS[GENRES[genre]][noun]}".title())
        # The same words come again in another year, up to once for each year there is.
        years.append(FIRST_YEAR + (int(first_years[genre, place]) + turn) % _YEARS)
    return titles, years


def movie_id(title: str, year: int) -> str:
    """``The Silent Harbor``, 1994 → ``the+silent+harbor+1994``."""
    return f"{title.lower().replace(' ', '+')}+{year}"
