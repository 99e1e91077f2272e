"""Layers laid over one another."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from marquee_localstack import opt


def layer(root: Path, name: str, files: dict[str, str]) -> Path:
    for path, text in files.items():
        place = root / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root / name


def content(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


names = st.sampled_from(["python/a.py", "python/p/b.py", "python/p/c.py", "lib/x.so", "bin/t"])
contents = st.dictionaries(names, st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=5)


@given(layers=st.lists(contents, min_size=2, max_size=4))
def test_a_later_layer_wins_file_by_file(tmp_path_factory, layers: list[dict[str, str]]) -> None:
    root = tmp_path_factory.mktemp("layers")
    places = [layer(root, f"layer-{i}", files) for i, files in enumerate(layers)]
    expected = {name: text for files in layers for name, text in files.items()}
    laid = opt.overlay(places, root / "opt")
    assert laid is not None
    assert content(laid) == expected
    assert [content(place) for place in places] == layers


def test_the_same_layers_are_laid_once_and_cost_no_space(tmp_path: Path) -> None:
    one, two = layer(tmp_path, "1", {"python/a.py": "1"}), layer(tmp_path, "2", {"python/b.py": "2"})
    first, again = (opt.overlay([one, two], tmp_path / "opt") for _ in range(2))
    assert first is not None
    assert first == again
    assert (first / "python/a.py").samefile(one / "python/a.py")
    assert opt.overlay([two, one], tmp_path / "opt") != first


def test_one_layer_is_itself_and_none_is_nothing(tmp_path: Path) -> None:
    one = layer(tmp_path, "1", {"python/a.py": "1"})
    assert opt.overlay([one], tmp_path / "opt") == one
    assert opt.overlay([], tmp_path / "opt") is None


def test_links_files_and_folders_replace_one_another(tmp_path: Path) -> None:
    one = layer(tmp_path, "1", {"lib/x.so.1": "1", "etc/conf": "file", "share/data/a": "a"})
    (one / "lib/x.so").symlink_to("x.so.1")
    (one / "current").symlink_to("share")
    two = layer(tmp_path, "2", {"etc/conf/part": "folder", "share/data": "file"})
    laid = opt.overlay([one, two], tmp_path / "opt")
    assert laid is not None
    assert (laid / "lib/x.so").readlink() == Path("x.so.1")
    assert (laid / "current").is_symlink()
    assert (laid / "etc/conf/part").read_text() == "folder"
    assert (laid / "share/data").read_text() == "file"


def test_the_paths_are_those_of_lambda(tmp_path: Path) -> None:
    task, layers, runtime = Path("/task"), Path("/layers"), Path("/runtime/bin")
    env = opt.environment(task, layers, runtime)
    assert env["PYTHONPATH"] == "/layers/python/lib/python3.13/site-packages:/layers/python"
    assert env["LD_LIBRARY_PATH"] == "/task:/task/lib:/layers/lib"
    assert env["PATH"].startswith("/runtime/bin:")
    assert env["PATH"].endswith(":/layers/bin")
    assert "PYTHONPATH" not in opt.environment(task, None, runtime)
