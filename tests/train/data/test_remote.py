"""Row groups read as windows ask for them: the same rows as from the flat cache, within a bounded local cache."""

import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.files import Files
from corpusmill.train import open_dataset
from corpusmill.train.data.dataset import TokenDataset
from tests.train.corpus import forget, small_dataset

BOUND = 8_000
"""Bytes: two or three of the row groups of `small_dataset`, which decode to some 4 kB each."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset folder: 2 shards of 10 documents in 3 row groups each."""
    small_dataset(tmp_path / "dataset")
    forget(tmp_path / "dataset", [("data/train-000-00001.parquet", 3)])
    return tmp_path / "dataset"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The cache folder."""
    return tmp_path / "cache"


def files_in(kept: Path) -> dict[str, int]:
    """Sizes of the row groups in the cache."""
    return {path.name: path.stat().st_size for path in (kept / "groups").glob("*.tokens")}


def first_windows(dataset: TokenDataset, length: int) -> list[int]:
    """The first window of each row group."""
    sizes = dataset.block_sizes(length)
    return (np.cumsum(sizes) - sizes).tolist()


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("length", [16, 1000, 20_000])
def test_the_rows_are_those_of_the_flat_cache(folder: Path, kept: Path, where: str, length: int) -> None:
    location = str(folder)
    if where == "memory":
        location = f"memory://{uuid.uuid4().hex}"
        files, store = Files(folder), Files(location)
        for name in files.list(""):
            store.write_bytes(name, files.read_bytes(name))
    flat = TokenDataset.open(str(folder), cache=kept)
    dataset = TokenDataset.open(location, cache=kept, cache_bytes=BOUND)
    assert dataset.fingerprint == flat.fingerprint
    assert dataset.tombstone_digest == flat.tombstone_digest != ""
    index = np.random.default_rng(0).permutation(flat.n_windows(length))
    for batch in np.array_split(index, max(1, len(index) // 8)):
        assert dataset.windows(batch, length).tolist() == flat.windows(batch, length).tolist()
        assert sum(files_in(kept).values()) <= BOUND
    assert dataset.locate(dataset.n_stream - 1) == flat.locate(dataset.n_stream - 1)


def test_a_url_is_read_remotely_without_being_asked(folder: Path, kept: Path) -> None:
    location = f"memory://{uuid.uuid4().hex}"
    small_dataset(location)
    dataset = TokenDataset.open(location, cache=kept)
    dataset.windows(np.arange(4), 32)
    assert len(files_in(kept)) == 1
    assert list(kept.glob("*.tokens")) == [], "no flat file"


class Ranges(SimpleHTTPRequestHandler):
    """Files with byte ranges, as object stores serve them."""

    def send_head(self) -> io.BytesIO | None:  # type: ignore[override]
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2]), len(data) - 1)) if asked else (0, len(data) - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        return io.BytesIO(data[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.filterwarnings("ignore")  # aiohttp's own, when the loop of fsspec's thread ends with the process
def test_over_http_from_a_real_server(folder: Path, kept: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        far = TokenDataset.open(f"http://127.0.0.1:{server.server_port}", cache=kept)
        near = TokenDataset.open(str(folder), cache=kept)
        index = np.arange(near.n_windows(64))
        np.testing.assert_array_equal(far.windows(index, 64), near.windows(index, 64))
        shutil.rmtree(kept / "groups")
        samples = open_dataset(f"http://127.0.0.1:{server.server_port}", sequence_length=64, cache=kept)
        forked = DataLoader(samples, batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert len(list(forked)) == len(index), "workers that were forked open connections of their own"
        server.shutdown()


def test_only_what_is_asked_for_is_fetched(folder: Path, kept: Path) -> None:
    dataset = TokenDataset.open(str(folder), cache=kept, cache_bytes=1 << 20)
    assert files_in(kept) == {}
    firsts = first_windows(dataset, 16)
    dataset.windows(np.array([firsts[4], firsts[4] + 1]), 16)
    assert len(files_in(kept)) == 1
    dataset.windows(np.array([firsts[0], firsts[2]]), 16)
    assert len(files_in(kept)) == 3


def test_what_is_kept_needs_no_store(folder: Path, kept: Path) -> None:
    one = TokenDataset.open(str(folder), cache=kept, cache_bytes=1 << 20)
    other = TokenDataset.open(str(folder), cache=kept, cache_bytes=1 << 20)
    index = np.arange(one.n_windows(50))
    rows = one.windows(index, 50)
    shutil.rmtree(folder / "data")
    assert other.windows(index, 50).tolist() == rows.tolist()


def test_what_was_used_longest_ago_goes_first(folder: Path, kept: Path) -> None:
    def fetch(window: int) -> set[str]:
        TokenDataset.open(str(folder), cache=kept, cache_bytes=10**6).windows(np.array([window]), 16)
        return set(files_in(kept))

    a, b, c, *_ = first_windows(TokenDataset.open(str(folder), cache=kept, cache_bytes=10**6), 16)
    first = fetch(a)
    second = fetch(b) - first
    for path in (kept / "groups").glob("*.tokens"):
        os.utime(path, (0, 0))
    assert fetch(a) == first | second, "nothing new, but used again"
    bound = sum(files_in(kept).values()) + 100
    TokenDataset.open(str(folder), cache=kept, cache_bytes=bound).windows(np.array([c]), 16)
    assert first < set(files_in(kept))
    assert not second & set(files_in(kept))


def test_eviction_harms_no_reader(folder: Path, kept: Path) -> None:
    dataset = TokenDataset.open(str(folder), cache=kept, cache_bytes=BOUND)
    window = np.array([3])
    rows = dataset.windows(window, 16)
    for path in (kept / "groups").glob("*.tokens"):
        path.unlink()
    shutil.rmtree(folder / "data")
    assert dataset.windows(window, 16).tolist() == rows.tolist(), "still mapped, not read again"


def test_a_file_of_another_size_is_fetched_again(folder: Path, kept: Path) -> None:
    rows = TokenDataset.open(str(folder), cache=kept, cache_bytes=BOUND).windows(np.array([3]), 16)
    (path,) = (kept / "groups").glob("*.tokens")
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    (kept / "groups" / "of-a-dead-process.tmp").write_bytes(b"half")
    again = TokenDataset.open(str(folder), cache=kept, cache_bytes=BOUND).windows(np.array([3]), 16)
    assert again.tolist() == rows.tolist()
    assert path.read_bytes() == whole
    assert list((kept / "groups").glob("*.tmp")) == []


def test_a_cache_too_small_for_one_row_group_is_refused(folder: Path, kept: Path) -> None:
    with pytest.raises(UsageError, match=r"cache_bytes is 100, but the largest row group decodes to \d,\d{3} bytes"):
        TokenDataset.open(str(folder), cache=kept, cache_bytes=100)


CODE = """
import hashlib, sys
import numpy as np
from corpusmill.train.data.dataset import TokenDataset

dataset = TokenDataset.open(sys.argv[1], cache=sys.argv[2], cache_bytes=int(sys.argv[3]))
rng, n = np.random.default_rng(int(sys.argv[4])), dataset.n_windows(16)
for _ in range(60):
    dataset.windows(rng.integers(0, n, 2), 16)
print(hashlib.sha256(dataset.windows(np.arange(n), 16).tobytes()).hexdigest())
"""


def test_processes_share_the_cache_and_each_others_evictions(folder: Path, kept: Path) -> None:
    arguments = [str(folder), str(kept), str(BOUND)]
    commands = [[sys.executable, "-c", CODE, *arguments, str(seed)] for seed in range(2)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    flat = TokenDataset.open(str(folder), cache=kept)
    rows = flat.windows(np.arange(flat.n_windows(16)), 16)
    assert digests == {hashlib.sha256(rows.tobytes()).hexdigest()}
    assert 0 < sum(files_in(kept).values()) <= BOUND
