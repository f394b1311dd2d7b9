"""What can go wrong, in the user's terms.

Every error that a user can cause derives from :class:`HeartSegError` and carries one line that names the thing, its
value and the way out. The command line prints that line and exits with ``exit_code``; the panel shows it in a box.
"""

from __future__ import annotations


class HeartSegError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 2


class InputError(HeartSegError):
    """The scan cannot be used: missing, empty, truncated, not 3D, broken geometry, no image content."""


class ModelError(HeartSegError):
    """The model folder cannot be used: missing, incomplete, wrong hash, unsafe, unknown labels."""


class OutputError(HeartSegError):
    """The result cannot be written: folder not writable, not empty, disk full."""


class SettingsError(HeartSegError):
    """A setting has a value that cannot work; the message says what would be right."""


class DependencyError(HeartSegError):
    """An optional package is needed and missing; the message gives the command that installs it."""


class DeviceError(HeartSegError):
    """The device that was asked for is not there, or has too little memory on every rung of the ladder."""


class Cancelled(Exception):
    """The user stopped the run.

    Deliberately neither a ``HeartSegError`` (nothing went wrong) nor a ``RuntimeError`` (which nnU-Net's predictor
    takes for "out of memory" and answers by running the whole image again).
    """
