"""What a configuration may say about retraining: of one model, of all, and of those who are asked for it."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SkipValidation, StringConstraints, WithJsonSchema, model_validator

from alerts import retraining, retraining_presets
from alerts.retraining import RetrainingStatus
from alerts.retraining_run import Deadlines
from alerts.retraining_targets import Auth, Poll, Target
from monitor.config.receivers import Webhook
from monitor.config.values import (
    DAY_MS,
    Duration,
    Label,
    Name,
    OneOf,
    PositiveDuration,
    SecretValue,
    Strict,
    Text,
    Url,
    check_url,
)
from monitor.secret import Secret

_BLANK = re.compile(r"\{\{.*?\}\}")


class Budget(Strict):
    """At most `requests` within any `per`."""

    requests: Annotated[int, Field(ge=1)]
    per_ms: PositiveDuration = Field(alias="per")

    def budget(self) -> retraining.Budget:
        return retraining.Budget(requests=self.requests, per_ms=self.per_ms)


class Retraining(Strict):
    """When a retraining of the model may be asked for. `freeze` are names of `time_intervals`.

    A request without an end after `timeout` counts as ended. After `patience` runs that did not help a person decides.
    """

    mode: Literal["off", "propose", "auto"] = "propose"
    target: Text | None = None
    cooldown_ms: Duration = Field(default=DAY_MS, alias="cooldown")
    min_new_labels: Annotated[int, Field(ge=0)] = 0
    budget: Budget | None = None
    freeze: tuple[Name, ...] = ()
    timeout_ms: PositiveDuration = Field(default=DAY_MS, alias="timeout")
    patience: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        if self.mode != "off" and self.target is None:
            raise ValueError("names no target")
        return self


class CallBack(Strict):
    """Where jobs report to: `url` is this service as they reach it. `secret` makes the token of each request."""

    url: Url
    secret: SecretValue


class FleetRetraining(Strict):
    """For all models together. `approval`, `answer` and `run`: how long a request may wait for a person, for the
    target's first word, and for the job.
    """

    max_active: Annotated[int, Field(ge=1)] | None = None
    budget: Budget | None = None
    freeze: tuple[Name, ...] = ()
    callback: CallBack | None = None
    approval_ms: PositiveDuration = Field(default=7 * DAY_MS, alias="approval")
    answer_ms: PositiveDuration = Field(default=3_600_000, alias="answer")
    run_ms: PositiveDuration = Field(default=DAY_MS, alias="run")

    def deadlines(self) -> Deadlines:
        return Deadlines(approval_ms=self.approval_ms, answer_ms=self.answer_ms, run_ms=self.run_ms)


# -- who is asked -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTarget:
    """A request with blanks, and where its secret is. `ca_file`: whose certificate it has, where that is nobody's the system knows."""

    target: Target
    secret: Secret | None = None
    ca_file: str | None = None

    @property
    def auth(self) -> Auth:
        return self.target.auth


def _template_url(value: str) -> str:
    check_url(_BLANK.sub("x", value))
    return value


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in ("authorization", "proxy-authorization"):
            raise ValueError("a secret is not written here (use auth and secret)")
    return headers


TemplateUrl = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_template_url)]
Pointer = Annotated[str, StringConstraints(pattern=r"^/", max_length=200)]
Found = Annotated[str, StringConstraints(pattern=r"^(/|header:[A-Za-z0-9-]+$)", max_length=200)]
PathPart = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.~-]+$", max_length=200)]
Json = Annotated[SkipValidation[Any], WithJsonSchema({})]


class TargetAuth(Strict):
    """`bearer`: the secret is a token; `basic`: the password of `user`; `header`: it is sent as the header `name`.
    `login` and `client` fetch a token from `token_url` first, with user and password or by OAuth 2 client credentials.
    """

    mode: Literal["none", "bearer", "basic", "login", "client", "header"] = "none"
    user: Text | None = None
    token_url: Url | None = None
    scope: Text | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=100)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        used = {
            "user": self.mode in ("basic", "login", "client"),
            "token_url": self.mode in ("login", "client"),
            "scope": self.mode == "client",
            "name": self.mode == "header",
        }
        for key, is_used in used.items():
            if getattr(self, key) is not None and not is_used:
                raise ValueError(f"mode {self.mode} has no {key}")
        if used["user"] and self.user is None:
            raise ValueError(f"mode {self.mode} needs a user")
        return self

    def auth(self) -> Auth:
        return Auth(
            mode=self.mode,
            user=self.user or "",
            token_url=self.token_url or "",
            scope=self.scope or "",
            name=self.name or "Authorization",
        )


class _ByHttp(Strict):
    """What targets of all kinds have: a secret where their auth needs one, and a certificate authority where it is their own."""

    secret: SecretValue | None = None
    ca_file: Text | None = None

    @abstractmethod
    def made(self) -> Target:
        """The request that is sent. ValueError says what is wrong with the settings."""

    def http_target(self) -> HttpTarget:
        return HttpTarget(target=self.made(), secret=self.secret, ca_file=self.ca_file)

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        auth = self.made().auth  # raises ValueError with what is wrong
        if auth.mode == "none" and self.secret is not None:
            raise ValueError("the secret is not used (say how with auth: {mode: bearer})")
        if auth.mode != "none" and self.secret is None:
            raise ValueError(f"auth {auth.mode} needs a secret (add secret: {{env: NAME}})")
        if auth.fetches_token and not auth.token_url:
            raise ValueError(f"auth {auth.mode} needs a token_url")
        return self


