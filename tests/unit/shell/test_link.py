"""Connections between daemons: what becomes of those that nobody answers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rayd.shell import link, token_file
from rayd.shell.connection import Connection, Speaker
from rayd.shell.link import Link
from rayd.wire.messages import Message


class Told:
    """What the daemon would be told."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Speaker] = asyncio.get_running_loop().create_future()

    def introduced(self, connection: Connection, kind: str, info: dict[str, Any]) -> None:
        raise AssertionError("nobody connects")

    def linked(self, connection: Speaker, welcome: dict[str, Any]) -> None:
        raise AssertionError("nobody lets it in")

    def received(self, connection: Speaker, messages: list[Message]) -> None:
        raise AssertionError("nobody says anything")

    def closed(self, connection: Speaker) -> None:
        self.ended.set_result(connection)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    token_file.secret_of_cluster(str(path))
    monkeypatch.setenv("RAYD_TOKEN_FILE", str(path))


@pytest.mark.usefixtures("token")
async def test_who_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_S", 0.2)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        told = Told()
        mine = Link(told, -1, {}, unencrypted=False)
        await mine.connect(loop, f"{host}:{port}")
        await asyncio.wait_for(told.ended, 10)
    assert f"{host}:{port} has not let this node in" in mine.why


@pytest.mark.usefixtures("token")
async def test_who_is_not_there_is_told_at_once() -> None:
    told = Told()
    mine = Link(told, -1, {}, unencrypted=False)
    await mine.connect(asyncio.get_running_loop(), "127.0.0.1:1")
    await asyncio.wait_for(told.ended, 10)
    assert mine.why == "nobody listens at 127.0.0.1:1"
    assert mine.how == "nobody"
