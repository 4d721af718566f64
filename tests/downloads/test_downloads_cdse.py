"""Step 6 against Copernicus Data Space: login, catalogue, redirects, and who gets to see the token."""

import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers import Fault, drive
from servers.cdse import CatalogueServer, FileServer, KeycloakServer
from servers.drive import NAME, OTHER

USER, PASSWORD = "someone@example.org", "correct-horse-battery"
CREDENTIALS = {"CDSE_USERNAME": USER, "CDSE_PASSWORD": PASSWORD}
ZIP = drive.zipped(NAME, drive.product_files())
REPROCESSED = NAME.replace("N0205", "N0500").replace("20170917T104018", "20231015T021407")


@dataclass
class Space:
    """The whole of it: catalogue and login on 127.0.0.1, the files behind a redirect on another host name."""

    keycloak: KeycloakServer
    catalogue: CatalogueServer
    files: FileServer

    def words(self, *names: str) -> list[str]:
        servers = ["--CDSE_TOKEN_URL", self.keycloak.token_url, "--CDSE_CATALOGUE_URL", self.catalogue.url]
        servers += ["--CDSE_DOWNLOAD_URL", self.catalogue.url, "--CDSE_HOSTS", "127.0.0.1", "127.0.0.2"]
        return ["--WHAT", "products", "--SOURCE", "cdse", *servers, "--PRODUCTS", *(names or (NAME,))]

    def add(self, name: str, content: bytes, **options: Any) -> None:
        self.files.zips[self.catalogue.add(name, content, **options)] = content

    def seen_anywhere(self, word: str) -> list[str]:
        """The paths of the requests to catalogue and files that carried a word in path or headers."""
        log = self.catalogue.log + self.files.log
        return [seen.path for seen in log if word in seen.path or any(word in v for v in seen.headers.values())]


@pytest.fixture
def space() -> Iterator[Space]:
    keycloak = KeycloakServer(USER, PASSWORD)
    files, catalogue = FileServer(keycloak, host="127.0.0.2"), CatalogueServer()
    catalogue.files_url = files.url
    with keycloak, files, catalogue:
        whole = Space(keycloak, catalogue, files)
        whole.add(NAME, ZIP)
        yield whole


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def download(data: Path, space: Space, *more: str, **variables: str) -> Any:
    """Run step 6, and look for secrets in everything it said and wrote."""
    result = drive.run(data, *space.words(), *more, variables=CREDENTIALS | variables)
    secrets = [PASSWORD, *space.keycloak.valid, *space.keycloak.refresh]
    texts = [result.stdout, result.stderr, *(" ".join(process) for process in [result.args])]
    texts += [content.decode("latin-1") for content in drive.on_disk(data).values()] if data.exists() else []
    texts += [seen.path for seen in space.catalogue.log + space.files.log + space.keycloak.log]
    assert not [secret for secret in secrets for text in texts if secret in text]
    return result


def zip_is_right(data: Path, content: bytes = ZIP) -> bool:
    folder = data / "products"
    return (folder / f"{NAME}.SAFE.zip").read_bytes() == content and not list(folder.glob(".*.partial*"))


def numbered(count: int) -> list[str]:
    """So many product names."""
    return [NAME.replace("20170917T104018", f"20170917T1050{i:02}") for i in range(count)]


def row(result: Any, name: str = NAME) -> str:
    return next(line for line in result.stdout.splitlines() if line.startswith(name))


# --- a good day -------------------------------------------------------------------------------------------------------


def test_a_product_comes_as_a_zip_through_the_redirect(data: Path, space: Space) -> None:
    result = download(data, space)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data)
    assert space.keycloak.grants == ["password"]
    assert "Authorization" in space.files.log[-1].headers
    again = download(data, space)
    assert again.returncode == 0 and " there " in row(again) and len(space.files.log) == 1


def test_a_product_that_is_there_from_another_source_is_not_fetched(data: Path, space: Space) -> None:
    folder = data / "products" / f"{NAME}.SAFE"
    for name, content in drive.product_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    result = download(data, space)
    assert result.returncode == 0 and space.keycloak.log == []


def test_many_names_are_looked_up_in_bulk_and_four_come_at_once(data: Path, space: Space) -> None:
    names = numbered(24)
    for name in names[:-1]:
        space.add(name, drive.zipped(name, drive.product_files(name, 2000)))
    space.files.delay = 0.02
    result = drive.run(data, *space.words(*names), "--CONNECTIONS", "8", variables=CREDENTIALS)
    assert result.returncode == 1 and "1 of 24 are not there" in result.stderr
    assert len(space.catalogue.asked("FilterList", "POST")) == 2
    assert space.files.most_busy == 4 and space.keycloak.grants == ["password"]


