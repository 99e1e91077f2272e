"""What an execution environment runs in place of AWS's /var/runtime/bootstrap: paths, then `awslambdaric`.

Run by the runtime environment's Python with ``-S``, so that nothing but what is named here is importable.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main(parent: int, runtime_dir: str) -> None:
    """Die with LocalStack whatever kills it; then serve invocations until told to stop."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    task_root, opt = os.environ["LAMBDA_TASK_ROOT"], os.environ["MARQUEE_LAMBDA_OPT"]
    del os.environ["MARQUEE_LAMBDA_OPT"]
    site = f"python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    places = [task_root, f"{opt}/python", f"{opt}/{site}", runtime_dir]
    sys.path[:0] = [place for place in places if Path(place).is_dir()]
    from awslambdaric.__main__ import main as serve

    serve(["bootstrap", os.environ["_HANDLER"]])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
