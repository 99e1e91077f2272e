"""The seed system's way, run by path in ``build/envs/bench``: kafka-python, ``re``, a line of CSV each.

``python seed.py SERVERS TOPIC LINES CSV`` prints ``{"seconds", "cpu_seconds", "peak_bytes", "lines"}``.
"""

import json
import re
import sys
import time

from kafka import KafkaConsumer, TopicPartition

LINE = re.compile(
    r"([^,]+),(\d+),(?:GET /data/m/([^/]+)/(\d+)\.mpg|GET /rate/([^=]+)=(\d+)|(GET /create_account)"
    r"|recommendation request (\S+), status (\d+), result: (.*), (\d+) ms)"
)


def main(servers: str, topic: str, lines: int, path: str) -> None:
    began, cpu_began = time.perf_counter(), time.process_time()
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    read = 0
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123  as it was
        for message in consumer:
            found = LINE.fullmatch(message.value.decode(errors="replace"))
            if found is not None:
                file.write(",".join(group or "" for group in found.groups()) + "\n")
            read += 1
            if read == lines:
                break
    with open("/proc/self/status") as status:  # noqa: PTH123
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_bytes": peak,
        "lines": read,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
