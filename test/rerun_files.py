"""Content of Rerun recordings, as Rerun's own command prints it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

RERUN = shutil.which("rerun", path=str(Path(sys.executable).parent))


def chunks_of(recording):
    """Number of rows and components of each entity."""
    words = [RERUN, "rrd", "print", str(recording)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found = {}
    for rows, entity, columns in re.findall(r"with (\d+) rows .* - (/\S+) - data columns: \[(.*?)\]", said):
        count, names = found.get(entity, (0, set()))
        found[entity] = count + int(rows), names | set(columns.split())
    return found
