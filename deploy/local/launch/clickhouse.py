"""Runs ClickHouse from the engine in the chdb-core wheel for as long as standard input stays open.

Usage: clickhouse.py keep|remove DIRECTORY ENGINE CONFIGURATION DATA
  DIRECTORY      removed at the end with `remove`: a test's, which nobody needs any more
  ENGINE         where the wheel is unpacked
  CONFIGURATION  the directory that holds config.xml
  DATA           the server's data; a second server on it is refused
"""
import os
import shutil
import sys
import types

fate, directory, engine_path, configuration, data = sys.argv[1:]

# The package's own __init__ opens an engine and closes it again, after which no server can be started: an empty
# package of the same name lets the extension module alone be imported.
package = types.ModuleType("chdb")
package.__path__ = [os.path.join(engine_path, "chdb")]
sys.modules["chdb"] = package
import chdb._chdb as engine  # noqa: E402

# The engine looks for config.xml in the working directory.
os.chdir(configuration)
try:
    # The last query reads standard input to its end: that is what keeps the listeners open.
    engine.query(
        "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; "
        "SELECT * FROM file('/dev/stdin', 'LineAsString') FORMAT Null",
        "TSV",
        path=data,
    )
finally:
    if fate == "remove":
        shutil.rmtree(directory, ignore_errors=True)
        try:
            # The last server of a test takes their common directory along.
            os.rmdir(os.path.dirname(directory))
        except OSError:
            pass
