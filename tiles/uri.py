"""Names of imagery: paths and URLs, the options after their `#`, and how to say them without their secrets."""

import logging
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from tiles.errors import TilesError

_REMOTE = re.compile(r"(wmts:)?[A-Za-z][A-Za-z0-9+.-]*://|/vsi")
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|/vsi\w+\?)[^\s'\"`<>]+")
_OPTIONS = re.compile(r"#([a-z_]+=.*)$")
_USER = re.compile(r"(?<=://)[^/?#]*@")
_PARAMETER = re.compile(r"(;\w+=)[^/;?#]*")  # of a path
_QUERY = re.compile(r"\?[^#]*")

# What a WMTS tile is named by; every other query parameter may be a key, a token or a signature.
_SAYABLE = {"service", "request", "version", "layer", "style", "format", "tilematrixset", "tilematrix"} | {
    "tilerow",
    "tilecol",
}


def is_remote(uri: str) -> bool:
    """True for a URL and for GDAL's virtual file systems, False for a path."""
    return _REMOTE.match(uri) is not None


def split_scheme(uri: str, schemes: Iterable[str]) -> tuple[str, str]:
    """One of some schemes and the URI that it wraps: "synthetic:city.tif" is ("synthetic", "city.tif"); "" for none."""
    scheme, colon, rest = uri.partition(":")
    return (scheme, rest) if colon and scheme in schemes else ("", uri)


def check_url(url: str) -> None:
    """Raises TilesError for a URL whose secrets could not be told from the text around it in a message."""
    if re.search(r"[\s'\"`<>]", url) and re.search("[?@]", url):
        raise TilesError(
            f"{_without_secrets(url)}: a URL holds no spaces and no quotes; write %20 for a space"
        )


def split_options(uri: str) -> tuple[str, dict[str, str]]:
    """A URI without its fragment, and the fragment `key=value&key=value` as options.

    A fragment is never sent to a server, so it cannot be taken for part of a signed URL.
    """
    match = _OPTIONS.search(uri)
    if match is None:
        return uri, {}
    pairs = [pair.partition("=") for pair in match[1].split("&")]
    return uri[: match.start()], {key: unquote(value) for key, _, value in pairs}


def check_options(location: str, options: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises TilesError where an option is not one of those known."""
    known = sorted(known)
    unknown = sorted(options.keys() - set(known))
    if unknown:
        way_out = f"it takes {', '.join(known)}" if known else "it takes none; remove what follows the #"
        raise TilesError(f"{redacted(location)}: unknown option {unknown[0]!r}; {way_out}")


def redacted(text: str) -> str:
    """A text whose URLs show neither user nor password, nor the values of a query that may be secret."""
    return _URL.sub(lambda match: _without_secrets(match[0]), text)


def _without_secrets(url: str) -> str:
    url = _PARAMETER.sub(r"\1…", _USER.sub("", url))
    return _QUERY.sub(lambda match: "?" + _sayable(match[0][1:]), url)


def _sayable(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join(
        key + equals + (value if key.lower() in _SAYABLE else "…" * bool(value))
        for key, equals, value in pairs
    )


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), None
        return True


_REDACT = _Redact()


def redact_logs(*loggers: str) -> None:
    """Keep secrets of URLs out of what these loggers of libraries say, in the whole process."""
    for name in loggers:
        logging.getLogger(name).addFilter(_REDACT)
