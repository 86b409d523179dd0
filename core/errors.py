"""Errors that a user can repair: one sentence saying where, what was found, and what is accepted.

The command line prints the sentence alone. What only we can break is an ``assert``.
"""


class CadsegError(Exception):
    """Something that the user can repair; seen before any work starts."""


class ConfigError(CadsegError):
    """A config key or a command-line value that is not accepted."""


class VolumeError(CadsegError):
    """A volume that cannot be segmented as it is."""


class WeightsError(CadsegError):
    """A weights file that does not fit the network."""


class OutputError(CadsegError):
    """An output folder that is not ours, not writable, or in use."""


class IdentityError(CadsegError):
    """A finished stage was computed from something else than what is asked for now."""


class StageError(CadsegError):
    """Blocks of a stage failed while the run was going; what is finished is kept."""
