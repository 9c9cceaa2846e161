"""Targets that many use, ready to fill in: Airflow 3, GitHub Actions, Databricks, a Kubernetes Job.

Each is a `Target` like one written by hand. The request's id makes repeated deliveries harmless wherever the target
knows a way; GitHub knows none, so there a workflow should set `concurrency` by the request's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alerts.retraining import RetrainingStatus
from alerts.retraining_targets import Auth, Json, Poll, Target

# What a job is told: enough to find out more, and to report back.
FACTS: Mapping[str, Json] = {
    "request_id": "{{ request.id }}",
    "model": "{{ request.model }}",
    "version": "{{ request.version }}",
    "reason": "{{ request.reason }}",
    "callback_url": "{{ callback.url }}",
    "callback_token": "{{ callback.token }}",
}
# The same for targets that take texts only.
TEXTS: Mapping[str, str] = {name: str(value).replace(" }}", " | text }}") for name, value in FACTS.items()}
_GITHUB_HEADERS: Mapping[str, str] = {
    "accept": "application/vnd.github+json",
    "x-github-api-version": "2022-11-28",
    "user-agent": "driftline",
}
_RUNNING, _SUCCEEDED = RetrainingStatus.RUNNING, RetrainingStatus.SUCCEEDED
_FAILED, _CANCELLED, _ACCEPTED = RetrainingStatus.FAILED, RetrainingStatus.CANCELLED, RetrainingStatus.ACCEPTED


def airflow3(*, url: str, dag: str, auth: Auth | None = None) -> Target:
    """A run of `dag` whose id is the request's: a second delivery is refused as a conflict, and that is fine.

    Without `auth`, user and password are traded for a token at `/auth/token`; give `Auth(mode="login", user=...)`.
    """
    root, name = url.rstrip("/"), _path_part(dag)
    given = auth or Auth(mode="bearer")
    if given.mode == "login" and not given.token_url:
        given = Auth(mode="login", user=given.user, token_url=f"{root}/auth/token")
    runs = f"{root}/api/v2/dags/{name}/dagRuns"
    return Target(
        url=runs,
        body={"dag_run_id": "{{ request.id }}", "logical_date": None, "conf": FACTS},  # other keys are refused
        auth=given,
        repeated=frozenset({409}),
        run_id="/dag_run_id",
        poll=Poll(
            url=f"{runs}/{{{{ request.id }}}}",
            pointers=("/state",),
            states={"queued": _ACCEPTED, "running": _RUNNING, "success": _SUCCEEDED, "failed": _FAILED},
        ),
    )


def github_workflow(
    *, owner: str, repository: str, workflow: str, ref: str = "main", api: str = "https://api.github.com"
) -> Target:
    """`workflow_dispatch`: the workflow must declare each key of `FACTS` as an input, and takes texts only."""
    place = f"{_path_part(owner)}/{_path_part(repository)}/actions/workflows/{_path_part(workflow)}"
    return Target(
        url=f"{api.rstrip('/')}/repos/{place}/dispatches",
        headers=_GITHUB_HEADERS,
        body={"ref": ref, "inputs": TEXTS},
        auth=Auth(mode="bearer"),
    )


def github_dispatch(
    *, owner: str, repository: str, event: str = "driftline-retraining", api: str = "https://api.github.com"
) -> Target:
    """`repository_dispatch`: every workflow that listens to `event` runs. At most ten keys, of any type."""
    if not 0 < len(event) <= 100:
        raise ValueError("the event of a repository_dispatch has 1 to 100 characters")
    return Target(
        url=f"{api.rstrip('/')}/repos/{_path_part(owner)}/{_path_part(repository)}/dispatches",
        headers=_GITHUB_HEADERS,
        body={"event_type": event, "client_payload": FACTS},
        auth=Auth(mode="bearer"),
    )


def databricks(*, url: str, job_id: int, auth: Auth | None = None) -> Target:
    """`run-now` with the request's id as idempotency token: exactly one run, however often it is delivered."""
    root = url.rstrip("/")
    return Target(
        url=f"{root}/api/2.2/jobs/run-now",
        body={"job_id": job_id, "job_parameters": TEXTS, "idempotency_token": "{{ request.id }}"},
        auth=auth or Auth(mode="bearer"),
        run_id="/run_id",
        poll=Poll(
            url=f"{root}/api/2.2/jobs/runs/get?run_id={{{{ run.id }}}}",
            pointers=("/state/result_state", "/state/life_cycle_state"),
            states={
                "SUCCESS": _SUCCEEDED,
                "FAILED": _FAILED,
                "TIMEDOUT": _FAILED,
                "UPSTREAM_FAILED": _FAILED,
                "INTERNAL_ERROR": _FAILED,
                "SKIPPED": _FAILED,
                "CANCELED": _CANCELLED,
                "UPSTREAM_CANCELED": _CANCELLED,
                "QUEUED": _ACCEPTED,
                "PENDING": _ACCEPTED,
                "BLOCKED": _ACCEPTED,
                "RUNNING": _RUNNING,
                "TERMINATING": _RUNNING,
            },
        ),
    )


def kubernetes_job(
    *,
    url: str,
    namespace: str,
    image: str,
    command: Sequence[str] = (),
    service_account: str = "",
    keep_seconds: int = 86_400,
) -> Target:
    """A Job named after the request, so that a second delivery finds it there (409). The facts are its environment.

    The token of a service account changes: give its file as the secret. The target's certificate is the cluster's.
    """
    jobs = f"{url.rstrip('/')}/apis/batch/v1/namespaces/{_path_part(namespace)}/jobs"
    container: dict[str, Json] = {
        "name": "retrain",
        "image": image,
        "env": [{"name": f"DRIFTLINE_{name.upper()}", "value": value} for name, value in TEXTS.items()],
    }
    if command:
        container["command"] = list(command)
    pod: dict[str, Json] = {"restartPolicy": "Never", "containers": [container]}
    if service_account:
        pod["serviceAccountName"] = service_account
    labels: Json = {"app.kubernetes.io/managed-by": "driftline"}
    return Target(
        url=jobs,
        body={
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "{{ request.name }}", "labels": labels},
            "spec": {
                "backoffLimit": 0,
                "ttlSecondsAfterFinished": keep_seconds,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        auth=Auth(mode="bearer"),
        repeated=frozenset({409}),
        run_id="/metadata/name",
        poll=Poll(
            url=f"{jobs}/{{{{ request.name }}}}",
            pointers=("/status/conditions/0/type", "/status/conditions/1/type", "/status/active"),
            states={
                "Complete": _SUCCEEDED,
                "SuccessCriteriaMet": _SUCCEEDED,
                "Failed": _FAILED,
                "FailureTarget": _FAILED,
                "1": _RUNNING,
            },
        ),
    )


PRESETS = {
    "airflow3": airflow3,
    "databricks": databricks,
    "github_dispatch": github_dispatch,
    "github_workflow": github_workflow,
    "kubernetes_job": kubernetes_job,
}


def _path_part(name: str) -> str:
    if (
        not name
        or not all(sign.isalnum() or sign in "-_.~" for sign in name)
        or not name.isascii()
        or name in (".", "..")
    ):
        raise ValueError(f"{name!r} cannot be part of a path (letters, digits, - _ . ~)")
    return name
