"""Functions on the emulator behave as on AWS Lambda."""

import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.integration.emulator_support import Emulator, Function, emulator, eventually, zipped

WHO = """
import os, time
def handler(event, context):
    time.sleep((event or {}).get("sleep", 0))
    return {"pid": os.getpid(), "version": context.function_version}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with emulator() as started:
        yield started


@pytest.fixture(scope="module")
def who(running: Emulator) -> Function:
    return running.function(WHO)


def logged(running: Emulator, function: Function) -> list[str]:
    """Every event in the function's log group, which its first output makes a moment after a call."""
    logs, group = running.client("logs"), f"/aws/lambda/{function.name}"
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    try:
        return [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def test_calls_one_after_another_share_a_process(who: Function) -> None:
    assert who.call().payload["pid"] == who.call().payload["pid"]


def test_as_many_processes_as_concurrent_calls(who: Function) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: who.call({"sleep": 1.5}), range(4)))
    assert len({answer.payload["pid"] for answer in answers}) == 4


def test_each_version_has_processes_and_code_of_its_own(running: Emulator) -> None:
    function = running.function(
        "import os\ndef handler(e, c): return ['one', c.function_version, os.getpid()]"
    )
    first = function.publish()
    function.update("import os\ndef handler(e, c): return ['two', c.function_version, os.getpid()]")
    second = function.publish()
    old, new, latest = (function.call(qualifier=q).payload for q in (first, second, "$LATEST"))
    assert old[:2] == ["one", first]
    assert new[:2] == ["two", second]
    assert latest[:2] == ["two", "$LATEST"]
    assert len({old[2], new[2], latest[2]}) == 3


def test_weights_of_an_alias_can_be_set_and_changed(running: Emulator) -> None:
    function = running.function("def handler(e, c): return c.function_version")
    first = function.publish()
    function.update("def handler(e, c): return 'v' + c.function_version")
    second = function.publish()
    client = function.client
    client.create_alias(FunctionName=function.name, Name="live", FunctionVersion=first)
    weights = {"AdditionalVersionWeights": {second: 0.5}}
    client.update_alias(FunctionName=function.name, Name="live", RoutingConfig=weights)
    seen = {function.call(qualifier="live").payload for _ in range(40)}
    assert seen == {first, f"v{second}"}
    client.update_alias(
        FunctionName=function.name,
        Name="live",
        FunctionVersion=second,
        RoutingConfig={"AdditionalVersionWeights": {}},
    )
    assert {function.call(qualifier="live").payload for _ in range(20)} == {f"v{second}"}


def test_a_timeout_kills_and_the_next_call_starts_anew(running: Emulator) -> None:
    source = """
import os, time
def handler(event, context):
    print("sleepy")
    time.sleep(event)
    return os.getpid()
"""
    function = running.function(source, Timeout=1)
    before = function.call(0).payload
    late = function.call(30)
    assert late.error == "Unhandled"
    assert late.payload["errorType"] == "Sandbox.Timedout"
    assert late.payload["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    assert "sleepy" in late.log
    assert late.report["Status"] == "timeout"
    assert late.report["Duration"] == "1000.00 ms"
    assert not psutil.pid_exists(before)
    after = function.call(0)
    assert after.error is None
    assert after.payload != before


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
    ],
)
def test_a_crash_is_reported_with_its_output(running: Emulator, ending: str, reason: str) -> None:
    source = (
        f"import os\ndef handler(e, c):\n    if e: os.write(1, b'last words'); {ending}\n    return 'fine'"
    )
    function = running.function(source)
    crashed = function.call(True)
    assert crashed.payload["errorType"] == "Runtime.ExitError"
    assert crashed.payload["errorMessage"].endswith(f"Error: {reason}")
    assert "last words" in crashed.log
    assert crashed.report["Error Type"] == "Runtime.ExitError"
    assert function.call(False).payload == "fine"
    eventually(lambda: any("last words" in line for line in logged(running, function)), "the crash's output")


def test_a_bad_import_is_reported_and_tried_again_by_the_next_call(running: Emulator) -> None:
    function = running.function("print('importing')\nimport no_such_module\ndef handler(e, c): ...")
    for _ in range(2):
        failed = function.call()
        assert failed.payload["errorType"] == "Runtime.ImportModuleError"
        assert "No module named 'no_such_module'" in failed.payload["errorMessage"]
        assert failed.report["Error Type"] == "Runtime.ImportModuleError"
        assert "importing" in failed.log
        assert "INIT_REPORT" in failed.log


def test_an_exit_while_importing_is_an_exit_error(running: Emulator) -> None:
    failed = running.function("import sys\nsys.exit(7)").call()
    assert failed.payload["errorType"] == "Runtime.ExitError"
    assert failed.payload["errorMessage"].endswith("exit status 7")


