"""Files of recipients that were handed to platforms: what came of each, and having one looked at again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from espial.errors import Refused
from espial.onboarding.state import ENDED, Execution, Executions, OnboardingQueue, Work

ROOT = "onboarding/"


class RecipientFiles(NamedTuple):
    """What is known of them, and the queue of files to look at; `names` are the onboardings that were applied."""

    names: tuple[str, ...]
    executions: Executions
    queue: OnboardingQueue

    def list(self, names: Iterable[str]) -> list[Execution]:
        """Those of some onboardings, the one that moved last first."""
        found = [one for name in names for one in self.executions.of(name)]
        return sorted(found, key=lambda one: one.updated_at, reverse=True)

    def find(self, key: str) -> Execution:
        """The entry of the file, of its last version. Raises Refused (`unknown_file`)."""
        wanted = ROOT + key.removeprefix(ROOT)
        name = wanted.removeprefix(ROOT).partition("/")[0]
        for execution in self.executions.of(name):
            if execution.file.key == wanted:
                return execution
        raise Refused("unknown_file", f"{wanted} was not seen yet: `espial onboarding list` shows what was")

    def resume(self, key: str) -> Execution:
        """Have a file looked at again now. Raises Refused (`unknown_file`, `ended`)."""
        execution = self.find(key)
        file = execution.file
        if execution.state in ENDED:
            raise Refused("ended", f"{file.key} has ended: `espial onboarding run` sends a file once more")
        self.queue.put(Work(bucket=file.bucket, key=file.key, etag=file.etag, version_id=file.version_id))
        return execution


def facts(execution: Execution) -> dict[str, Any]:
    """An execution as JSON has it."""
    return {
        "key": execution.file.key,
        "state": execution.state,
        "reason": execution.reason or None,
        "execution": execution.number or None,
        "updated_at": execution.updated_at.isoformat(),
        "rows": execution.rows,
        **execution.counts._asdict(),
    }
