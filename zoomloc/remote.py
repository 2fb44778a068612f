"""Photos on servers: s3://, gs:// and whatever else fsspec has a file system for, listed and read.

S3 and Google Cloud Storage are reached through Arrow's own clients, which come with pyarrow; they find credentials,
region and endpoint where the clouds' own tools do (AWS_ENDPOINT_URL, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, the
role of the machine). Other schemes need the package that fsspec names for them.
"""

import glob
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from zoomloc import video
from zoomloc.errors import PhotoError
from zoomloc.photo import SUFFIXES

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CONNECT_S, ANSWER_S, ATTEMPTS = 10, 60, 3
LONGEST_REASON = 160


def is_remote(name: str) -> bool:
    """Whether a name is a URI, and no path."""
    return "://" in name


def listed(uri: str) -> Iterator[tuple[str, str]]:
    """(URI, version) of the photos and videos that a URI names: one, a folder's with all below it, or a pattern's, in
    the order of their names, hidden ones left out. A version is a text that changes with the content.

    What is not there is named all the same, with no version. Raises PhotoError, one line, where nothing can be asked.
    """
    scheme, _, path = uri.partition("://")
    files = _asked(uri, lambda there: _found(there, path.rstrip("/")))
    if files is None:
        yield uri, ""
        return
    for name, facts in sorted(files.items()):
        yield f"{scheme}://{name}", f"{facts.get('size')} {facts.get('mtime') or facts.get('ETag')}"


def content(uri: str) -> bytes:
    """The bytes of a photo. Raises PhotoError, one line."""
    if _suffix(uri) in video.SUFFIXES:
        raise PhotoError(f"{uri}: a video, which is read from a disk only; copy it there")
    read: bytes = _asked(uri, lambda there: there.cat_file(uri.partition("://")[2]))
    return read


def _found(there: "AbstractFileSystem", path: str) -> dict[str, Any] | None:
    """Facts of the files by their paths on a file system; None where the path names nothing."""
    if glob.has_magic(path):
        there.info(path[: path.index("/") if "/" in path else None])  # a pattern hides what went wrong
        files = {name: facts for name, facts in there.glob(path, detail=True).items() if _is_file(facts)}
    elif not there.exists(path):
        return None
    elif _is_file(facts := there.info(path)):
        return {path: facts}
    else:
        files = there.find(path, detail=True)
    return {name: facts for name, facts in files.items() if _is_picture(name)}


def _is_file(facts: dict[str, Any]) -> bool:
    return bool(facts["type"] == "file")


def _is_picture(path: str) -> bool:
    return "/." not in path and _suffix(path) in SUFFIXES | video.SUFFIXES


def _suffix(path: str) -> str:
    dot = path.rpartition("/")[2].rfind(".")
    return path[dot - len(path.rpartition("/")[2]) :].lower() if dot > 0 else ""


def _asked(uri: str, question: Any) -> Any:
    """What a file system answers; every failure is one line."""
    try:
        return question(_file_system(uri.partition("://")[0]))
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"{uri}: no such file; check the name") from None
    except Exception as error:  # every file system has its own
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise PhotoError(
            f"{uri}: cannot be read ({reason}); check name, credentials and network, or copy it here"
        ) from None


@cache
def _file_system(scheme: str) -> "AbstractFileSystem":
    """The file system of a scheme. Raises PhotoError where there is none."""
    import fsspec
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    match scheme:
        case "s3":
            patience = fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            return ArrowFSWrapper(
                fs.S3FileSystem(
                    endpoint_override=endpoint,  # told, as Arrow reads the variable and not how to address by it
                    connect_timeout=CONNECT_S,
                    request_timeout=ANSWER_S,
                    retry_strategy=patience,
                )
            )
        case "gs" | "gcs":
            return ArrowFSWrapper(fs.GcsFileSystem(retry_time_limit=timedelta(seconds=ANSWER_S)))
    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        raise PhotoError(f"{scheme}://: {str(error).splitlines()[0]}; or copy the photos here") from None
