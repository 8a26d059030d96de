"""The little of RFC 6455 that listening to ComfyUI takes: a client that connects and reads messages."""

from __future__ import annotations

import base64
import hashlib
import os
import socket

_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class WebSocket:
    """A connection to ``host:port/path``. ``timeout`` is the longest silence, in seconds, before ``TimeoutError``."""

    def __init__(self, host: str, port: int, path: str, timeout: float) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            "Host": f"{host}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
        request = (
            f"GET {path} HTTP/1.1\r\n"
            + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
            + "\r\n"
        )
        self._socket.sendall(request.encode())
        status = self._stream.readline()
        answer: dict[str, str] = {}
        while line := self._stream.readline().strip():
            name, _, value = line.decode().partition(":")
            answer[name.lower()] = value.strip()
        accept = base64.b64encode(hashlib.sha1((key + _ACCEPT_GUID).encode()).digest()).decode()
        if b" 101 " not in status or answer.get("sec-websocket-accept") != accept:
            self.close()
            raise ConnectionError(
                f"{host}:{port}{path} did not open a websocket: {status.decode(errors='replace').strip()}"
            )

    def receive(self) -> str | bytes:
        """The next message: text as str, binary as bytes. Raises ``ConnectionError`` when the other side has closed."""
        message, kind = b"", _TEXT
        while True:
            final, opcode, payload = self._frame()
            if opcode == _CLOSE:
                raise ConnectionError("the websocket was closed by the server")
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode != _PONG:
                kind = opcode or kind  # 0 continues the message before
                message += payload
                if final:
                    return message.decode() if kind == _TEXT else message

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        return bool(first & 0x80), first & 0x0F, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise ConnectionError("the websocket ended in the middle of a message")
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        # Only pongs are sent, and control frames have at most 125 bytes. Clients must mask; a zero mask leaves the payload as it is.
        self._socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)