class Success(Strict):
    """For targets that answer 200 to everything: what the answer must hold at `pointer`."""

    pointer: Pointer
    values: Annotated[tuple[Label, ...], Field(min_length=1)]


class PollConfig(Strict):
    """How to ask for a run where nobody calls back; `states`: the target's words, and ours."""

    url: TemplateUrl = Field(repr=False)
    pointers: Annotated[tuple[Pointer, ...], Field(min_length=1)]
    states: Annotated[
        dict[Text, Literal["accepted", "running", "succeeded", "failed", "cancelled"]], Field(min_length=1)
    ]

    def poll(self) -> Poll:
        states = {word: RetrainingStatus(state) for word, state in self.states.items()}
        return Poll(url=self.url, pointers=self.pointers, states=states)


class Http(_ByHttp):
    """Any HTTP API. `url`, `headers` and `body` have blanks such as `{{ request.id }}`.

    `repeated` are the statuses that mean: I have this request already. `run_id` and `run_url` are JSON pointers into
    the answer, or `header:NAME`.
    """

    url: TemplateUrl = Field(repr=False)
    method: Literal["POST", "PUT"] = "POST"
    headers: Annotated[dict[Text, Text], AfterValidator(_header_names)] = Field(default_factory=dict, repr=False)
    body: Json = Field(default=None, repr=False)
    form: bool = False
    auth: TargetAuth = TargetAuth()
    repeated: tuple[Annotated[int, Field(ge=200, le=599)], ...] = ()
    success: Success | None = None
    run_id: Found | None = None
    run_url: Found | None = None
    poll: PollConfig | None = None

    @model_validator(mode="after")
    def _flat_form(self) -> Self:
        flat = isinstance(self.body, Mapping) and all(isinstance(v, str | int | float) for v in self.body.values())
        if self.form and not flat:
            raise ValueError("the body of a form is a mapping of texts")
        return self

    def made(self) -> Target:
        return Target(
            url=self.url,
            method=self.method,
            headers=self.headers,
            body=self.body,
            form=self.form,
            auth=self.auth.auth(),
            repeated=frozenset(self.repeated),
            success=None if self.success is None else (self.success.pointer, self.success.values),
            run_id=self.run_id,
            run_url=self.run_url,
            poll=None if self.poll is None else self.poll.poll(),
        )


class Airflow3(_ByHttp):
    """A run of `dag`. Without `auth` the secret is a token; with `{mode: login, user: NAME}` it is a password."""

    url: Url = Field(repr=False)
    dag: PathPart
    auth: TargetAuth | None = None

    def made(self) -> Target:
        return retraining_presets.airflow3(url=self.url, dag=self.dag, auth=_auth(self.auth))


class GithubWorkflow(_ByHttp):
    """`workflow_dispatch` of a workflow that declares the facts as inputs."""

    owner: PathPart
    repository: PathPart
    workflow: PathPart
    ref: Text = "main"
    api: Url = "https://api.github.com"

    def made(self) -> Target:
        return retraining_presets.github_workflow(
            owner=self.owner, repository=self.repository, workflow=self.workflow, ref=self.ref, api=self.api
        )


class GithubDispatch(_ByHttp):
    """`repository_dispatch`: every workflow that listens to `event` runs."""

    owner: PathPart
    repository: PathPart
    event: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "driftline-retraining"
    api: Url = "https://api.github.com"

    def made(self) -> Target:
        return retraining_presets.github_dispatch(
            owner=self.owner, repository=self.repository, event=self.event, api=self.api
        )


class Databricks(_ByHttp):
    """`run-now` of a job. Without `auth` the secret is a token."""

    url: Url = Field(repr=False)
    job_id: int
    auth: TargetAuth | None = None

    def made(self) -> Target:
        return retraining_presets.databricks(url=self.url, job_id=self.job_id, auth=_auth(self.auth))


class KubernetesJob(_ByHttp):
    """A Job in the cluster whose API is at `url`; the secret is a service account's token. `keep`: when it is removed."""

    url: Url = Field(repr=False)
    namespace: PathPart
    image: Text
    command: tuple[str, ...] = ()
    service_account: Text | None = None
    keep_ms: PositiveDuration = Field(default=DAY_MS, alias="keep")

    def made(self) -> Target:
        return retraining_presets.kubernetes_job(
            url=self.url,
            namespace=self.namespace,
            image=self.image,
            command=self.command,
            service_account=self.service_account or "",
            keep_seconds=max(1, self.keep_ms // 1_000),
        )


def _auth(auth: TargetAuth | None) -> Auth | None:
    return None if auth is None else auth.auth()


class TargetEntry(OneOf):
    webhook: Webhook | None = None
    http: Http | None = None
    airflow3: Airflow3 | None = None
    databricks: Databricks | None = None
    github_dispatch: GithubDispatch | None = None
    github_workflow: GithubWorkflow | None = None
    kubernetes_job: KubernetesJob | None = None

    def chosen(self) -> Webhook | HttpTarget:
        """The one that is given. Raises ValueError for an entry that was never validated and holds none."""
        if self.webhook is not None:
            return self.webhook
        for one in (self.http, self.airflow3, self.databricks, self.github_dispatch, self.github_workflow):
            if one is not None:
                return one.http_target()
        if self.kubernetes_job is None:
            raise ValueError("no target")
        return self.kubernetes_job.http_target()
