"""`mer fetch ravdess` from a server of the test's own, with archives of tiny files."""

import errno
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

import pytest

from mer_pnao.commands import ravdess_archives
from mer_pnao.params.profile import load_params

ROOT = Path(__file__).parents[2]
RECORD = "/api/records/1188976"
CORPUS, ARCHIVES = Path("data/ravdess_videos/corpus"), Path("data/ravdess_videos/corpus_archives")
Mer = Callable[..., tuple[int, str, str]]


def clips(actor: int) -> dict[str, bytes]:
    """By their path in the archive: 60 takes, each with sound and without."""
    fields = product(("01", "02"), range(1, 9), (1, 2), (1, 2), (1, 2))  # neutral has one intensity alone
    names = (
        "-".join((kind, "01", *(f"{n:02}" for n in (*take, actor)))) for kind, *take in fields if take[:2] != [1, 2]
    )
    return {f"Actor_{actor:02}/{name}.mp4": b"clip" for name in names}


def zipped(members: Mapping[str | zipfile.ZipInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


class Server(ThreadingHTTPServer):
    """Zenodo's record and files, with what can go wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {f"Video_Speech_Actor_{actor:02}.zip": zipped(clips(actor)) for actor in range(1, 25)}
        self.asked: list[tuple[str, str | None]] = []  # file and range
        self.cut: int | None = None  # bytes of a body after which the connection ends
        self.ranges, self.status = True, 200
        self.record = {"files": [self.entry(name, content) for name, content in self.files.items()]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entry(self, name: str, content: bytes) -> dict[str, object]:
        link = {"self": f"{self.url}{RECORD}/files/{name}/content"}
        sum_ = f"md5:{hashlib.md5(content).hexdigest()}"
        return {"id": "1b", "key": name, "size": len(content), "checksum": sum_, "links": link}

    def put(self, content: bytes, name: str = "Video_Speech_Actor_01.zip") -> None:
        """Another file of this name, in the record, too."""
        self.files[name] = content
        self.record = {"files": [self.entry(*file) for file in self.files.items()]}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        state, wanted = self.server, self.headers["Range"]
        if self.path == RECORD:
            name, body, wanted = RECORD, json.dumps(state.record).encode(), None
        else:
            name = self.path.split("/")[-2]
            body = state.files[name]
        state.asked.append((name, wanted))
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.ranges else 0
        status = 416 if first >= len(body) else 206 if first else 200
        self.send_response(status if state.status == 200 else state.status)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        end = None if state.cut is None or name == RECORD else first + state.cut
        self.wfile.write(body[first:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """In an empty project."""
    monkeypatch.chdir(tmp_path)
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(ravdess_archives, "RECORD", server.url + RECORD)
        monkeypatch.setattr(ravdess_archives, "_CHUNK", 1024)
        yield server
        server.shutdown()
        thread.join()


def files_of(server: Server) -> list[tuple[str, str | None]]:
    return [asked for asked in server.asked if asked[0] != RECORD]


def unpacked(place: Path = CORPUS) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def refused(said: tuple[int, str, str]) -> str:
    """The one sentence."""
    assert said[0] == 2
    assert said[2].startswith("error: ")
    assert said[2].count("\n") == 1
    return said[2][len("error: ") : -1]


def test_the_chosen_actors_are_there_and_a_second_call_asks_nothing(server: Server, mer: Mer) -> None:
    code, out, err = mer("fetch", "ravdess", "--actors", "3,1-2", "--yes")
    assert (code, err) == (0, "")
    assert out.startswith(
        "RAVDESS, speech videos: 3 of 3 actors, 0.0 GB, into data/ravdess_videos/corpus.\nLicence: CC BY-NC-SA"
    )
    assert out.endswith("3 actor(s) are there: data/ravdess_videos/corpus\nNext: make run PROFILE=ravdess_videos\n")
    assert unpacked() == {name for actor in (1, 2, 3) for name in clips(actor)}
    assert not ARCHIVES.exists()
    assert [name for name, _ in server.asked] == [RECORD, *(f"Video_Speech_Actor_0{actor}.zip" for actor in (1, 2, 3))]
    server.asked.clear()
    assert mer("fetch", "ravdess", "--actors", "1-3")[0] == 0
    assert server.asked == []
    assert "1 of 2 actors" in mer("fetch", "ravdess", "--actors", "3-4", "--yes")[1]
    assert files_of(server) == [("Video_Speech_Actor_04.zip", "bytes=0-")]


def test_an_actor_of_whom_clips_are_missing_is_completed(server: Server, mer: Mer) -> None:
    mer("fetch", "ravdess", "--actors", "1-2", "--yes")
    (CORPUS / "Actor_02/01-01-01-01-02-01-02.mp4").unlink()
    server.asked.clear()
    assert "1 of 2 actors" in mer("fetch", "ravdess", "--actors", "1-2", "--yes")[1]
    assert unpacked() == {name for actor in (1, 2) for name in clips(actor)}
    assert len(files_of(server)) == 1


def test_kept_archives_lie_beside_the_folder_and_serve_again(server: Server, mer: Mer) -> None:
    assert "DATA=mine\n" in mer("fetch", "ravdess", "--actors", "5", "--to", "mine", "--keep", "--yes")[1]
    kept = Path("mine_archives/Video_Speech_Actor_05.zip")
    assert kept.read_bytes() == server.files[kept.name]
    assert unpacked(Path("mine")) == clips(5).keys()
    shutil.rmtree("mine")
    server.asked.clear()
    assert mer("fetch", "ravdess", "--actors", "5-6", "--to", "mine", "--yes")[0] == 0
    assert [name for name, _ in files_of(server)] == ["Video_Speech_Actor_06.zip"]
    assert not kept.parent.exists()


def test_nothing_is_downloaded_without_consent(server: Server, mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "give --yes" in refused(mer("fetch", "ravdess"))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    code, out, _ = mer("fetch", "ravdess")
    assert code == 2
    assert "24 of 24 actors" in out
    assert files_of(server) == []
    assert not Path("data").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert mer("fetch", "ravdess", "--actors", "7")[0] == 0
    assert unpacked() == clips(7).keys()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on_where_it_stopped(server: Server, mer: Mer, ranges: bool) -> None:
    name = "Video_Speech_Actor_01.zip"
    server.cut, server.ranges = 4096, ranges
    sentence = refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert re.fullmatch(r"the connection to 127\S+ was cut at \S+; the same command goes on from there", sentence)
    part = ARCHIVES / f"{name}.part"
    assert part.read_bytes() == server.files[name][:4096]
    assert not CORPUS.exists()
    server.cut = None
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0
    assert files_of(server) == [(name, "bytes=0-"), (name, "bytes=4096-")]
    assert unpacked() == clips(1).keys()
    assert not ARCHIVES.exists()


def test_a_part_that_is_whole_is_not_asked_for(server: Server, mer: Mer) -> None:
    ARCHIVES.mkdir(parents=True)
    (ARCHIVES / "Video_Speech_Actor_01.zip.part").write_bytes(server.files["Video_Speech_Actor_01.zip"])
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0
    assert files_of(server) == []
    assert unpacked() == clips(1).keys()


def test_a_wrong_sum_is_one_sentence_and_leaves_nothing(server: Server, mer: Mer) -> None:
    name = "Video_Speech_Actor_01.zip"
    right = server.files[name]
    server.files[name] = right[:-1] + b"?"
    assert "with another MD5 than the record's" in refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert {path.name for path in ARCHIVES.iterdir()} <= {"lock"}
    assert not CORPUS.exists()
    server.files[name] = right
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0


@pytest.mark.parametrize("status", [404, 429, 500])
def test_an_error_of_the_server_is_one_sentence(server: Server, mer: Mer, status: int) -> None:
    server.status = status
    assert re.search(rf"refuses, {status} .*; try again later$", refused(mer("fetch", "ravdess", "--yes")))


def test_a_part_that_does_not_fit_the_file_is_given_up(server: Server, mer: Mer) -> None:
    ARCHIVES.mkdir(parents=True)
    name = "Video_Speech_Actor_01.zip"
    (ARCHIVES / f"{name}.part").write_bytes(server.files[name])
    server.record["files"][0]["size"] += 1  # type: ignore[operator]
    assert "416" in refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0


def test_a_server_that_is_not_there_is_one_sentence(server: Server, mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ravdess_archives, "RECORD", "http://127.0.0.1:9/record")  # discard's, where nothing listens
    assert re.match(r"127\.0\.0\.1:9 cannot be reached", refused(mer("fetch", "ravdess", "--yes")))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda record: record.clear(), "has another form than it had, files: Field required"),
        (lambda record: record["files"][3].pop("checksum"), r"files\.3\.checksum: Field required"),
        (lambda record: record["files"][3].update(checksum="sha1:" + 40 * "0"), r"files\.3\.checksum: "),
        (lambda record: record["files"][3].update(size="big"), r"files\.3\.size: "),
        (lambda record: record["files"][3].update(links={}), r"files\.3\.links\.self: Field required"),
        (lambda record: record["files"].pop(3), r"has no file Video_Speech_Actor_04\.zip any more"),
    ],
)
def test_a_record_of_another_form_is_one_sentence(server: Server, mer: Mer, change: Callable, sentence: str) -> None:
    change(server.record)
    assert re.search(sentence, refused(mer("fetch", "ravdess", "--yes")))
    assert files_of(server) == []


def test_too_little_room_is_said_before(server: Server, mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(server.files["Video_Speech_Actor_01.zip"])  # as each archive has
    usage = namedtuple("usage", "free")
    for keep, needed in (((), 4 * size), (("--keep",), 6 * size)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, needed=needed: usage(needed - 1))
        said = refused(mer("fetch", "ravdess", "--actors", "1-3", "--yes", *keep))
        assert said == "data/ravdess_videos/corpus needs 0.0 GB, and its disk has 0.0 GB free"
        assert files_of(server) == []
        monkeypatch.setattr(shutil, "disk_usage", lambda _, needed=needed: usage(needed))
        assert mer("fetch", "ravdess", "--actors", "1-3", "--yes", *keep)[0] == 0
        shutil.rmtree("data")
        server.asked.clear()


@pytest.mark.parametrize("where", ["download", "unpacking"])
def test_a_disk_that_fills_is_one_sentence(
    server: Server, mer: Mer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    real, end = Path.open, {"download": ".part", "unpacking": ".mp4"}[where]

    def opened(path: Path, *arguments: str) -> object:
        return Full() if path.suffix == end else real(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        said = refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert "Video_Speech_Actor_01.zip cannot be kept in" in said
    assert "No space left on device" in said
    assert not CORPUS.exists()
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0
    assert len(files_of(server)) == (2 if where == "download" else 1)
    assert unpacked() == clips(1).keys()


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("Actor_01/link.mp4")
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("../../outside.mp4", "must be a relative path without '..'"),
        ("/outside.mp4", "must be a relative path without '..'"),
        ("Actor_01/..\\outside.mp4", "must be a relative path without '..'"),
        (link(), "holds a link"),
    ],
)
def test_nothing_of_an_unsafe_archive_is_unpacked(
    server: Server, mer: Mer, tmp_path: Path, member: str | zipfile.ZipInfo, sentence: str
) -> None:
    server.put(zipped({**clips(1), member: b"../../outside"}))
    assert sentence in refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert not CORPUS.exists()
    assert not [*tmp_path.parent.rglob("outside.mp4")]


def test_only_videos_are_unpacked(server: Server, mer: Mer) -> None:
    others = {"Actor_01/": b"", "Actor_01/run.sh": b"", "__MACOSX/Actor_01/._01-01-01-01-01-01-01.mp4": b""}
    server.put(zipped({**others, **clips(1)}))
    assert mer("fetch", "ravdess", "--actors", "1", "--yes")[0] == 0
    assert unpacked() == clips(1).keys()


@pytest.mark.parametrize("content", [b"no archive", zipped({"readme.txt": b"none"})])
def test_an_archive_without_videos_is_one_sentence(server: Server, mer: Mer, content: bytes) -> None:
    server.put(content)
    said = refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert re.search(r"is no archive that can be unpacked|holds no \.mp4 file", said)
    assert not CORPUS.exists()


@pytest.mark.parametrize("actors", ["0", "25", "6-1", "1-25", "one", "", "1,,2", "1-2-3", "-1", "1;2"])
def test_an_unknown_actor_is_one_sentence(server: Server, mer: Mer, actors: str) -> None:
    said = refused(mer("fetch", "ravdess", f"--actors={actors}", "--yes"))
    assert said == f"--actors takes numbers and ranges from 1 to 24, such as 1,3,5-7, got {actors!r}"
    assert server.asked == []


def test_its_options_are_for_nothing_else(server: Server, mer: Mer) -> None:
    for options in (["--actors", "1"], ["--to", "x"], ["--keep"], ["--yes"]):
        assert "are for `mer fetch ravdess`" in refused(mer("fetch", "lab/voice@main", *options))


def test_another_process_at_work_is_one_sentence(server: Server, mer: Mer) -> None:
    ARCHIVES.mkdir(parents=True)
    with ravdess_archives.FileLock(ARCHIVES / "lock"):
        said = refused(mer("fetch", "ravdess", "--actors", "1", "--yes"))
    assert said.startswith("another `mer fetch` is downloading into ")


def test_the_profile_reads_what_is_fetched() -> None:
    params = load_params(ROOT / "profiles/ravdess_videos.yaml")
    assert (params.corpus.kind, Path(params.corpus.root)) == ("ravdess", ravdess_archives.PLACE)
