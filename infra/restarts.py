"""Members of the stack that may end without ending it: they are started again, ever less often."""

import subprocess
import time

from infra.processes import ProcessSpec, spawn, stop

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Optional:
    """One such member, not started yet; :meth:`look` starts it and, after a pause, starts it again.

    The pause doubles each time, up to a minute, and is short again once the member has run for that long.
    """

    def __init__(self, spec: ProcessSpec) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._spec = spec
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._started = self._next = time.monotonic()

    def look(self) -> None:
        """Take note if it has ended, and start it when that is due; never waits for it."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            stop(self.process)  # what it leaves behind in its process group
            self._later(now, f"ended with code {self.process.returncode}")
        if self.process is None and now >= self._next:
            try:
                self.process = spawn(self._spec)
            except OSError as error:
                self._later(now, f"cannot be started: {error}")
            self._started = now

    def _later(self, now: float, why: str) -> None:
        if now - self._started > _LONGEST_PAUSE_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        print(f"supervisor: {self._spec.name} {why}; again in {self._pause_seconds:.0f} s", flush=True)
        self.process, self._next = None, now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
