"""How far a long stage is, in Prefect's UI: a progress artifact of its task run.

For runs that no terminal watches. A stage that is over within seconds has none, and one that the
server does not take is given up: progress is worth no failure.
"""

import time
from uuid import UUID

_FIRST_S = 5.0  # stages that end before need no bar
_EVERY_S = 5.0


class ProgressInUI:
    """Told `(done, of)` by a stage; shows it now and then. Any thread may call it.

    Args:
        title: of the stage.
    """

    def __init__(self, title: str) -> None:
        from prefect.context import TaskRunContext

        run = TaskRunContext.get()
        self._title = title
        self._run = None if run is None else run.task_run
        self._artifact: UUID | None = None
        self._due = time.monotonic() + _FIRST_S

    def __call__(self, done: int, of: int, note: str = "") -> None:
        """Show it, where it is time to."""
        now, over = time.monotonic(), done >= of
        if self._run is None or not (now >= self._due or (over and self._artifact)):
            return
        self._due = now + _EVERY_S
        told = f"{self._title}: {done:,} of {of:,}" + (f", {note}" if note else "")
        try:
            self._show(100.0 * done / max(1, of), told)
        except Exception:  # whatever the server or the network has
            self._run = None

    def _show(self, share: float, told: str) -> None:
        # By the client: prefect.artifacts would want the task's own thread, without an event loop.
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        assert self._run is not None
        with get_client(sync_client=True) as client:
            if self._artifact is None:
                made = client.create_artifact(
                    ArtifactCreate(
                        type="progress",
                        data=share,
                        description=told,
                        flow_run_id=self._run.flow_run_id,
                        task_run_id=self._run.id,
                    )
                )
                self._artifact = made.id
            else:
                change = ArtifactUpdate(data=share, description=told)
                client.update_artifact(self._artifact, change)
