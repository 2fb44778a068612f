"""Who comes in, and with how much: key, size and time of uploads, requests and bytes at once; before any is read."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/healthz", "/readyz")  # asked by machines that have no key
LINGER_S = 2.0  # for a refused client to finish its upload, so that it reads why


@dataclass(frozen=True)
class Limits:
    """What the service takes on. upload_bytes: of one request, in upload_s seconds at most. photos: of one request.
    requests, memory_bytes: that are in work, and their uploads. waiting: photos in the queue. batch_size: images the
    model sees at once. answer_s: from a whole upload to its answer."""

    upload_bytes: int = 64 * 2**20
    upload_s: float = 60
    photos: int = 16
    requests: int = 128
    memory_bytes: int = 512 * 2**20
    waiting: int = 256
    batch_size: int = 8
    answer_s: float = 120


class Gate:
    """Lets requests with the key in, and of uploads no more than the limits allow; others get 401, 413 or 429."""

    def __init__(self, app: ASGIApp, limits: Limits, api_key: str | None) -> None:
        self._app, self._limits = app, limits
        self._key = None if api_key is None else api_key.encode()
        self._requests = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._key is not None and not _has_key(headers, self._key):
            await _refuse(scope, receive, send, 401, "give the service's key", {"WWW-Authenticate": "Bearer"})
        elif scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
        else:
            await self._upload(scope, receive, send, _length(headers))

    async def _upload(self, scope: Scope, receive: Receive, send: Send, length: int | None) -> None:
        limits = self._limits
        size = (
            limits.upload_bytes if length is None else length
        )  # an unknown length may be any that is allowed
        if size > limits.upload_bytes:
            await _refuse(scope, receive, send, 413, _too_large(limits), {"Connection": "close"})
            return
        if self._requests >= limits.requests or self._bytes + size > limits.memory_bytes:
            await _refuse(scope, receive, send, 429, "too many requests at once", {"Retry-After": "1"})
            return
        self._requests += 1
        self._bytes += size
        try:
            await self._app(scope, _limited(receive, limits), send)
        finally:
            self._requests -= 1
            self._bytes -= size


def _limited(receive: Receive, limits: Limits) -> Receive:
    """A body that ends with an HTTPException, 413 or 408, where it grows too large or comes too slowly."""
    deadline = asyncio.get_running_loop().time() + limits.upload_s
    n_bytes, whole = 0, False

    async def limited() -> Message:
        nonlocal n_bytes, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the upload took more than {limits.upload_s:g} s") from None
        n_bytes += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if n_bytes > limits.upload_bytes:
            raise HTTPException(413, _too_large(limits))
        return message

    return limited


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Mapping[str, str]
) -> None:
    """Answer without the application; what a client is still sending is thrown away for a while."""
    try:
        async with asyncio.timeout(LINGER_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass
    await JSONResponse({"detail": detail}, status, headers)(scope, receive, send)


def _has_key(headers: Mapping[bytes, bytes], key: bytes) -> bool:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), key)


def _length(headers: Mapping[bytes, bytes]) -> int | None:
    """None where it is unknown, or nonsense, which the server refuses by itself."""
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else None


def _too_large(limits: Limits) -> str:
    return f"an upload may have {limits.upload_bytes:,} bytes; send fewer photos at once, or smaller ones"
