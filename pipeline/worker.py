"""Main module of a local worker process: Beam's own, without its log lines on the user's terminal.

    python -m corpusmill.pipeline.worker FOLDER      leaves FOLDER/PID.pid, by which the driver can end it

What goes wrong in a worker still reaches the driver: as an exception, and in the mark of the unit.
"""

import logging
import os
import signal
import sys
from pathlib import Path

logging.disable(logging.ERROR)

from apache_beam.runners.worker import sdk_worker_main  # noqa: E402 - the import itself logs

from corpusmill.pipeline.processes import die_with_parent  # noqa: E402

if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets the user's Ctrl-C too, and ends its workers
    (Path(sys.argv[1]) / f"{os.getpid()}.pid").touch()
    sdk_worker_main.main(sys.argv[:1])
