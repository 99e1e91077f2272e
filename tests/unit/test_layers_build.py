"""Layer builds: what goes in, the same bytes each time, and Lambda's limits."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import paths
from infra.deploy import archive, elf, layer_rules, layers, limits
from infra.deploy.bytecode import with_bytecode
from infra.deploy.layers import BuiltLayer
from marquee.errors import DeployError

TWO_PINS = """\
# a comment
arro3-core==0.9.1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
Deprecated==3.0.1 ; python_version >= "3.9" \\
    --hash=sha256:cc
"""


def fake_layer(root: Path, body: str = "x = 1\n") -> Path:
    package = root / "sources" / "core" / "python" / "pkg"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(body)
    (package / "b.py").write_text("y = 2\n")
    (package / "data.txt").write_text("left out")
    return root / "sources"


def built(name: str, unzipped_bytes: int, largest: tuple[tuple[str, int], ...] = ()) -> BuiltLayer:
    return BuiltLayer(name, Path(f"{name}.zip"), "00", unzipped_bytes // 3, unzipped_bytes, largest)


def test_two_builds_of_the_same_sources_give_the_same_sha256(tmp_path: Path) -> None:
    sources = fake_layer(tmp_path)
    first = layers.build("core", sources=sources, output=tmp_path / "one")
    for path in sources.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    second = layers.build("core", sources=sources, output=tmp_path / "two")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.sha256, first.unzipped_bytes) == (second.sha256, second.unzipped_bytes)


def test_bytecode_is_used_as_it_stands_and_names_the_source_in_tracebacks(tmp_path: Path) -> None:
    body = "def fail():\n    raise ValueError('as said')\n"
    layer = layers.build("core", sources=fake_layer(tmp_path, body), output=tmp_path / "out")
    with zipfile.ZipFile(layer.path) as opened:
        opened.extractall(tmp_path / "opt")
    source = tmp_path / "opt" / "python" / "pkg" / "__init__.py"
    source.write_text("")  # of no consequence: the bytecode is not compared with it
    script = "import traceback, pkg\ntry: pkg.fail()\nexcept ValueError: traceback.print_exc()"
    environ = {"PYTHONPATH": str(tmp_path / "opt" / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert f'File "{source}", line 2, in fail' in run.stderr and "ValueError: as said" in run.stderr


def test_bytecode_follows_from_the_sources_alone(tmp_path: Path) -> None:
    names = [f"marquee/{path.name}" for path in (paths.LAYERS / "core/python/marquee").glob("*.py")]
    members = {name: (paths.LAYERS / "core/python" / name).read_bytes() for name in names}
    script = (
        "import sys, json, hashlib\nfrom infra.deploy.bytecode import with_bytecode\n"
        "members = {n: open(p, 'rb').read() for n, p in json.loads(sys.argv[1]).items()}\n"
        "made = with_bytecode(members)\n"
        "print(hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest())"
    )
    asked = json.dumps({name: str(paths.LAYERS / "core/python" / name) for name in names})
    run = subprocess.run([sys.executable, "-c", script, asked], capture_output=True, text=True, check=True)
    here = hashlib.sha256(repr(sorted(with_bytecode(members).items())).encode()).hexdigest()
    assert run.stdout.strip() == here


def test_a_module_that_does_not_compile_stays_as_it_is() -> None:
    members = {"python/old.py": b"print 1\n", "python/data.txt": b"x"}
    assert with_bytecode(members) == members


def test_a_layer_is_built_again_only_when_its_sources_changed(tmp_path: Path) -> None:
    heard: list[str] = []
    sources, output = fake_layer(tmp_path), tmp_path / "out"
    first = layers.build("core", sources=sources, output=output, progress=heard.append)
    assert layers.build("core", sources=sources, output=output, progress=heard.append) == first
    assert len(heard) == 2
    changed = layers.build(
        "core", sources=fake_layer(tmp_path, "x = 2\n"), output=output, progress=heard.append
    )
    assert len(heard) == 4
    assert changed.sha256 != first.sha256


def test_a_zip_that_was_cut_short_is_built_again(tmp_path: Path) -> None:
    sources, output = fake_layer(tmp_path), tmp_path / "out"
    first = layers.build("core", sources=sources, output=output)
    first.path.write_bytes(b"half")
    assert layers.build("core", sources=sources, output=output) == first
    assert zipfile.ZipFile(first.path).testzip() is None


def test_our_own_layer_holds_python_files_under_python(tmp_path: Path) -> None:
    layer = layers.build("core", sources=fake_layer(tmp_path), output=tmp_path / "out")
    with zipfile.ZipFile(layer.path) as opened:
        sources = [name for name in opened.namelist() if not name.endswith(".pyc")]
        assert sources == ["python/pkg/__init__.py", "python/pkg/b.py"]
        assert all(item.external_attr >> 16 == 0o100644 for item in opened.infolist())


def test_an_interrupted_write_leaves_neither_a_zip_nor_scratch(tmp_path: Path) -> None:
    class Interrupted(dict[str, bytes]):
        def __getitem__(self, key: str) -> bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write(tmp_path / "layer.zip", Interrupted(a=b"1"))
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True), st.binary(max_size=50))
)
def test_an_archive_does_not_depend_on_the_order_of_its_members(members: dict[str, bytes]) -> None:
    buffers = []
    with tempfile.TemporaryDirectory() as folder:
        for ordered in (members, dict(reversed(members.items()))):
            path = Path(folder) / "any.zip"
            archive.write(path, ordered)
            buffers.append(path.read_bytes())
    assert buffers[0] == buffers[1]
    with zipfile.ZipFile(io.BytesIO(buffers[0])) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == members


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("numpy/core.py", True),
        ("numpy/tests/test_core.py", False),
        ("numpy/testing/__init__.py", True),
        ("numpy/__init__.pyi", False),
        ("numpy/_core/include/numpy/x.txt", False),
        ("numpy-2.dist-info/METADATA", True),
        ("numpy-2.dist-info/licenses/LICENSE.txt", True),
        ("numpy-2.dist-info/RECORD", False),
        ("bin/f2py", False),
        ("pkg/bin/tool.py", True),
        ("pkg/dropped.so", False),
    ],
)
def test_rules_keep_what_runs_and_the_licences(name: str, kept: bool) -> None:
    assert layer_rules.LayerRules(("numpy",), drop=("pkg/*.so",)).keeps(name) is kept


def test_only_the_wanted_pins_are_installed_with_all_their_hashes() -> None:
    assert layer_rules.wanted_requirements(TWO_PINS, ("arro3_core",)) == (
        "arro3-core==0.9.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    )
    assert "--hash=sha256:cc" in layer_rules.wanted_requirements(TWO_PINS, ("deprecated",))


def test_a_package_without_a_pin_is_named() -> None:
    with pytest.raises(DeployError, match=r"does not pin pyarrow; run `make lock`"):
        layer_rules.wanted_requirements(TWO_PINS, ("pyarrow", "deprecated"))


@pytest.mark.parametrize("name", [name for name in layers.NAMES if name != "core"])
def test_every_layer_pins_each_package_it_wants(name: str) -> None:
    folder = paths.LAYERS / name
    rules = layer_rules.load(folder)
    text = layer_rules.wanted_requirements((folder / "requirements.txt").read_text(), rules.packages)
    assert len(re.findall(r"^[\w-]+==", text, re.MULTILINE)) == len(rules.packages)


def test_unknown_keys_in_layer_toml_are_refused(tmp_path: Path) -> None:
    (tmp_path / "layer.toml").write_text('packages = []\nexclude = ["x"]\n')
    with pytest.raises(DeployError, match=r"accepted are the lists packages, drop and unlink"):
        layer_rules.load(tmp_path)


def needed(data: bytes) -> list[str]:
    found: list[str] = []
    elf.unlink(data, lambda name: bool(found.append(name)))
    return found


def test_unlinking_a_library_takes_only_that_name_off_a_real_shared_object() -> None:
    import numpy._core._multiarray_umath as module

    data = Path(str(module.__file__)).read_bytes()
    names = needed(data)
    unwanted = next(name for name in names if PurePosixPath(name).full_match("libm.so.*"))
    changed = elf.unlink(data, lambda name: name == unwanted)
    assert needed(changed) == [name for name in names if name != unwanted]
    assert len(changed) == len(data)


@given(st.binary(max_size=200).filter(lambda data: not data.startswith(b"\x7fELF")))
def test_what_is_no_shared_object_comes_back_untouched(data: bytes) -> None:
    assert elf.unlink(data, lambda _: True) == data


def test_a_function_just_at_the_limit_passes() -> None:
    half = limits.MAX_UNZIPPED_BYTES // 2
    assert limits.check_function("ingest", half, [built("lake", half)]) == limits.MAX_UNZIPPED_BYTES


def test_a_function_over_the_limit_names_the_layer_and_its_ten_largest_files() -> None:
    largest = tuple((f"python/lib{number}.so", 30_000_000 - number) for number in range(10))
    big = built("lake", limits.MAX_UNZIPPED_BYTES, largest)
    with pytest.raises(DeployError) as refused:
        limits.check_function("ingest", 1, [built("core", 10), big])
    message = str(refused.value)
    assert "262,144,011 bytes" in message
    assert "11 must go" in message
    assert "layers/lake/layer.toml" in message
    assert all(name in message for name, _ in largest)


def test_a_sixth_layer_is_refused() -> None:
    with pytest.raises(DeployError, match=r"6 layers .* at most 5"):
        limits.check_function("train", 0, [built(str(number), 1) for number in range(6)])
