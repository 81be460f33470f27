"""The one family of errors: each says what was expected, what came and what to do.

A bad value is also a `ValueError`, a missing engine also an `ImportError` and a
broken store also an `OSError`, so that callers who do not know bayestl catch what
they expect to catch.
"""


class BayestlError(Exception):
    """Any error that bayestl raises on purpose."""


class SpaceError(BayestlError, ValueError):
    """A configuration space, an option or an expression is malformed."""


class ConfigurationError(BayestlError, ValueError):
    """A configuration does not belong to its space."""


class UnknownEnvironment(BayestlError, ValueError):
    """An environment is unknown, or described in a way that cannot be arranged."""


class TableError(BayestlError, ValueError):
    """Measurements cannot be read as one table."""


class SpecificationError(BayestlError, ValueError):
    """A specification file (TOML) is malformed; the message names its line."""


class FileError(BayestlError, OSError):
    """A file is missing, too large, or cannot be read or written."""


class FitError(BayestlError, ValueError):
    """A model cannot be fitted to what it was given."""


class DeviceUnavailable(FitError):
    """The device that a model is to be fitted on cannot be used here."""


class AcquisitionError(BayestlError, ValueError):
    """No configuration can be proposed."""


class NoCandidateLeft(AcquisitionError):
    """Every candidate is measured, pending or known to fail."""


class EngineError(BayestlError, RuntimeError):
    """An engine or a meter refuses what it is asked for."""


class EngineUnavailable(EngineError, ImportError):
    """The library behind an engine or a meter is not installed here."""


class NetworkError(BayestlError, ValueError):
    """A network file is missing or cannot be read."""


class CampaignError(BayestlError, ValueError):
    """A campaign is malformed, or is told something that its state does not allow."""


class StoreError(BayestlError, OSError):
    """A store is corrupted, newer than this version, or cannot be written."""


class StudyError(BayestlError, ValueError):
    """A study is malformed, or its results cannot be read."""
