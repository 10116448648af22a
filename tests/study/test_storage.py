"""Storage: what is written whole, how a record is put together from its parts, which URIs are
refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from buckets import SECRET, bucket

from study.run import RAY_ENVIRONMENT, main
from study.settings import StudySettings, without_credentials
from study.storage import (
    Storage,
    newest_generation,
    part_name,
    stored_record,
)


@pytest.fixture(scope="module")
def s3():
    with bucket() as made:
        yield made


@pytest.fixture(params=["path", "file", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        s3.empty()
        return Storage(s3.uri, "flowers")
    uris = {"path": f"{tmp_path}/a place", "file": f"file://{tmp_path}/a%20place"}
    return Storage(uris[request.param], "flowers")


def test_files_are_read_as_they_were_written_and_listed_by_folder(storage):
    assert storage.read("lease.json") is None
    assert storage.names("record") == []
    storage.write("record/b", b"2")
    storage.write("record/a", b"1" * 70_000)
    storage.write("record/a", b"1")
    storage.write("checkpoints/7/3-0.pt", b"3")
    assert storage.names("record") == ["record/a", "record/b"]
    assert storage.names("checkpoints") == ["checkpoints/7/3-0.pt"]
    assert [storage.read(name) for name in storage.names("record")] == [b"1", b"2"]
    storage.remove("record/a")
    storage.remove("record/a")
    assert storage.names("record") == ["record/b"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    storage = Storage(str(tmp_path), "flowers")
    contents = [letter * 3_000_000 for letter in (b"a", b"b")]
    storage.write("best/model.pt", contents[0])
    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(
            lambda: [storage.write("best/model.pt", contents[turn % 2]) for turn in range(60)]
        )
        while not writing.done():
            assert storage.read("best/model.pt") in contents
    (tmp_path / "flowers" / "best" / "other.pt.tmp").write_bytes(b"of a driver that was killed")
    assert storage.names("best") == ["best/model.pt"]


LINES = [b'{"event": "%d"}\n' % number for number in range(6)]


def test_a_file_that_is_removed_while_it_is_read_is_one_that_is_not_there(storage):
    read = set()
    with ThreadPoolExecutor(1) as other:
        for _ in range(40):
            storage.write("lease.json", b"x")
            removed = other.submit(storage.remove, "lease.json")
            read.add(storage.read("lease.json"))
            removed.result()
    assert read <= {b"x", None}


def write_parts(storage, generation, *parts):
    offset = 0
    for part in parts:
        storage.write(part_name(generation, offset), part)
        offset += len(part)


def read(storage):
    return stored_record(storage, storage.names("record"))


def test_a_record_is_the_sum_of_its_parts(storage):
    assert read(storage) == b""
    write_parts(storage, 1, LINES[0] + LINES[1], LINES[2], LINES[3])
    assert read(storage) == b"".join(LINES[:4])


def test_of_a_torn_part_the_complete_lines_count_and_what_follows_it_does_not(storage):
    write_parts(storage, 1, LINES[0], LINES[1] + LINES[2])
    torn = LINES[1] + LINES[2][:5]
    storage.write(part_name(1, len(LINES[0])), torn)
    assert read(storage) == LINES[0] + LINES[1]
    storage.write(part_name(1, len(LINES[0] + LINES[1] + LINES[2])), LINES[3])
    assert read(storage) == LINES[0] + LINES[1]


def test_what_comes_after_a_missing_part_is_left_out(storage):
    write_parts(storage, 1, LINES[0], LINES[1], LINES[2])
    storage.remove(part_name(1, len(LINES[0])))
    assert read(storage) == LINES[0]
    storage.remove(part_name(1, 0))
    assert read(storage) == b""


def test_the_newest_generation_counts_and_an_older_one_only_where_that_has_nothing(storage):
    write_parts(storage, 9, LINES[0], LINES[1])
    write_parts(storage, 10, LINES[0], LINES[2])
    # What a driver writes that does not know yet that it has lost its lease.
    storage.write(part_name(9, 2 * len(LINES[0])), LINES[3])
    assert newest_generation(storage.names("record")) == 10
    assert read(storage) == LINES[0] + LINES[2]
    storage.write(part_name(11, 0), LINES[0][:4])
    assert read(storage) == LINES[0] + LINES[2]


REFUSED = {
    "shared": "URI has empty scheme",
    "./shared/place": "URI has empty scheme",
    "file:shared": "cannot be relative",
    "file://elsewhere/shared": "hostname",
    "nowhere://bucket/place": "Unrecognized filesystem type",
    "s3://": "an absolute path, or a URI",
    "/": "an absolute path, or a URI",
    "s3:///place": "bucket",
    f"s3://key:{SECRET}@bucket /place": "syntax error",
    f"s3://key:{SECRET}@bucket/place?color=red": "query parameter",
    f"s3://key:{SECRET}@bucket/place?scheme=http&endpoint_override=127.0.0.1%3A1": "storage that",
    "gs://anonymous@bucket/place?scheme=http&endpoint_override=127.0.0.1%3A1"
    "&retry_limit_seconds=1": "storage that",
    "/proc/no/such": "storage that can be used",
    "a-file": "an absolute path",
}


@pytest.mark.parametrize(("uri", "reason"), REFUSED.items(), ids=list(REFUSED))
def test_storage_that_cannot_be_used_is_one_line_and_status_2_and_makes_nothing(
    tmp_path, monkeypatch, capsys, uri, reason
):
    for name, value in RAY_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert main(["--dataset", "digits", "--no-dashboard", "--storage", uri]) == 2
    shown, line = capsys.readouterr()
    assert line.startswith("resnet-study: --storage: invalid value ")
    assert reason in line and line.count("\n") == 1
    assert SECRET not in shown + line
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_refused(s3, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri = s3.uri.replace("studies", "nothing")
    assert main(["--dataset", "digits", "--no-dashboard", "--storage", uri]) == 2
    assert "The specified bucket does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_study_whose_name_is_not_known_yet_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--storage", str(tmp_path / "shared")]) == 2
    assert "--storage: expected --name or --dataset beside it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SHOWN = {
    "/shared/a place": "/shared/a place",
    "s3://bucket/p@x": "s3://bucket/p@x",
    "s3://key:secret@bucket/place": "s3://bucket/place",
    "s3://key:se/cr@et@bucket/place": "s3://bucket/place",
    "gs://anonymous@bucket/place": "gs://bucket/place",
    "abfs://bucket:secret@account.dfs/place?sas_token=secret": "abfs://account.dfs/place",
    "s3://k:s@b/p?region=eu&x=secret&endpoint_override=h%3A1": "s3://b/p?region=eu&"
    "endpoint_override=h%3A1",
}


@pytest.mark.parametrize(("uri", "shown"), SHOWN.items(), ids=list(SHOWN))
def test_credentials_are_neither_shown_nor_recorded(uri, shown):
    assert without_credentials(uri) == shown
    assert StudySettings(storage=uri).to_dict()["storage"] == shown


def test_the_command_that_is_recorded_has_no_credentials(monkeypatch):
    from study.provenance import command

    for words in (["--storage", "s3://k:secret@b/p"], ["--storage=s3://k:secret@b/p"]):
        monkeypatch.setattr("sys.argv", ["resnet-study", *words, "--name", "flowers"])
        assert "secret" not in command()
        assert "s3://b/p" in command() and "--name flowers" in command()
