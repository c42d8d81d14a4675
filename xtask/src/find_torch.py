# Prints the version and the folder of an installed torch, without importing it. Nothing where there is none.
import importlib.metadata
import importlib.util
import os

try:
    version = importlib.metadata.version("torch")
    spec = importlib.util.find_spec("torch")
except (importlib.metadata.PackageNotFoundError, ValueError):
    spec = None
if spec is not None and spec.origin:
    print(version)
    print(os.path.dirname(os.path.realpath(spec.origin)))
