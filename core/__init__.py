"""cadseg: segmenting neurons in terabyte-scale electron microscopy, block by block."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cadseg")
except PackageNotFoundError:  # a source tree on the path, without an install
    __version__ = "0+unknown"
