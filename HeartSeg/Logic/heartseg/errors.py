"""Exceptions of HeartSeg.

All errors that a user can cause derive from :class:`HeartSegError`. Their message is one line: what is wrong with which
thing (its value), and what to do. The command line prints it and exits with ``exit_code``; the panel shows it.
"""

from __future__ import annotations

import errno
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .wording import _

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exceeded quota and an exceeded file size limit."""


class HeartSegError(Exception):
    """Base class of all errors that a user can cause and fix."""

    exit_code = 2


class InputError(HeartSegError):
    """The scan cannot be used: missing, empty, truncated, not 3D, broken geometry, no image content."""


class ModelError(HeartSegError):
    """The model folder cannot be used: missing, incomplete, wrong hash, unsafe, unknown labels."""


class OutputError(HeartSegError):
    """The result cannot be written: the folder is not writable or not empty, or the disk is full."""


class SettingsError(HeartSegError):
    """A setting has an invalid value; the message names valid values."""


class DependencyError(HeartSegError):
    """A required optional package is missing; the message contains the install command."""


class DeviceError(HeartSegError):
    """The requested device does not exist, or has too little memory for all fallbacks."""


class Cancelled(Exception):
    """The user cancelled the run.

    Not a ``HeartSegError``, because it is not an error, and not a ``RuntimeError``, which the predictor of nnU-Net
    interprets as "out of memory" and handles by running the whole image again.
    """


def one_line(error: BaseException) -> str:
    """Return an error as one line; errors other than HeartSeg's are shortened and preceded by their type."""
    if isinstance(error, HeartSegError):
        text = str(error)  # a wording, if it was raised with one
        plain = " ".join(text.split())
        return text if plain == text else plain
    text = textwrap.shorten(str(error), 200, placeholder=" ...")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def write_error(error: OSError, path: str | Path, resume: str = "", elsewhere: str = "") -> OutputError:
    """Return the error to raise for a file or folder that cannot be written; the way out depends on the cause.

    Args:
        error: the cause.
        path: the file or folder.
        resume: how to go on once there is space, if not with the same command.
        elsewhere: how to write to another place, if not by the choice of another folder.
    """
    elsewhere = elsewhere or _("choose another folder")
    if error.errno in DISK_FULL:
        then = resume or _(" or {elsewhere}").format(elsewhere=elsewhere)
        text = _("the disk is full while writing {path}: free some space{then}")
        return OutputError(text.format(path=path, then=then))
    text = _("cannot write {path} ({reason}): {elsewhere}")
    return OutputError(text.format(path=path, reason=error.strerror or error, elsewhere=elsewhere))


@contextmanager
def writing(path: str | Path, resume: str = "", elsewhere: str = "") -> Iterator[None]:
    """Raise :func:`write_error` in place of an ``OSError``."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path, resume, elsewhere) from error
