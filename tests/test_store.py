"""The store keeps whole artifacts or none, says what is wrong with its disk, and has one writer."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from monoglot.errors import DataError, StoreBusyError, StoreError
from monoglot.identity import files_digest
from monoglot.store import FORMAT, Artifact, Key, Store, sync_folder, write_atomically

KEY = Key.of("split", 3, {"rows": "abc"}, {"share": 0.3})
TABLE = pl.DataFrame({"row": ["a", "b", "c"]})


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def write(store, key=KEY, table=TABLE, **facts):
    with store.writing(key) as draft:
        draft.write_table(table)
        draft.write_table(table[:1], "rejects.parquet")
        (draft.folder / "model").mkdir()
        (draft.folder / "model/weights").write_bytes(b"12345")
        draft.facts |= facts
    return store.find(key)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run(code, *arguments, root):
    """Run code in a process of its own, with the store's root as its folder."""
    start = (
        "import os, sys\nfrom monoglot.store import *\nKEY = Key.model_validate_json(sys.argv[1])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code), KEY.model_dump_json(), *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_written_is_found_and_read(store):
    assert store.find(KEY) is None
    found = write(store, labels=2, warnings=["é"])
    assert found == Artifact(
        stage="split",
        digest=files_digest(
            store.folder(found), ["table.parquet", "rejects.parquet", "model/weights"]
        ),
        location=f"artifacts/split/v3-{KEY.digest[:20]}",
        rows=3,
        facts={"labels": 2, "warnings": ["é"]},
    )
    assert store.table(found).equals(TABLE)
    assert store.table(found, "rejects.parquet").equals(TABLE[:1])
    assert everything(store.root / "tmp") == []


def test_a_fact_that_is_no_number_is_kept_as_unknown(store):
    facts = {"loss": float("nan"), "gains": (1.5, float("inf"))}
    assert write(store, **facts).facts == {"loss": None, "gains": [1.5, None]}


def test_a_digest_of_the_content_may_be_given(store):
    with store.writing(KEY) as draft:
        draft.digest = "content"
    assert store.find(KEY).digest == "content"
    assert store.find(KEY).rows == 0


def test_a_key_is_its_stage_version_inputs_and_config():
    same = Key.of("split", 3, {"rows": "abc"}, {"share": 0.3})
    assert same == KEY
    assert str(KEY) == f"split/v3-{KEY.digest[:20]}"
    others = [
        Key.of("cut", 3, {"rows": "abc"}, {"share": 0.3}),
        Key.of("split", 4, {"rows": "abc"}, {"share": 0.3}),
        Key.of("split", 3, {"rows": "abd"}, {"share": 0.3}),
        Key.of("split", 3, {"rows": "abc"}, {"share": 0.4}),
    ]
    assert len({str(key) for key in (KEY, *others)}) == 5


def test_a_moved_store_finds_its_artifacts(store, tmp_path):
    found = write(store)
    store.root.rename(tmp_path / "else[where]*")
    moved = Store.existing(str(tmp_path / "else[where]*"))
    assert moved.find(KEY) == found
    assert moved.table(found).equals(TABLE)


FILES = ["table.parquet", "rejects.parquet", "model/weights", "record.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_or_truncated_file_makes_the_artifact_not_found(store, name):
    found = write(store)
    path = store.folder(found) / name
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"x"):
        path.write_bytes(damaged)
        assert store.find(KEY) is None
    path.unlink()
    assert store.find(KEY) is None
    path.write_bytes(whole)
    assert store.find(KEY) == found


@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_is_never_trusted(store, name):
    found = write(store, labels=2)
    path = store.folder(found) / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        again = store.find(KEY)
        # In the record's own layout a byte may be of no account.
        assert again is None or (name == "record.json" and again == found)


@pytest.mark.parametrize(
    "record", ["null", "[]", "{}", '{"checksum": 1}', '"text"', "{", "\xff", "NaN"]
)
def test_a_record_that_is_none_is_not_trusted(store, record):
    found = write(store)
    (store.folder(found) / "record.json").write_bytes(record.encode("latin-1"))
    assert store.find(KEY) is None


def test_an_artifact_under_another_key_is_not_trusted(store):
    found = write(store)
    other = Key.of("split", 3, {"rows": "other"}, None)
    store.folder(found).rename(store.root / f"artifacts/{other}")
    assert store.find(other) is None
    assert store.find(KEY) is None


def test_a_damaged_artifact_is_written_anew(store):
    found = write(store)
    (store.folder(found) / "model/weights").write_bytes(b"54321")
    (store.folder(found) / "more").write_bytes(b"x")
    assert write(store) == found
    assert everything(store.folder(found)) == sorted([*FILES, "model"])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DataError])
