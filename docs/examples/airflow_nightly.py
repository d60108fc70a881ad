"""Every night Airflow runs the nightly evaluation, and what is in dev goes to staging only when no verdict was worse.

Airflow keeps its own environment; the job runs in the project's. The exit code is the job's end: 0 lets the next task begin, anything else
(5: a gate failed or the night was worse, 124: timeout, 137: out of memory, ...) fails the task. A task that Airflow stops gets SIGTERM, and
the job ends its kernel and all that this started.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PROJECT = "/srv/support-bot"
"""The folder with pyproject.toml and the data: relative paths of parameters begin here."""
RUN = f"{PROJECT}/.venv/bin/llmops-lab run"

with DAG(
    dag_id="llmops_lab_nightly",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"cwd": PROJECT, "append_env": True, "retries": 0},  # a worse verdict does not get better by another try
) as dag:
    # Parameters travel in the environment, in quotation marks: what is in them cannot become a command.
    nightly = BashOperator(
        task_id="nightly",
        bash_command=f'{RUN} nightly -p "data=$DATA" -p "prompts=$PROMPTS" --timeout 3600 --out "jobs/nightly-$DAY" --json',
        env={"DATA": "data/today.csv", "PROMPTS": "prompts:/support@production", "DAY": "{{ ds_nodash }}"},
        execution_timeout=timedelta(hours=2),
    )
    deploy = BashOperator(
        task_id="deploy",
        bash_command=f'{RUN} deploy -p "name=$NAME" -p "candidate=$NAME@dev" -p "data=$DATA" --out "jobs/deploy-$DAY" --json',
        env={"NAME": "support-bot", "DATA": "data/held_out.csv", "DAY": "{{ ds_nodash }}"},
        execution_timeout=timedelta(hours=2),
    )
    nightly >> deploy
