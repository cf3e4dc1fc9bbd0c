"""The file that holds the cluster's token."""

import os
from pathlib import Path

import pytest

from rayd.shell.token_file import TokenFileError, load, replace, secret_of_cluster
from rayd.wire.secret import SUBMIT, key_of

SECRET = bytes(range(32))


def test_the_first_daemon_draws_the_secret_and_the_next_one_finds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "token")
    secret = secret_of_cluster(path)
    assert len(secret) == 32
    assert secret_of_cluster(path) == secret
    assert load(path) == key_of(secret)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "token"
    secret_of_cluster(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["token"]


def test_two_that_draw_at_once_agree(tmp_path: Path) -> None:
    path = str(tmp_path / "token")
    replace(path, SECRET, first=True)
    replace(path, bytes(32), first=True)
    assert load(path).value == SECRET


def test_a_new_secret_takes_the_place_of_the_former(tmp_path: Path) -> None:
    path = str(tmp_path / "token")
    replace(path, SECRET)
    replace(path, bytes(32))
    assert secret_of_cluster(path) == bytes(32)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    replace(str(path), SECRET)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match=f"chmod 600 {path}"):
        load(str(path))


def test_a_missing_token_is_told_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="copy the file"):
        load(str(tmp_path / "token"))


def test_what_is_no_token_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("my shopping list")
    with pytest.raises(TokenFileError, match="no token of rayd"):
        secret_of_cluster(str(path))
    assert path.read_text() == "my shopping list"


def test_no_daemon_runs_with_a_token_of_less_than_all_rights(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(key_of(SECRET, SUBMIT).token() + "\n")
    assert load(str(path)).scope == SUBMIT
    with pytest.raises(TokenFileError, match="'submit'"):
        secret_of_cluster(str(path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenFileError, match="cannot be written"):
        secret_of_cluster(f"{tmp_path}/file/token")


def test_a_token_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only the system administrator can give files away")
    path = tmp_path / "token"
    replace(str(path), SECRET)
    os.chown(path, 12345, 12345)
    with pytest.raises(TokenFileError, match="12345"):
        load(str(path))
