"""A small blocking client with which tools ask a daemon: one question, one answer, no event loop."""

import os
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import rayd
from rayd.shell.dial import Target, UnreachableError, dial
from rayd.wire import frame, messages


class ControlError(RuntimeError):
    """The daemon could not be reached or refused; the text says why.

    Attributes:
        code: the fault's code (see ``rayd.errors``), empty when no daemon answered.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class Control:
    """A connection to a daemon; a context manager.

    Args:
        target: where it serves; a text is the path of its Unix socket, as in its record.
        timeout_s: how long each answer may take, in seconds (default 10).

    Raises:
        ControlError: nobody serves there, or it refuses this client.
    """

    def __init__(self, target: Target | str, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._requests = 0
        self._framer = frame.Framer()
        self._received: Iterator[list[Any]] = iter(())
        try:
            self._socket = dial(Target(target) if isinstance(target, str) else target)
        except UnreachableError as error:
            raise ControlError(str(error)) from None
        self._socket.settimeout(timeout_s)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def rpc(self, method: str, **params: Any) -> Any:
        """Ask for something.

        Args:
            method: what is asked for, such as "status".
            params: its parameters.

        Raises:
            ControlError: the daemon refused, with its reason, or did not answer.
        """
        self._requests += 1
        self._send([messages.RPC, self._requests, method, params])
        while True:
            message = self._next()
            if message[0] == messages.REPLY and message[1] == self._requests:
                _, _, ok, value = message
                if not ok:
                    raise ControlError(value["message"], value["code"])
                return value

    def close(self) -> None:
        """End the connection; more than once is fine."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        info = {"pid": os.getpid(), "python": python, "version": rayd.__version__}
        self._send([messages.HELLO, messages.PROTOCOL_VERSION, "cli", info])
        answer = self._next()
        if answer[0] == messages.REFUSED:
            raise ControlError(answer[1]["message"], answer[1]["code"])
        if answer[0] != messages.WELCOME:
            raise ControlError(f"the daemon answered {messages.NAMES[answer[0]]} to a greeting; its version differs")

    def _send(self, message: messages.Message) -> None:
        try:
            self._socket.sendall(frame.encode(message))
        except OSError as error:
            raise ControlError(f"the daemon closed the connection ({error.strerror})") from None

    def _next(self) -> list[Any]:
        """The next message of the daemon."""
        while True:
            try:
                message = next(self._received, None)
                if message is not None:
                    return message
                data = self._socket.recv(65536)
            except TimeoutError:
                raise ControlError(f"the daemon did not answer within {self._timeout_s:g} s") from None
            except OSError as error:
                raise ControlError(f"the daemon closed the connection ({error.strerror})") from None
            except frame.ProtocolError as error:
                raise ControlError(f"the daemon sent something else than messages: {error}") from None
            if not data:
                raise ControlError("the daemon closed the connection without an answer")
            self._received = self._framer.feed(data)