def test_an_exception_while_writing_leaves_nothing(store, error):
    def stop_halfway():
        with store.writing(KEY) as draft:
            draft.write_table(TABLE[:1])
            raise error("halfway")

    with pytest.raises(error, match="halfway"):
        stop_halfway()
    assert store.find(KEY) is None
    assert everything(store.root) == ["store.json", "tmp"]
    found = write(store)
    with pytest.raises(error, match="halfway"):
        stop_halfway()
    assert store.find(KEY) == found


def test_a_killed_writer_leaves_nothing_to_be_found(store):
    code = """
        import signal
        with Store(Path(".")).writing(KEY) as draft:
            draft.write_table(pl.DataFrame({"row": ["a"]}))
            (Path(".") / "tmp/probe-killed").write_bytes(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(code, root=store.root).returncode == -signal.SIGKILL
    assert store.find(KEY) is None
    resumed = store.scratch(KEY)
    (resumed / "checkpoint").write_bytes(b"x")
    assert len(everything(store.root / "tmp")) == 5
    with store.writer():
        assert everything(store.root / "tmp") == [resumed.name, f"{resumed.name}/checkpoint"]
    store.discard_scratch(KEY)
    store.discard_scratch(KEY)
    assert everything(store.root / "tmp") == []


def test_a_table_that_is_gone_or_damaged_is_named(store):
    found = write(store)
    path = store.folder(found) / "table.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreError, match=r"table\.parquet: cannot be read .* Run again: it will b"):
        store.table(found)
    path.unlink()
    with pytest.raises(StoreError, match=r"table\.parquet: cannot be read .* Run again: it will b"):
        store.table(found)


def test_a_store_is_made_only_when_it_is_to_be_written(tmp_path):
    place = tmp_path / "deep/store"
    with pytest.raises(StoreError, match=r"no store here yet\. `monoglot run` makes one"):
        Store.existing(str(place))
    assert Store.if_any(str(place)) is None
    assert everything(tmp_path) == []
    Store.open(str(place))
    assert json.loads((place / "store.json").read_bytes()) == {"format": FORMAT}
    assert everything(place) == ["store.json", "tmp"]
    assert Store.existing(str(place)).root == Store.if_any(str(place)).root == place


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (f'{{"format": {FORMAT + 1}}}', rf"format {FORMAT + 1}; .*reads format {FORMAT}\. Upgrade"),
        ('{"format": 0}', r"format 0; .*\. Choose a new folder under `store:` and run again"),
        ('{"format": "1"}', r"Choose a new folder"),
        ('{"format": true}', r"Choose a new folder"),
        ('{"format": null}', r"Choose a new folder"),
        ("{}", r"store\.json: unreadable \('format'\)\. Restore it, or choose another"),
        ("[]", r"store\.json: unreadable"),
        ("", r"store\.json: unreadable"),
        ("\0\xff", r"store\.json: unreadable"),
    ],
)
def test_a_store_of_another_format_is_refused_and_left_as_it_is(tmp_path, marker, message):
    (tmp_path / "store.json").write_bytes(marker.encode("latin-1"))
    for opening in (Store.open, Store.existing, Store.if_any):
        with pytest.raises(StoreError, match=message):
            opening(str(tmp_path))
    assert everything(tmp_path) == ["store.json"]


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for place in (tmp_path / "file", tmp_path / "file/store"):
        with pytest.raises(StoreError, match=r"cannot be written \((Not a directory|File exists)"):
            Store.open(str(place))
        with pytest.raises(StoreError, match="no store here yet"):
            Store.existing(str(place))


AS_NOBODY = """
    if os.getuid() == 0:  # root writes and reads everywhere
        import pwd
        os.setgroups([])
        os.setgid(pwd.getpwnam("nobody").pw_gid)
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    def said(do):
        try:
            do()
        except StoreError as error:
            print(error)
        else:
            print("done")
    def write():
        with Store(Path(".")).writing(KEY):
            pass
    def lock():
        with Store(Path(".")).writer():
            pass
"""


def closed(folder, mode):
    """Take rights from a folder and all in it until the test has ended."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(mode if path.is_dir() else mode & 0o666)
    return modes


def test_a_read_only_store_can_be_read_and_says_so_when_written(store):
    found = write(store)
    before = everything(store.root)
    modes = closed(store.root, 0o555)
    code = """
        said(lambda: Store.open("."))
        said(write)
        said(lock)
        said(lambda: Store.open("new/store"))
        print(Store.existing(".").table(Store.existing(".").find(KEY)).height)
        said(lambda: Store(Path(".")).scratch(KEY))
    """
    done = run(textwrap.dedent(AS_NOBODY) + textwrap.dedent(code), root=store.root)
    for path, mode in modes.items():
        path.chmod(mode)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    for line in (*lines[:4], lines[5]):
        assert "the store cannot be written (Permission denied: " in line
        assert line.endswith(
            "Check the free space and the owner of the folder, or set `store:` to another one."
        )
    assert lines[4] == "3"
    assert everything(store.root) == before
    assert store.find(KEY) == found