def test_a_detached_process_lives_as_long_as_its_environment(running: Emulator) -> None:
    source = """
import subprocess, sys
SLEEP = "import time; time.sleep(600)"
OPTIONS = "stdout=subprocess.DEVNULL, start_new_session=True"
DETACH = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}], {OPTIONS}).pid)"
def handler(event, context):
    return int(subprocess.check_output([sys.executable, "-c", DETACH]))
"""
    function, other = running.function(source), running.function("import os\ndef handler(e, c): os._exit(1)")
    detached = function.call().payload
    assert other.call().payload["errorType"] == "Runtime.ExitError"
    assert psutil.pid_exists(detached)
    function.client.delete_function(FunctionName=function.name)
    eventually(lambda: not psutil.pid_exists(detached), "the end of the detached process")


def test_an_exception_keeps_its_name_its_trace_and_the_process(running: Emulator) -> None:
    function = running.function(
        "import os\ndef handler(e, c):\n    if e: raise KeyError('film')\n    return os.getpid()"
    )
    before = function.call(False).payload
    failed = function.call(True)
    assert failed.error == "Unhandled"
    assert failed.payload["errorType"] == "KeyError"
    assert failed.payload["stackTrace"]
    assert "[ERROR] KeyError: 'film'" in failed.log
    assert function.call(False).payload == before


def test_an_answer_over_six_megabytes_is_refused(running: Emulator) -> None:
    function = running.function("def handler(e, c): return 'x' * e")
    largest = 6 * 1024 * 1024 + 100
    assert len(function.call(largest - 2).payload) == largest - 2
    refused = function.call(largest - 1)
    assert refused.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert str(largest + 1) in refused.payload["errorMessage"]
    assert function.call(3).payload == "xxx"


def test_a_request_over_six_megabytes_is_refused(running: Emulator) -> None:
    function = running.function("def handler(e, c): return len(e)")
    largest = 6 * 1024 * 1024
    assert function.call("x" * (largest - 2)).payload == largest - 2
    with pytest.raises(ClientError) as refused:
        function.call("x" * (largest - 1))
    assert refused.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


