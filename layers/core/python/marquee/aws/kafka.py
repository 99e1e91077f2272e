"""Reading a topic from given offsets to its present end, as columns. No subscription, no rebalancing.

The end is a fact about the topic, asked for once before reading; an idle poll is not one. Offsets need not
be dense (compaction and transactions leave gaps), so a partition is done when the consumer's position reaches
that end or the broker says that there is no more, never when a number of messages has come.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from marquee.errors import BrokerError, OffsetRegressedError
from marquee.settings import KafkaSettings

_IDLE_SECONDS = 0.2
_POLL_MESSAGES = 1_000
CHUNK_MESSAGES = 65_536
CHUNK_BYTES = 8_000_000
_QUEUE_KILOBYTES = 32_768
_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
# A message has neither only before it was produced.
_PARTITION = cast(Callable[[Message], int], Message.partition)
_OFFSET = cast(Callable[[Message], int], Message.offset)


@dataclass(frozen=True)
class Span:
    """What there is to read of a partition: offsets from ``start`` up to, and without, ``end``."""

    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """Messages in the order read; ``next_offsets`` is where those partitions that moved stand after them."""

    values: pa.BinaryArray
    partitions: pa.Int32Array
    offsets: pa.Int64Array
    next_offsets: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class _Buffer:
    """What was read since the last chunk, a column of small arrays each."""

    values: list[pa.Array] = field(default_factory=lambda: [pa.array([], pa.binary())])
    partitions: list[pa.Array] = field(default_factory=lambda: [pa.array([], pa.int32())])
    offsets: list[pa.Array] = field(default_factory=lambda: [pa.array([], pa.int64())])
    messages: int = 0
    bytes: int = 0
    _run: tuple[int, range] = (-1, range(0))

    def add(self, messages: list[Message], moved: Mapping[int, range]) -> int:
        """The loop of the whole drain: one C call a message, no Python of our own. Bytes added.

        Parameters
        ----------
        moved : the offsets that each partition's position went over by these messages.
        """
        values = pa.array(list(map(Message.value, messages)), pa.binary())
        self.values.append(values)
        self.messages += len(messages)
        self.bytes += values.nbytes
        # Offsets rise: a partition that went over as many of them as there are messages has no gap between
        # them, and no message is another's. That is nearly always so, and saves asking each message twice.
        (partition, offsets), *others = moved.items() or [(-1, range(0))]
        if others or len(offsets) != len(messages):
            self._end_run()
            self.partitions.append(pa.array(list(map(_PARTITION, messages)), pa.int32()))
            self.offsets.append(pa.array(list(map(_OFFSET, messages)), pa.int64()))
        elif self._run[0] == partition and self._run[1].stop == offsets.start:
            self._run = partition, range(self._run[1].start, offsets.stop)
        else:
            self._end_run()
            self._run = partition, offsets
        return int(values.nbytes)

    def chunk(self, next_offsets: Mapping[int, int]) -> Chunk:
        self._end_run()
        columns = (self.values, self.partitions, self.offsets)
        values, partitions, offsets = (pa.concat_arrays(column) for column in columns)
        return Chunk(values, partitions, offsets, next_offsets)

    def _end_run(self) -> None:
        partition, offsets = self._run
        steps = pa.repeat(pa.scalar(1, pa.int64()), len(offsets))
        self.partitions.append(pa.repeat(pa.scalar(partition, pa.int32()), len(offsets)))
        self.offsets.append(pc.cumulative_sum(steps, start=offsets.start - 1))
        self._run = -1, range(0)


def _moved(spans: Mapping[int, Span], next_offsets: Mapping[int, int]) -> dict[int, int]:
    return {partition: at for partition, at in next_offsets.items() if at > spans[partition].start}


class TopicReader:
    """One topic, read by assignment.

    Parameters
    ----------
    settings : broker, topic and group.
    overrides : further properties of librdkafka, which win over ours.
    ask_seconds : how long the broker may take for an answer; past it, every method raises
        :class:`BrokerError`.
    stall_seconds : how long there may be nothing from partitions that have more.
    clock : monotonic seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        overrides: Mapping[str, Any] | None = None,
        *,
        ask_seconds: float = 10.0,
        stall_seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._ask_seconds = ask_seconds
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._last_error = ""
        self.failure: BrokerError | None = None
        """Why :meth:`chunks` ended early, when time was not the reason."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": settings.group,
                "client.id": settings.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # an offset that is gone is our business, not librdkafka's
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                "queued.max.messages.kbytes": _QUEUE_KILOBYTES,
                "fetch.queue.backoff.ms": 5,  # the default lets a full queue run dry: a third of the speed
                "reconnect.backoff.max.ms": 1_000,  # a broker that restarts is back before we give it up
                "log_level": 2,  # each failed attempt to connect is a line otherwise; error_cb has the reason
                "error_cb": self._note_error,
                **(overrides or {}),
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def partitions(self) -> list[int]:
        """The topic's partitions; none when there is no such topic (yet)."""
        # Asks for all topics: to ask for one by name makes some brokers create it.
        topics = self._ask(lambda: self._consumer.list_topics(timeout=self._ask_seconds)).topics
        found = topics.get(self._settings.topic)
        return sorted(found.partitions) if found else []

    def spans(self, next_offsets: Mapping[int, int]) -> dict[int, Span]:
        """What there is to read of each partition, given where we stand.

        A span that starts later than that does so because the broker deleted what was before.

        Raises
        ------
        OffsetRegressedError : a partition ends before where we stand.
        """
        return {partition: self._span(partition, at) for partition, at in next_offsets.items()}

    def _span(self, partition: int, at: int) -> Span:
        asked = TopicPartition(self._settings.topic, partition)
        low, high = self._ask(lambda: self._consumer.get_watermark_offsets(asked, timeout=self._ask_seconds))
        if high < at:
            raise OffsetRegressedError(
                f"partition {partition} of topic {self._settings.topic!r} ends at offset {high}, before {at} "
                "where we stand: the topic was deleted and made again. To read it from its start, as a new "
                "one, raise INGEST_TOPIC_EPOCH by one"
            )
        return Span(max(at, low), high)

    def chunks(
        self,
        spans: Mapping[int, Span],
        deadline: float,
        max_messages: int = CHUNK_MESSAGES,
        max_bytes: int = CHUNK_BYTES,
    ) -> Iterator[Chunk]:
        """Read every span; end when all are read, when the clock reaches ``deadline``, or on a failure.

        A chunk has at most ``max_messages``, and is given up once its values have ``max_bytes``. The last one
        may hold no message and yet move offsets, past what compaction or a transaction left.
        """
        topic = self._settings.topic
        open_spans = {partition: span for partition, span in spans.items() if span.start < span.end}
        next_offsets = {partition: span.start for partition, span in open_spans.items()}
        self._consumer.assign([TopicPartition(topic, p, span.start) for p, span in open_spans.items()])
        buffer, moved_at, usual_bytes = _Buffer(), self._clock(), 1
        while open_spans and self._clock() < deadline and self.failure is None:
            fitting = 1 + (max_bytes - buffer.bytes) // usual_bytes
            messages = self._poll(min(fitting, max_messages - buffer.messages))
            moved = self._advance(open_spans, next_offsets)
            if messages:
                moved_at = self._clock()
            elif self._clock() - moved_at > self._stall_seconds:
                self.failure = BrokerError(self._silence(open_spans, next_offsets))
            if any(map(Message.error, messages)):
                messages, moved = self._without_events(messages, open_spans, next_offsets), {}
            if messages:
                usual_bytes = max(1, buffer.add(messages, moved) // len(messages))
            if buffer.messages >= max_messages or buffer.bytes >= max_bytes:
                yield buffer.chunk(_moved(spans, next_offsets))
                buffer = _Buffer()
        self._consumer.unassign()
        yield buffer.chunk(_moved(spans, next_offsets))

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Tell the group where we stand, for tools that show lag; whether that succeeds does not matter."""
        topic = self._settings.topic
        with suppress(KafkaException):
            offsets = [TopicPartition(topic, partition, at) for partition, at in next_offsets.items()]
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _poll(self, at_most: int) -> list[Message]:
        """What is in the queue, whose size is bounded in bytes; only an empty one is waited for."""
        count = min(_POLL_MESSAGES, at_most)
        messages = self._ask(lambda: self._consumer.consume(count, 0))
        return messages or self._ask(lambda: self._consumer.consume(1, _IDLE_SECONDS))

    def _advance(self, open_spans: dict[int, Span], next_offsets: dict[int, int]) -> dict[int, range]:
        """Take over the consumer's positions, and stop fetching from partitions that are read.

        A partition that is read may still deliver what had been fetched of it, so its position counts too.
        Returns which offsets were gone over, of the partitions that moved.
        """
        moved = {}
        asked = [TopicPartition(self._settings.topic, partition) for partition in next_offsets]
        for found in self._consumer.position(asked):
            partition = found.partition
            if found.offset > next_offsets[partition]:
                moved[partition] = range(next_offsets[partition], found.offset)
                next_offsets[partition] = found.offset
            if partition in open_spans and next_offsets[partition] >= open_spans[partition].end:
                self._close(partition, open_spans)
        return moved

    def _close(self, partition: int, open_spans: dict[int, Span]) -> None:
        del open_spans[partition]
        self._consumer.pause([TopicPartition(self._settings.topic, partition)])

    def _without_events(
        self, messages: list[Message], open_spans: dict[int, Span], next_offsets: dict[int, int]
    ) -> list[Message]:
        """Only the messages; what the others say about their partition is acted upon."""
        for event in messages:
            error, partition = event.error(), _PARTITION(event)
            if error is None or partition not in open_spans:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                next_offsets[partition] = max(next_offsets[partition], _OFFSET(event))
            elif error.code() not in _GONE:  # retention passed us while we read: the next drain counts it
                self.failure = BrokerError(f"partition {partition}: {error.str()}")
            self._close(partition, open_spans)
        return [message for message in messages if message.error() is None]

    def _ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        try:
            return question()
        except KafkaException as error:
            raise BrokerError(self._no_answer(error.args[0].str())) from error

    def _no_answer(self, what: str) -> str:
        servers, reason = self._settings.bootstrap_servers, self._last_error
        return f"no answer from Kafka at {servers!r} ({what}{': ' + reason if reason else ''})"

    def _silence(self, open_spans: Mapping[int, Span], next_offsets: Mapping[int, int]) -> str:
        waiting = ", ".join(
            f"{p} at {next_offsets[p]} of {span.end}" for p, span in sorted(open_spans.items())
        )
        return self._no_answer(f"nothing for {self._stall_seconds:.0f} s from partitions {waiting}")

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