def test_a_store_one_may_not_look_into_says_so(store, tmp_path):
    modes = closed(store.root, 0o000)
    code = (
        'for opening in (Store.open, Store.existing, Store.if_any): said(lambda: opening("store"))'
    )
    done = run(textwrap.dedent(AS_NOBODY) + code, root=tmp_path)
    for path, mode in modes.items():
        path.chmod(mode)
    assert done.stderr == ""
    assert done.stdout.splitlines() == 3 * [
        "store: the store cannot be read (Permission denied). Check the path and the owner of the "
        "folder."
    ]


@pytest.mark.parametrize(
    "fill",
    [
        'draft.write_table(pl.DataFrame({"n": pl.int_range(100_000, eager=True).shuffle(1)}))',
        '(draft.folder / "weights").write_bytes(bytes(100_000))',
        'draft.facts["long"] = "x" * 100_000',
    ],
)
def test_a_full_disk_leaves_no_half_artifact_and_says_so(store, fill):
    """A file may not grow beyond 50,000 bytes here: the disk's other way of being full."""
    found = write(store)
    code = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        store = Store.open(".")
        other = KEY.model_copy(update={{"stage": "other"}})
        try:
            with store.writing(other) as draft:
                {fill}
        except StoreError as error:
            print(error)
        assert store.find(other) is None
        with store.writing(other) as draft:
            (draft.folder / "small").write_bytes(b"x")
        assert store.find(other)
    """
    done = run(code, root=store.root)
    assert done.stderr == ""
    assert done.stdout.startswith(".: the store cannot be written (File too large")
    assert done.stdout.endswith(
        "Check the free space and the owner of the folder, or set `store:` to another one.\n"
    )
    assert everything(store.root / "tmp") == []
    assert store.find(KEY) == found


def test_the_disks_errors_are_told_from_others(store):
    def while_writing(error):
        with store.writing(KEY):
            raise error

    full = OSError(errno.ENOSPC, "No space left on device", "/else/where")
    with pytest.raises(StoreError, match=r"\(No space left on device: /else/where\)\. Check"):
        while_writing(full)
    rust = RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(StoreError, match=r"\(No space left on device\)\. Check") as caught:
        while_writing(rust)
    assert caught.value.__cause__ is rust
    for other in (
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        RuntimeError("connect: Connection refused (os error 111)"),
        DataError("kb.parquet: Permission denied (os error 13)"),
    ):
        with pytest.raises(type(other)) as caught:
            while_writing(other)
        assert caught.value is other


HOLDING = """
    with Store(Path(".")).writer():
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(store):
    """Another process that holds the store's lock."""
    start = "import sys\nfrom monoglot.store import *\n"
    with subprocess.Popen(
        [sys.executable, "-c", start + textwrap.dedent(HOLDING)],
        cwd=store.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_with_the_holders_name(store, holder):
    unfinished = store.root / "tmp/write-unfinished"
    unfinished.mkdir()
    said = rf"\(process {holder.pid} on {socket.gethostname()} since \d{{4}}-.* UTC\)\. Wait for it"
    for _ in range(2):
        with pytest.raises(StoreBusyError, match=said), store.writer():
            pytest.fail("two writers at once")
    assert unfinished.exists()  # it may be the holder's
    assert Store.existing(str(store.root)).find(KEY) is None  # reading needs no lock


def test_a_killed_holder_blocks_nobody(store, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with store.writer():
        text = (store.root / "lock").read_text(encoding="utf-8")
        assert text.startswith(f"process {os.getpid()} on ")
        assert str(holder.pid) not in text.split(" since ")[0]


def test_the_lock_is_free_after_its_block(store):
    def stop_inside():
        with store.writer():
            with pytest.raises(StoreBusyError, match=f"process {os.getpid()} on"), store.writer():
                pytest.fail("two writers at once")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        stop_inside()
    with store.writer():
        pass


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "pointer.json"
    write_atomically(path, "old")
    write_atomically(path, "né")
    assert path.read_bytes() == "né".encode()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "newer")
    assert path.read_bytes() == "né".encode()
    assert everything(tmp_path) == ["pointer.json"]
    with pytest.raises(OSError, match="No space left"):
        sync_folder(tmp_path)


def test_the_stores_places_are_its_own(store):
    places = [Path(store.index_uri), store.ledger_path, store.releases, store.runs]
    assert [place.relative_to(store.root).name for place in places] == [
        "index",
        "ledger.sqlite",
        "releases",
        "runs",
    ]
