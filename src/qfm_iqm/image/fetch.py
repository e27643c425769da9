"""Fetches the content of a URL, or raises one plain reason why not.

The standard library fetches web addresses; fsspec's file systems fetch all other schemes (`s3://`,
`gs://`).
"""

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import quote

from qfm_iqm.errors import ImageError, first_line

TIMEOUT = 30.0  # seconds without data from a server
LONGEST = 600.0  # seconds for one file in all

_PIECE = 1 << 20
_UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # characters that are not escaped in a URL


def is_url(path: str) -> bool:
    """Whether a path is a URL, not a local file."""
    return "://" in path


def is_web(url: str) -> bool:
    """Whether a URL is fetched over HTTP, where every URL is a file and there are no folders."""
    return url.lower().startswith(("http://", "https://"))


def fetch_url(url: str) -> bytes:
    """Fetches the content of a URL.

    Raises:
        ImageError: it cannot be fetched; the message holds only the reason.
    """
    return _from_web(url) if is_web(url) else _from_file_system(url)


def _from_web(url: str) -> bytes:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    began = time.monotonic()
    try:
        address = quote(url, safe=_UNQUOTED)
        request = urllib.request.Request(address, headers={"User-Agent": "qfm-iqm"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            pieces = []
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                if time.monotonic() - began > LONGEST:
                    raise ImageError(f"{host} took longer than {LONGEST:g} s")
            if answer.length:  # announced but never sent
                raise ImageError(f"{host} closed the connection before the end")
            return b"".join(pieces)
    except urllib.error.HTTPError as error:
        with error:
            raise ImageError(f"{host} answered {error.code} {error.reason}".rstrip()) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ImageError(_reason(reason, host)) from error


def _reason(error: object, host: str) -> str:
    """Why a request to a web server failed."""
    if isinstance(error, TimeoutError):
        return f"{host} timed out: no answer within {TIMEOUT:g} s"
    if isinstance(error, socket.gaierror):
        return f"the host {host} was not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid: {error.verify_message}"
    if isinstance(error, http.client.InvalidURL | ValueError | str):
        return "this is not an address that can be fetched"
    if isinstance(error, http.client.HTTPException):
        return f"{host} closed the connection before the end"
    return f"{host} cannot be reached: {getattr(error, 'strerror', None) or error}"


def _from_file_system(url: str) -> bytes:
    try:
        import fsspec

        with fsspec.open(url, "rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except IsADirectoryError as error:
        raise ImageError("it is a folder") from error
    except PermissionError as error:
        raise ImageError("there is no permission to read it") from error
    except Exception as error:  # each file system has its own exceptions
        raise ImageError(first_line(error)) from error
