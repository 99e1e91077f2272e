"""AWS list prices by which benchmarks turn measured time into dollars: us-east-1, as of December 2025.

Lambda, API Gateway and S3 Standard, without their free tiers. Data sent out and logs come on top.
"""

import math

LAMBDA_DOLLARS_PER_GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
LAMBDA_DOLLARS_PER_MILLION_CALLS = 0.20
REST_API_DOLLARS_PER_MILLION_CALLS = 3.50
"""Of the first 333 million in a month."""
S3_DOLLARS_PER_MILLION_GETS = 0.40
S3_DOLLARS_PER_MILLION_PUTS = 5.00
LAMBDA_MEGABYTES_PER_VCPU = 1_769
"""A function has as much of a processor as it has memory, relative to this."""


def stretched(processor_seconds: float, megabytes: int) -> float:
    """Seconds that work of one processor takes in a function of so much memory, which may be below a vCPU.

    More memory than a vCPU's does not make one thread faster.
    """
    return processor_seconds * max(1.0, LAMBDA_MEGABYTES_PER_VCPU / megabytes)


def lambda_dollars(seconds: float, megabytes: int, architecture: str = "x86_64") -> float:
    """What Lambda asks for so many seconds of a function, its calls left out."""
    return seconds * megabytes / 1_024 * LAMBDA_DOLLARS_PER_GB_SECOND[architecture]


def dollars_per_million_answers(
    seconds: float, megabytes: int, architecture: str = "x86_64"
) -> dict[str, float]:
    """One million calls through a REST API, each of which takes ``seconds``, billed in whole milliseconds."""
    billed_seconds = math.ceil(round(seconds * 1_000, 6)) / 1_000
    parts = {
        "lambda_time": lambda_dollars(billed_seconds * 1e6, megabytes, architecture),
        "lambda_calls": LAMBDA_DOLLARS_PER_MILLION_CALLS,
        "rest_api": REST_API_DOLLARS_PER_MILLION_CALLS,
    }
    return {**parts, "total": sum(parts.values())}