@pytest.mark.parametrize("program", ["exec(HOLD)", "subprocess.run([sys.executable, '-c', HOLD])"])
def test_the_memory_size_is_a_limit(running: Emulator, program: str) -> None:
    source = f"""
import subprocess, sys
HOLD = "import time; x = bytearray(300 << 20); time.sleep(9)"
def handler(event, context):
    if event:
        {program}
    return "fine"
"""
    function = running.function(source, MemorySize=192)
    killed = function.call(True)
    assert killed.payload["errorType"] == "Runtime.OutOfMemory"
    assert killed.payload["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert killed.report["Max Memory Used"] == killed.report["Memory Size"] == "192 MB"
    assert killed.report["Error Type"] == "Runtime.OutOfMemory"
    assert function.call(False).payload == "fine"


def test_a_short_spike_over_the_memory_size_does_not_slip_through(running: Emulator) -> None:
    function = running.function(
        "def handler(e, c): return len(bytearray(b'x') * (300 << 20))", MemorySize=192
    )
    assert function.call().payload["errorType"] == "Runtime.OutOfMemory"


def test_report_tells_what_the_call_took(running: Emulator) -> None:
    function = running.function("x = bytearray(60 << 20)\ndef handler(e, c): return c.memory_limit_in_mb")
    first, second = function.call(), function.call()
    assert first.payload == "256"
    assert float(first.report["Init Duration"].removesuffix(" ms")) > 0
    assert "Init Duration" not in second.report
    assert 60 < int(second.report["Max Memory Used"].removesuffix(" MB")) < 256
    duration = float(second.report["Duration"].removesuffix(" ms"))
    assert int(second.report["Billed Duration"].removesuffix(" ms")) - 1 <= duration
    assert first.log.index("START RequestId") < first.log.index("END RequestId") < first.log.index("REPORT")


def test_all_output_reaches_the_log_in_order(running: Emulator) -> None:
    source = """
import logging, os, subprocess, sys
print("while importing")
def handler(event, context):
    print("standard output")
    print("standard error", file=sys.stderr)
    logging.getLogger().warning("logged")
    subprocess.run(["echo", "from a subprocess"])
    for i in range(event): print("line", i)
"""
    function = running.function(source)
    function.call(3000)

    def complete() -> list[str]:
        lines = logged(running, function)
        return lines if any(line.startswith("REPORT") for line in lines) else []

    lines = [line.rstrip("\n") for line in eventually(complete, "the REPORT line")]
    assert lines[1] == "while importing"
    assert lines[2].startswith("START RequestId")
    assert lines[3:5] == ["standard output", "standard error"]
    assert lines[5].startswith("[WARNING]")
    assert lines[5].endswith("logged")
    assert lines[6] == "from a subprocess"
    assert lines[7:3007] == [f"line {i}" for i in range(3000)]
    assert lines[3007].startswith("END RequestId")


def test_the_log_stream_is_the_one_the_function_knows(running: Emulator) -> None:
    source = "import os\ndef handler(e, c): return [c.log_group_name, c.log_stream_name]"
    function = running.function(source)
    group, stream = function.call().payload
    logs = running.client("logs")
    assert group == f"/aws/lambda/{function.name}"

    def streams() -> list[str]:
        try:
            found = logs.describe_log_streams(logGroupName=group)["logStreams"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [one["logStreamName"] for one in found]

    assert eventually(streams, "a log stream") == [stream]
    assert "/[$LATEST]" in stream


def test_layers_lie_over_one_another_and_under_the_code(running: Emulator) -> None:
    client = running.client("lambda")
    arns = []
    for number, files in enumerate(
        [
            {
                "python/first.py": "x = 1",
                "python/both/__init__.py": "",
                "python/both/part.py": "x = 1",
                "lib/a.txt": "",
            },
            {
                "python/lib/python3.13/site-packages/second.py": "x = 2",
                "python/both/part.py": "x = 2",
                "bin/tool": "",
            },
        ]
    ):
        answer = client.publish_layer_version(LayerName=f"layer-{number}", Content={"ZipFile": zipped(files)})
        arns.append(answer["LayerVersionArn"])
    source = """
import os, first, second, both.part
def handler(event, context):
    there = lambda name, leaf: any(os.path.exists(os.path.join(p, leaf)) for p in os.environ[name].split(":"))
    return [first.x, second.x, both.part.x, there("LD_LIBRARY_PATH", "a.txt"), there("PATH", "tool")]
"""
    assert running.function(source, Layers=arns).call().payload == [1, 2, 2, True, True]
    assert running.function(source, Layers=arns[::-1]).call().payload == [1, 2, 1, True, True]


def test_only_code_layers_and_runtime_are_importable(running: Emulator) -> None:
    source = """
import importlib.util, os
def handler(event, context):
    found = [name for name in event if importlib.util.find_spec(name)]
    return [*found, os.getcwd() == os.environ["LAMBDA_TASK_ROOT"]]
"""
    names = [
        "boto3",
        "awslambdaric",
        "localstack",
        "typer",
        "numpy",
        "infra",
        "marquee",
        "marquee_localstack",
    ]
    assert running.function(source).call(names).payload == ["boto3", "awslambdaric", True]


def test_the_environment_is_lambdas_and_the_functions_own(
    running: Emulator,
) -> None:
    source = "import os\ndef handler(e, c): return dict(os.environ)"
    function = running.function(source, Environment={"Variables": {"FILMS": "many"}})
    environment = function.call().payload
    assert environment["FILMS"] == "many"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == function.name
    assert environment["AWS_ENDPOINT_URL"] == running.url
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    foreign = ("LOCALSTACK", "GATEWAY", "PROVIDER", "MARQUEE", "PYTEST", "HOME")
    assert not [name for name in environment if name.startswith(foreign)]


def test_a_function_reaches_other_services_with_nothing_but_boto3(running: Emulator) -> None:
    source = "import boto3\ndef handler(e, c): return boto3.client('sts').get_caller_identity()['Account']"
    assert running.function(source).call().payload == "000000000000"


def test_asynchronous_calls_run(running: Emulator) -> None:
    function = running.function("def handler(e, c): print('got', e)")
    answer = function.client.invoke(FunctionName=function.name, InvocationType="Event", Payload=b'"it"')
    assert answer["StatusCode"] == 202

    def seen() -> bool:
        try:
            return "got it\n" in logged(running, function)
        except ClientError:
            return False

    eventually(seen, "the asynchronous call's output")


def test_many_concurrent_calls_all_answer(running: Emulator) -> None:
    function = running.function("import time\ndef handler(e, c):\n    time.sleep(0.02)\n    return e")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(function.call, range(120)))
    assert [answer.payload for answer in answers] == list(range(120))


def test_a_warm_call_costs_at_most_three_requests_without_lambda(running: Emulator) -> None:
    function = running.function("def handler(e, c): return e")
    client = function.client

    def milliseconds(ask: str) -> float:
        started = time.perf_counter()
        if ask == "call":
            client.invoke(FunctionName=function.name, Payload=json.dumps({}))["Payload"].read()
        else:
            client.list_functions(MaxItems=1)
        return (time.perf_counter() - started) * 1000

    for _ in range(30):
        milliseconds("call"), milliseconds("list")
    ratios = []
    for _ in range(3):
        pairs = [(milliseconds("call"), milliseconds("list")) for _ in range(100)]
        call, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios.append(call / plain)
        print(f"invoke {call:.2f} ms, ListFunctions {plain:.2f} ms, ratio {call / plain:.2f}")
    assert min(ratios) <= 3
