"""Writing models to S3 so that one exists whole or not at all, and listing them."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import LATEST_KEY, MANIFEST, MODELS, model_key
from marquee.aws.recent_keys import model_ids
from marquee.errors import ModelNotFoundError
from marquee.factors.manifest import FileEntry, Manifest, file_entry, model_id_of

_UPLOADS = 10
"""As many as a boto3 client holds connections for."""
_NAMED = 10
"""Known ids that an error names, at most."""

Files = Callable[[], Iterable[tuple[str, bytes]]]


class ModelStore:
    """Models of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def write(
        self, algorithm: str, files: Files, describe: Callable[[str, dict[str, FileEntry]], Manifest]
    ) -> Manifest:
        """Store a model under the id that its content gives, unless it is there already.

        All files are written before the manifest, and ``latest.json`` after it, so a reader never sees half a
        model. Of a model that exists nothing is rewritten: its own manifest is returned.

        Parameters
        ----------
        files : yields (name, bytes) of every file but the manifest. Called twice, once to learn the id, and
            must yield the same both times; so the bytes of a large model never stand in memory together.
        describe : the manifest for a model id and its file entries.
        """
        entries = {name: file_entry(payload) for name, payload in files()}

        def put(model_id: str) -> None:
            self._put_all((model_key(model_id, name), payload) for name, payload in files())

        return self.commit(algorithm, entries, put, describe)

    def commit(
        self,
        algorithm: str,
        entries: dict[str, FileEntry],
        put: Callable[[str], None],
        describe: Callable[[str, dict[str, FileEntry]], Manifest],
    ) -> Manifest:
        """As :meth:`write`, where ``put`` stores the files of ``entries`` under the model id it is given."""
        model_id = model_id_of(algorithm, entries)
        if self.exists(model_id):
            manifest = self.read_manifest(model_id)
        else:
            manifest = describe(model_id, entries)
            put(model_id)
            self._bucket.put(model_key(model_id, MANIFEST), manifest.to_json())
        self._bucket.put(LATEST_KEY, json.dumps({"model_id": model_id}).encode())
        return manifest

    def exists(self, model_id: str) -> bool:
        """Whether the model is there, whole."""
        return self._bucket.get(model_key(model_id, MANIFEST)) is not None

    def read_manifest(self, model_id: str) -> Manifest:
        """The model's manifest.

        Raises
        ------
        ModelNotFoundError : there is no such model, or it was never finished.
        CorruptObjectError : what stands there is no manifest.
        """
        payload = self._bucket.get(model_key(model_id, MANIFEST))
        if payload is None:
            raise ModelNotFoundError(f"no model {model_id!r} in s3://{self._bucket.name}/{MODELS}/")
        return Manifest.from_json(payload)

    def latest_id(self) -> str | None:
        """The model trained last; None when there is none."""
        payload = self._bucket.get(LATEST_KEY)
        return None if payload is None else str(json.loads(payload)["model_id"])

    def find(self, model_id: str | None) -> Manifest:
        """The manifest of ``model_id``, of the model trained last when that is None.

        Raises
        ------
        ModelNotFoundError : there is no such model; the message names those that there are, newest first.
        CorruptObjectError : what stands there is no manifest.
        """
        wanted = model_id or self.latest_id()
        if wanted is None:
            raise ModelNotFoundError(f"no model in s3://{self._bucket.name}/: `marquee train` makes one")
        try:
            return self.read_manifest(wanted)
        except ModelNotFoundError as error:
            known = [manifest.model_id for manifest in self.list_models()]
            if not known:
                raise
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            raise ModelNotFoundError(f"{error}; known are {', '.join(known[:_NAMED])}{more}") from error

    def list_models(self) -> list[Manifest]:
        """Manifests of all models, newest first."""
        ids = model_ids(self._bucket.folders(f"{MODELS}/"))
        with ThreadPoolExecutor(_UPLOADS) as pool:
            payloads = pool.map(self._bucket.get, (model_key(model_id, MANIFEST) for model_id in ids))
            found = [Manifest.from_json(payload) for payload in payloads if payload is not None]
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.model_id), reverse=True)

    def _put_all(self, objects: Iterator[tuple[str, bytes]]) -> None:
        """Upload in threads, holding no more objects than there are threads."""
        with ThreadPoolExecutor(_UPLOADS) as pool:
            running: set[Future[None]] = set()
            for key, payload in objects:
                running.add(pool.submit(self._bucket.put, key, payload))
                if len(running) == _UPLOADS:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in running:
                future.result()
