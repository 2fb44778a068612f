"""A photo service on the web, asked with patience: busy servers waited for, secrets kept, failures one line."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from zoomloc.errors import ZoomlocError

ATTEMPTS = 6
SLOW_ATTEMPTS = 2  # where no answer comes in time: what is asked for may be too much
BACKOFF_S = 2.0  # after the first attempt, doubled each time
LONGEST_WAIT_S = 60.0  # whatever Retry-After says; limits are counted by the minute
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=None)
TRY_AGAIN = (408, 429, 500, 502, 503, 504)

GO_ON = "run the same command again later: it goes on where it stopped"

T = TypeVar("T")


class DownloadError(ZoomlocError):
    """A photo service that cannot be reached, refuses, or answers otherwise than its documentation says."""


class RequestError(DownloadError):
    """Only this request fails; others may well be answered."""


class Busy(RequestError):
    """The service fails, or asks to be asked again later."""


class TooSlow(RequestError):
    """No answer in time."""


class NoImage(RequestError):
    """A URL that holds no image, or no longer: signed ones expire."""


class Service:
    """A service by its name.

    token: what lets us in, "" where none is needed. Sent to the API, in a header, and nowhere else: images come from
    other servers.
    """

    def __init__(self, name: str, *, token: str = "") -> None:
        self.name = name
        self._token = token
        who = {"User-Agent": "zoomloc"}
        secret = {"Authorization": f"OAuth {token}"} if token else {}
        self._api = httpx.Client(headers=who | secret, timeout=TIMEOUT)
        self._web = httpx.Client(headers=who, timeout=TIMEOUT, follow_redirects=True)

    def ask(
        self, url: str, params: dict[str, str | int | float], check: Callable[[int, Any], None]
    ) -> dict[str, Any]:
        """The JSON object that the API answers with.

        check: is given the status and the object ({} where there is none) and raises what this service means by
        them; Busy makes for another attempt. Raises what check raises, RequestError, or DownloadError where nobody is
        reached.
        """

        def read(response: httpx.Response) -> dict[str, Any]:
            answer = _json_object(response)
            check(response.status_code, answer or {})
            self._check_busy(response)
            if response.status_code != 200:
                raise RequestError(f"{self.name} answers with HTTP {response.status_code}")
            if answer is None:
                raise Busy(f"{self.name} answers with something that is no JSON object")
            return answer

        return self._patiently(lambda: self._api.get(url, params=params), read)

    def image(self, url: str) -> bytes:
        """What an image's URL holds. Raises NoImage, Busy, TooSlow, or DownloadError where nobody is reached."""

        def read(response: httpx.Response) -> bytes:
            self._check_busy(response)
            if response.status_code != 200:
                raise NoImage(f"no image at its URL (HTTP {response.status_code})")
            return response.content

        try:
            return self._patiently(lambda: self._web.get(url), read)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoImage(f"the URL of the image is of no use ({type(error).__name__})") from None

    def quote(self, text: object) -> str:
        """What the service says, for a message: one line, and without our token."""
        line = " ".join(str(text).split())
        return (line.replace(self._token, "***") if self._token else line)[:200]

    def _check_busy(self, response: httpx.Response) -> None:
        if response.status_code in TRY_AGAIN:
            problem = "asks for fewer requests" if response.status_code == 429 else "fails"
            raise Busy(f"{self.name} {problem} (HTTP {response.status_code})")

    def _patiently(self, send: Callable[[], httpx.Response], read: Callable[[httpx.Response], T]) -> T:
        """What `read` makes of the answer to `send`, after as many attempts as it takes and patience allows."""
        problem: DownloadError
        slow = 0
        for attempt in range(ATTEMPTS):
            wait_s = BACKOFF_S * 2**attempt
            try:
                response = send()
                try:
                    return read(response)
                except Busy as error:
                    problem = error
                    wait_s = min(_retry_after_s(response, wait_s), LONGEST_WAIT_S)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                reason = " ".join(str(error).split()) or "no answer"
                problem = DownloadError(f"{self.name} cannot be reached ({reason}); {GO_ON}")
            except httpx.TimeoutException:
                slow += 1
                problem = TooSlow(f"{self.name} did not answer in time")
                if slow == SLOW_ATTEMPTS:
                    break
            except (httpx.NetworkError, httpx.ProtocolError):
                problem = Busy(f"{self.name} broke off in the middle of an answer")
            if attempt + 1 < ATTEMPTS:
                time.sleep(wait_s)
        raise problem


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:  # also where the bytes are no text
        return None
    return answer if isinstance(answer, dict) else None


def _retry_after_s(response: httpx.Response, otherwise: float) -> float:
    """What the header of that name asks for, which is seconds or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return otherwise
