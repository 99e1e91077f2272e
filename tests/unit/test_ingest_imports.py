"""The ingest layer has an Arrow without NumPy, Parquet and dataset; nothing of ours may want them."""

import subprocess
import sys
from pathlib import Path

from infra.paths import ROOT

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "pandas", "scipy") or name in (
            "pyarrow.parquet", "pyarrow.dataset", "pyarrow.fs", "pyarrow.flight", "pyarrow.substrait"
        ):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
"""
WRITE_AND_FREEZE = """
import sys
from datetime import UTC, datetime
import pyarrow as pa
from marquee.aws.kafka import Chunk, TopicReader
from marquee.aws.ingest import drain
from marquee.aws.catalogue import fetch
from marquee.aws.lake import Lake
from marquee.aws.lake_writer import Committed, LakeWriter
from marquee.aws.forgotten import forget
from marquee.aws.recent_update import follow
from marquee.aws.snapshot import freeze
from marquee.aws.upkeep import upkeep
from marquee.settings import IngestSettings, RecentSettings, UpkeepSettings
from tests.unit.catalogue_fakes import Service, serving
from tests.unit.lake_folder import Folder

class Bucket:
    name = "films"
    def get(self, key):
        return None
    def keys(self, prefix):
        return []
    def sizes(self, prefix):
        return {}
    def put(self, key, payload):
        pass

lake = Lake(sys.argv[1])
committed = Committed()
events, quarantine = lake.events("movielog"), lake.quarantine("movielog")
writer = LakeWriter(events, quarantine, IngestSettings(), lambda name: None, committed)
writer.begin({0: None})
raws = [b"2026-11-23T10:04:05,7,GET /data/m/x/3.mpg", b"dirty", None]
offsets = pa.array(range(3), pa.int64())
writer.add(Chunk(pa.array(raws, pa.binary()), pa.array([0] * 3, pa.int32()), offsets, {0: 3}))
writer.flush()
offsets = pa.array(range(3, 6), pa.int64())
writer.add(Chunk(pa.array(raws, pa.binary()), pa.array([0] * 3, pa.int32()), offsets, {0: 6}))
writer.flush()
assert (committed.read, committed.by_kind.total(), committed.by_reason.total()) == (6, 2, 4)
report = follow(lake, Folder(lake), RecentSettings(shards=3))
assert (report.error, report.rows, report.shards) == ("", 2, 1)
with serving(service := Service()):
    service.knows("x")
    report = fetch(service.settings, lake, "movielog")
assert (report.fetched, report.left) == (1, 0)
assert service.asked == [["x"]]
manifest = freeze(lake, Bucket(), "movielog", 5, datetime.now(UTC))
assert manifest["offsets"] == {"movielog-0": 6}
assert manifest["movies"]["files"][0]["rows"] == 1
forget(lake, 7, datetime.now(UTC))
report = upkeep(lake, Bucket(), UpkeepSettings(min_files=2))
assert report.tables.keys() == {"lake/events", "lake/quarantine", "lake/movies", "lake/forgotten"}
assert "numpy" not in sys.modules
"""


def test_ingest_works_from_fetch_to_upkeep_with_the_arrow_of_its_layer(tmp_path: Path) -> None:
    code = ABSENT + WRITE_AND_FREEZE
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