def test_credentials_from_netrc(data: Path, space: Space, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    result = drive.run(data, *space.words())
    assert result.returncode == 0, result.stdout + result.stderr
    bearers = [seen.headers.get("Authorization", "") for seen in space.catalogue.log + space.files.log]
    assert not any(header.startswith("Basic") for header in bearers)  # requests would have sent it by itself


def test_a_one_time_code_is_sent_once_and_its_end_is_told(data: Path, space: Space) -> None:
    space.keycloak.totp = "123456"
    assert download(data, space, CDSE_TOTP="123456").returncode == 0
    assert zip_is_right(data)
    shutil.rmtree(data)
    result = download(data, space, CDSE_TOTP="123456")
    assert result.returncode == 1 and "the code in CDSE_TOTP holds for one login" in result.stderr


# --- login ------------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_before_anything_else(data: Path, space: Space) -> None:
    result = download(data, space, CDSE_PASSWORD="wrong-password-xyz")
    assert result.returncode == 1 and "login refused" in result.stderr and "CDSE_PASSWORD" in result.stderr
    assert "wrong-password-xyz" not in result.stdout + result.stderr  # the server says it back
    assert len(space.keycloak.log) == 1 and space.catalogue.log == []


def test_no_credentials_are_told(data: Path, space: Space) -> None:
    result = drive.run(data, *space.words())
    assert result.returncode == 1 and "set CDSE_USERNAME and CDSE_PASSWORD" in result.stderr


@pytest.mark.parametrize("whole_session", [False, True])
def test_a_token_that_ends_under_way_is_renewed(whole_session: bool, data: Path, space: Space) -> None:
    answer, first = space.files.answer, [True]

    def expiring(seen: Any) -> Any:
        if "Range" in seen.headers and first:
            first.clear()
            space.keycloak.expire_session() if whole_session else space.keycloak.expire()
        return answer(seen)

    space.files.answer = expiring  # type: ignore[method-assign]
    space.files.faults = [Fault("value", cut_after=200_000)]
    result = download(data, space)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data)
    assert space.keycloak.grants == ["password", "password" if whole_session else "refresh_token"]
    assert [seen.status for seen in space.files.log] == [200, 401, 206]


def test_a_token_is_renewed_before_it_ends(data: Path, space: Space) -> None:
    space.keycloak.lifetime = 31  # counts as used up after a second
    space.files.faults = [Fault("value", 1, status=503, headers={"Retry-After": "1"})]
    assert download(data, space).returncode == 0
    assert space.keycloak.grants[:2] == ["password", "refresh_token"]
    assert [seen.status for seen in space.files.log] == [503, 200]


def test_a_token_that_is_never_good_is_given_up(data: Path, space: Space) -> None:
    space.files.faults = [Fault("value", -1, status=401, body=b'{"detail": "Expired signature!"}')]
    result = download(data, space)
    assert result.returncode == 1 and "Expired signature!; it refuses the credentials" in row(result)
    assert len(space.files.log) == 3


# --- who sees the token -----------------------------------------------------------------------------------------------


def test_the_token_goes_to_no_host_that_is_not_on_the_list(data: Path, space: Space) -> None:
    words = [word for word in space.words() if word != "127.0.0.2"]
    refused = drive.run(data, *words, variables=CREDENTIALS)
    assert refused.returncode == 1
    assert space.files.log and not any("Authorization" in seen.headers for seen in space.files.log)
    assert any("Authorization" in seen.headers for seen in space.catalogue.log)
    space.files.open_to_all = True  # a signed link, say: it works without
    assert drive.run(data, *words, variables=CREDENTIALS).returncode == 0
    assert zip_is_right(data)
    assert not any("Authorization" in seen.headers for seen in space.files.log)


