"""Jobs of jupyter-scheduler run by our engine: its states, its notebook that is valid at every moment, its records of how a job ended.

jupyter lab --Scheduler.execution_manager_class=llmops_lab.server.scheduler.LabExecutionManager
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_scheduler.executors import DefaultExecutionManager

from llmops_lab import settings as _settings
from llmops_lab.errors import ExitCode, JobFailed
from llmops_lab.flows.run_job import run
from llmops_lab.flows.submit_job import submit
from llmops_lab.jobs import notebook, parameters


class LabExecutionManager(DefaultExecutionManager):  # type: ignore[misc]
    """What jupyter-scheduler calls, in a process of its own, for each of its jobs."""

    def execute(self) -> None:
        """Run the job to its end. Raises JobFailed, which jupyter-scheduler shows as the reason, unless it succeeded."""
        asked = self.model
        source = Path(self.staging_paths["input"]).absolute()
        with _settings.at(Path(self.root_dir)):
            settings = _settings.load()
            os.environ["LLMOPS_LAB_HOME"] = str(_settings.home_dir(settings))
        os.chdir(source.parent)  # where the files lie that were packed with the notebook
        pairs = [f"{name}={value}" for name, value in (asked.parameters or {}).items()]
        spec = submit(source, parameters.from_text(parameters.declared(source), pairs), settings=settings)
        record = run(spec.folder, settings=settings)
        self.add_side_effects_files(str(source.parent))
        self.create_output_files(asked, notebook.read(spec.folder / record.notebook))
        if record.state != "succeeded":
            error = record.error or {}
            why = f"{error.get('type')}: {error.get('message')}" if error else "no reason is known"
            code = ExitCode(record.exit_code) if record.exit_code in list(ExitCode) else ExitCode.FAILED
            raise JobFailed(f"{record.state.replace('_', ' ')}: {why}. See {spec.folder / record.notebook}", record.state, code)

    def supported_features(cls: Any) -> Any:
        """What jupyter-scheduler may offer: what its own manager does."""
        return DefaultExecutionManager.supported_features(cls)
