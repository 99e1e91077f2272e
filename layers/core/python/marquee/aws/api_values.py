"""Kinds of values that a request may hold: what each accepts, in words, in JSON Schema and in code.

Text of a path or a query and values of a JSON body are refused by the same bounds with the same words.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marquee.errors import InputError

MAX_ID_CHARACTERS = 256
MAX_IDS = 500
_WHOLE_NUMBER = re.compile(r"[0-9]{1,30}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
_SHOWN_CHARACTERS = 40


class Kind(Protocol):
    """What a value must be. Both readers raise InputError naming the parameter and what is accepted."""

    def of_text(self, name: str, given: Sequence[str]) -> Any:
        """From a path or a query, where a name may stand several times; ``given`` is never empty."""
        ...

    def of_json(self, name: str, value: Any) -> Any:
        """From a body, as :mod:`json` reads it."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        ...


def refused(name: str, accepted: str, value: object) -> InputError:
    """The error for a value that is not what is accepted."""
    shown = repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return InputError(name, f"{name} must be {accepted}, not {shown}")


def once(name: str, given: Sequence[str]) -> str:
    """The one text given."""
    if len(given) != 1:
        raise InputError(name, f"{name} must be given once, not {len(given)} times")
    return given[0]


@dataclass(frozen=True)
class Whole:
    """A whole number in a range, both ends included."""

    minimum: int
    maximum: int

    def of_text(self, name: str, given: Sequence[str]) -> int:
        raw = once(name, given)
        if _WHOLE_NUMBER.fullmatch(raw) and self.minimum <= int(raw) <= self.maximum:
            return int(raw)
        raise refused(name, self._accepted(), raw)

    def of_json(self, name: str, value: Any) -> int:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, int) and not isinstance(whole, bool) and self.minimum <= whole <= self.maximum:
            return whole
        raise refused(name, self._accepted(), value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}

    def _accepted(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"


@dataclass(frozen=True)
class Number:
    """A number in a range, both ends included."""

    minimum: float
    maximum: float

    def of_text(self, name: str, given: Sequence[str]) -> float:
        raw = once(name, given)
        if _NUMBER.fullmatch(raw) and self.minimum <= float(raw) <= self.maximum:
            return float(raw)
        raise refused(name, self._accepted(), raw)

    def of_json(self, name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.minimum <= value <= self.maximum and math.isfinite(value):
            return float(value)
        raise refused(name, self._accepted(), value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}

    def _accepted(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    def of_text(self, name: str, given: Sequence[str]) -> bool:
        raw = once(name, given)
        if raw in ("true", "false"):
            return raw == "true"
        raise refused(name, "true or false", raw)

    def of_json(self, name: str, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise refused(name, "true or false", value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text:
    """A text that is not empty, such as a movie id."""

    def of_text(self, name: str, given: Sequence[str]) -> str:
        return self.of_json(name, once(name, given))

    def of_json(self, name: str, value: Any) -> str:
        if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARACTERS and _encodes(value):
            return value
        raise refused(name, f"a text of 1 to {MAX_ID_CHARACTERS} characters", value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS}


@dataclass(frozen=True)
class Texts:
    """Several texts without commas: comma separated, repeated or both in a query, an array in a body."""

    def of_text(self, name: str, given: Sequence[str]) -> tuple[str, ...]:
        return self._checked(name, [text for raw in given for text in raw.split(",")], given)

    def of_json(self, name: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise refused(name, self._accepted(), value)
        return self._checked(name, value, value)

    def schema(self) -> dict[str, Any]:
        item = {**Text().schema(), "pattern": "^[^,]+$"}
        return {"type": "array", "items": item, "minItems": 1, "maxItems": MAX_IDS}

    def _checked(self, name: str, texts: Sequence[Any], given: object) -> tuple[str, ...]:
        if not 1 <= len(texts) <= MAX_IDS:
            raise refused(name, self._accepted(), given)
        one = Text()
        try:
            found = tuple(one.of_json(name, text) for text in texts)
        except InputError as error:
            raise refused(name, self._accepted(), given) from error
        if any("," in text for text in found):
            raise refused(name, self._accepted(), given)
        return found

    def _accepted(self) -> str:
        return f"1 to {MAX_IDS} texts without commas, each of 1 to {MAX_ID_CHARACTERS} characters"


@dataclass(frozen=True)
class Record:
    """A JSON object of these fields.

    Parameters
    ----------
    fields : kind of each field.
    required : fields that must be there.
    one_of : fields of which exactly one must be there.
    """

    fields: Mapping[str, Kind]
    required: tuple[str, ...]
    one_of: tuple[str, ...] = ()

    def of_json(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refused(name, f"an object with {', '.join(self.fields)}", value)
        for field in value.keys() - self.fields.keys():
            raise InputError(
                name, f"{name} must not have {field[:_SHOWN_CHARACTERS]!r}, only {self._known()}"
            )
        for field in self.required:
            if field not in value:
                raise InputError(name, f"{name} must have {field}")
        if self.one_of and sum(field in value for field in self.one_of) != 1:
            raise InputError(name, f"{name} must have one of {' and '.join(self.one_of)}, and one alone")
        return {field: self.fields[field].of_json(f"{name}.{field}", held) for field, held in value.items()}

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "type": "object",
            "properties": {field: kind.schema() for field, kind in self.fields.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }
        if self.one_of:
            found["oneOf"] = [{"required": [field]} for field in self.one_of]
        return found

    def _known(self) -> str:
        return ", ".join(self.fields)


@dataclass(frozen=True)
class Records:
    """A JSON array of objects."""

    record: Record

    def of_text(self, name: str, given: Sequence[str]) -> tuple[dict[str, Any], ...]:
        raise refused(name, "in a JSON body", given)

    def of_json(self, name: str, value: Any) -> tuple[dict[str, Any], ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_IDS:
            raise refused(name, f"an array of 1 to {MAX_IDS} objects", value)
        return tuple(self.record.of_json(f"{name}[{at}]", one) for at, one in enumerate(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.record.schema(), "minItems": 1, "maxItems": MAX_IDS}


def _encodes(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON may spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
