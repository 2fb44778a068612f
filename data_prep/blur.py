"""Faces and number plates made unrecognizable, by a program or a Python function of the user's choice.

ZoomLoc ships no detector: which one may be used, and how well it must work, depends on where the photos are shown.
A hook is one of

    "module:function"              function((h, w, 3) uint8 sRGB array) -> array of the same shape and type; the
                                   module is installed or lies in the current folder
    "program --more {in} {out}"    reads the PNG file {in}, writes the image file {out}, exits with 0
"""

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoomloc.errors import ConfigError, PhotoError

Pixels = NDArray[np.uint8]
Blur = Callable[[Pixels], Pixels]

HELP = (
    "Blur faces and plates: a program, 'blur {in} {out}', or a Python function, 'module:function', of pixels."
)


def hook(text: str) -> Blur:
    """The hook that a text names. Photos it fails on raise PhotoError. Raises ConfigError where it names none."""
    if "{in}" in text and "{out}" in text:
        return lambda pixels: _checked(_by_program(shlex.split(text), pixels), pixels)
    function = _function(text)
    return lambda pixels: _checked(_by_function(function, pixels), pixels)


def _function(text: str) -> Blur:
    module, _, name = text.partition(":")
    if str(Path.cwd()) not in sys.path:
        # An installed command does not look there, and users keep their modules there.
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # whatever the user's module does on import
        raise ConfigError(
            f"blur {text!r} is neither a program with {{in}} and {{out}} nor a function module:function that "
            f"can be imported ({type(error).__name__}: {error})"
        ) from None
    if not callable(found):
        raise ConfigError(f"blur {text!r} is not a function; name one that takes and returns pixels")
    return found


def _by_function(function: Blur, pixels: Pixels) -> Pixels:
    try:
        return np.asarray(function(pixels.copy()))
    except Exception as error:
        raise PhotoError(f"blurring failed ({type(error).__name__}: {error})") from None


def _by_program(words: list[str], pixels: Pixels) -> Pixels:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.png", Path(folder) / "out.png"
        Image.fromarray(pixels).save(source, compress_level=1)
        command = [word.replace("{in}", str(source)).replace("{out}", str(target)) for word in words]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
            with Image.open(target) as image:
                return np.asarray(image.convert("RGB"))
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
            raise PhotoError(f"blurring failed ({words[0]} exited with {error.returncode}: {last})") from None
        except FileNotFoundError as error:
            what = "wrote no {out}" if error.filename == str(target) else "is not installed"
            raise PhotoError(f"blurring failed ({words[0]} {what})") from None
        except OSError as error:
            raise PhotoError(f"blurring failed ({words[0]}: {error})") from None


def _checked(blurred: Pixels, pixels: Pixels) -> Pixels:
    if blurred.shape != pixels.shape or blurred.dtype != np.uint8:
        raise PhotoError(
            f"blurring failed (it returned {blurred.dtype} of shape {blurred.shape}, not uint8 of {pixels.shape})"
        )
    return blurred
