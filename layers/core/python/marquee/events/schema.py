"""What the event tables hold: the columns that ARCHITECTURE.md defines, and the closed set of reasons."""

import pyarrow as pa

KINDS = ("watch", "rate", "create_account", "recommendation")

REASONS = ("oversize", "encoding", "shape", "time", "user", "minute", "rating", "status", "movie")
"""Why a message is refused, in the order in which a message is checked: the first that applies is given."""

MAX_LINE_BYTES = 65_536
"""A longer value is refused as ``oversize`` before anything else is asked of it."""

EVENTS = pa.schema(
    [
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("user_id", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("movie_id", pa.string()),
        pa.field("minute", pa.int32()),
        pa.field("rating", pa.float32()),
        pa.field("server", pa.string()),
        pa.field("status", pa.int32()),
        pa.field("result", pa.string()),
        pa.field("response_ms", pa.float32()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("event_month", pa.string()),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