def test_a_redirect_to_a_look_alike_gets_nothing(data: Path, space: Space) -> None:
    lure = f"http://127.0.0.2.evil.example:{space.files.port}/x"
    space.catalogue.faults = [Fault("value", -1, status=302, headers={"Location": lure})]
    result = download(data, space)
    assert result.returncode == 1 and "only https is used" in row(result)


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_a_deleted_product_is_told_and_its_newest_baseline_only_taken_when_asked(data: Path, space: Space) -> None:
    space.catalogue.entries.clear()
    space.catalogue.deleted.append(
        {"Name": f"{NAME}.SAFE", "DeletionDate": "2024-05-06T07:08:09Z", "DeletionCause": "Obsolete product"}
    )
    older = REPROCESSED.replace("N0500", "N0209")
    space.add(older, drive.zipped(older, drive.product_files(older, 900)))
    space.add(REPROCESSED.replace("R008", "R051"), b"another orbit")
    space.add(REPROCESSED.replace("T31TFH", "T31TGH"), b"another tile")
    newest = drive.zipped(REPROCESSED, drive.product_files(REPROCESSED, 900))
    space.add(REPROCESSED, newest)
    plain = download(data, space)
    assert plain.returncode == 1
    assert " deleted " in row(plain) and "deleted there on 2024-05-06 (Obsolete product)" in row(plain)
    assert "ALLOW_REPROCESSED" in row(plain) and drive.visible(data / "products") == []
    taken = download(data, space, "--ALLOW_REPROCESSED")
    assert taken.returncode == 0, taken.stdout
    assert " reprocessed " in row(taken) and f"as {REPROCESSED}" in row(taken)
    assert zip_is_right(data, newest)
    record = (data / "products" / f"{NAME}.SAFE.zip.json").read_text()
    assert f'"delivered": "{REPROCESSED}"' in record and '"reprocessed": true' in record
    again = download(data, space, "--ALLOW_REPROCESSED")
    assert again.returncode == 0 and "reprocessed, as" in row(again)
    strict = download(data, space)
    assert strict.returncode == 1 and "remove it, or set ALLOW_REPROCESSED" in row(strict)


def test_a_product_never_heard_of_is_missing(data: Path, space: Space) -> None:
    result = drive.run(data, *space.words(OTHER), "--ALLOW_REPROCESSED", variables=CREDENTIALS)
    assert result.returncode == 1 and " missing " in row(result, OTHER) and "neither it nor" in row(result, OTHER)


def test_a_product_that_is_offline_is_told_as_such(data: Path, space: Space) -> None:
    space.catalogue.entries[0]["Online"] = False
    result = download(data, space)
    assert result.returncode == 1 and " offline " in row(result) and "order it" in row(result)
    space.add(NAME, ZIP, Online=True, PublicationDate="2016-01-01T00:00:00Z")  # the same name again, online
    assert download(data, space).returncode == 0


def test_ids_that_are_none_and_other_nonsense_are_not_used(data: Path, space: Space) -> None:
    names = numbered(6)
    for name, identity in zip(names, ["../../x", "1)/$value?", 7, None], strict=False):
        space.add(name, ZIP, Id=identity)
    space.add(names[4], ZIP, ContentLength="much")
    space.add(names[5], ZIP, Checksum=[5])
    result = drive.run(data, *space.words(*names), variables=CREDENTIALS)
    assert result.returncode == 1 and space.files.log == []
    assert all("no proper product id" in row(result, name) for name in names[:4])
    assert all("makes no sense" in row(result, name) for name in names[4:])


# --- files without a checksum, a length, or a Range -------------------------------------------------------------------


def bare(space: Space, content: bytes = ZIP) -> None:
    """The product without size and checksum in the catalogue."""
    space.catalogue.entries.clear()
    space.files.zips.clear()
    space.add(NAME, content, checksum=False, size=False)


@pytest.mark.parametrize("chunked", [False, True])
def test_without_size_and_checksum_the_zip_itself_is_tested(chunked: bool, data: Path, space: Space) -> None:
    bare(space)
    space.files.chunked = chunked
    space.files.faults = [Fault("value", flip=ZIP.index(drive.product_files()["MTD_MSIL1C.xml"]) + 3)]
    result = download(data, space)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data) and "damaged; starting over" in result.stderr


def test_without_a_checksum_a_cut_zip_is_still_continued(data: Path, space: Space) -> None:
    bare(space)
    space.files.faults = [Fault("value", cut_after=150_000)]
    assert download(data, space).returncode == 0
    assert zip_is_right(data) and space.files.log[-1].headers["Range"] == "bytes=150000-"


def test_without_anything_to_know_a_version_by_a_cut_file_is_begun_again(data: Path, space: Space) -> None:
    bare(space)
    space.files.chunked, space.files.faults = True, [Fault("value", cut_after=150_000)]
    assert download(data, space).returncode == 0
    assert zip_is_right(data) and "Range" not in space.files.log[-1].headers


def test_a_server_that_refuses_to_resume_is_asked_from_the_start(data: Path, space: Space) -> None:
    space.files.faults = [Fault("value", cut_after=150_000), Fault("value", range_status=400)]
    assert download(data, space).returncode == 0
    assert zip_is_right(data) and space.files.log[-1].sent == len(ZIP)


def test_a_wrong_checksum_leaves_nothing(data: Path, space: Space) -> None:
    space.files.faults = [Fault("value", -1, flip=1000)]
    result = download(data, space)
    assert result.returncode == 1 and "md5 is" in row(result) and "twice; nothing of it is kept" in row(result)
    assert len(space.files.log) == 2 and drive.on_disk(data / "products") == {}


def test_a_length_that_is_not_the_catalogues_leaves_nothing(data: Path, space: Space) -> None:
    bare(space)
    space.catalogue.entries[0]["ContentLength"] = len(ZIP) + 10
    result = download(data, space)
    assert result.returncode == 1 and "were promised, twice" in row(result)
    assert drive.on_disk(data / "products") == {}


@pytest.mark.parametrize(("wrong", "chunked"), [(10, False), (-200_000, False), (10, True), (-200_000, True)])
def test_a_right_checksum_counts_for_more_than_the_catalogues_length(
    wrong: int, chunked: bool, data: Path, space: Space
) -> None:
    space.catalogue.entries[0]["ContentLength"] = len(ZIP) + wrong
    space.files.chunked, space.files.faults = chunked, [Fault("value", cut_after=250_000)]
    assert download(data, space).returncode == 0
    assert zip_is_right(data) and [seen.status for seen in space.files.log] == [200, 200 if chunked else 206]


def evil_zip(kind: str) -> bytes:
    """A zip of the whole product that has something else in it as well."""
    import io

    out = io.BytesIO(ZIP)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as product:
        name = {"way out": f"{NAME}.SAFE/../../evil", "absolute": "/evil"}.get(kind, f"{NAME}.SAFE/extra")
        member = zipfile.ZipInfo(name, (2018, 1, 1, 0, 0, 0))
        if kind == "symlink":
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
        if kind == "other product":
            member.filename = f"{OTHER}.SAFE/MTD_MSIL1C.xml"
        product.writestr(member, "/etc/passwd")
    return out.getvalue()


EVIL = {
    "way out": "could leave its folder",
    "absolute": "could leave its folder",
    "symlink": "is a link",
    "other product": f"holds {NAME}.SAFE, {OTHER}.SAFE and not",
}


def test_zips_that_mean_harm_or_are_another_product_are_refused(data: Path, space: Space) -> None:
    names = numbered(len(EVIL) + 3)
    contents = [evil_zip(kind).replace(NAME.encode(), name.encode()) for kind, name in zip(EVIL, names, strict=False)]
    contents.append(ZIP)  # a product under the name of another one
    without = {path: content for path, content in drive.product_files().items() if "_B10" not in path}
    contents.append(drive.zipped(names[-2], without))
    broken = bytearray(drive.zipped(names[-1], drive.product_files()))
    broken[broken.index(b"<product>") + 3] ^= 1  # damaged where it comes from: its checksum there is right
    contents.append(bytes(broken))
    for name, content in zip(names, contents, strict=True):
        space.add(name, content)
    result = drive.run(data, *space.words(*names), variables=CREDENTIALS)
    assert result.returncode == 1
    for name, said in zip(names, [*EVIL.values(), "and not", "the zip lacks B10", "ask the source"], strict=True):
        assert said.replace(NAME, name) in row(result, name), row(result, name)
    assert drive.on_disk(data / "products") == {}
    assert len(space.files.log) == len(names)  # none of them twice


# --- quotas -----------------------------------------------------------------------------------------------------------


QUOTAS = {
    "quota exceeded": Fault("", -1, status=403, body=b'{"detail": "Monthly download quota exceeded"}'),
    "Max session number exceeded .tried 5 times": Fault(
        "", -1, status=429, body=b'{"code": "DAT-ZIP-100", "message": "Max session number exceeded"}'
    ),
    "it asks to wait 3600 s": Fault("", -1, status=429, headers={"Retry-After": "3600"}),
}


def test_quotas_are_told_as_such(data: Path, space: Space) -> None:
    names = numbered(len(QUOTAS))
    for name, fault in zip(names, QUOTAS.values(), strict=True):
        identity = space.catalogue.add(name, ZIP)
        space.files.faults.append(Fault(**vars(fault) | {"match": identity}))
    result = drive.run(data, *space.words(*names), variables=CREDENTIALS)
    assert result.returncode == 1 and drive.visible(data / "products") == []
    for name, said in zip(names, QUOTAS, strict=True):
        assert " quota " in row(result, name) and re.search(said, row(result, name)), row(result, name)


def test_too_many_sessions_pass_after_a_while(data: Path, space: Space) -> None:
    space.files.faults = [Fault("value", status=429, headers={"Retry-After": "1"})]
    assert download(data, space).returncode == 0 and zip_is_right(data)
