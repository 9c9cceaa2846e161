"""Receivers in the configuration: what a good file gives, every mistake with its place, and no secret in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.fallback import WithFallback
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.apprise import AppriseNotifier
from alerts.notifiers.email import EmailNotifier
from alerts.notifiers.log import LogNotifier
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import SlackBotNotifier, SlackWebhookNotifier
from alerts.notifiers.webhook import WebhookNotifier
from monitor.config import load_config
from monitor.errors import UserError
from monitor.receivers import notifiers
from monitor.secret import Secret

FULL = """\
models: {churn: {labels: {team: growth}}}
links: {runbook: "https://wiki.example/$model", page: "https://drift.example/alerts/$alert"}
egress: {deny_private: false}
heartbeat: {url: {file: ping.txt}, every: 2m}
receivers:
  oncall: {pagerduty: {routing_key: {file: pd.txt}, url: "https://events.eu.pagerduty.com/v2/enqueue"}, fallback: team}
  team: {slack: {url: {env: SLACK_URL}, template: {title: "$severity: $title"}}}
  room: {slack: {token: {env: SLACK_TOKEN}, channel: "#drift"}}
  mail:
    email: {host: smtp.example.com, from: Drift <drift@example.com>, to: a@example.com, username: drift, password: {env: MAIL_PASSWORD}}
  relay: {email: {host: localhost, port: 25, from: d@example.com, to: [a@example.com, b@example.com], starttls: false}}
  prom: {alertmanager: {urls: ["http://10.0.0.1:9093", "http://10.0.0.2:9093"], resend: 30s, heartbeat: true, token: {file: am.txt}}}
  hook: {webhook: {url: "https://hooks.example/planted", secret: {env: HOOK_SECRET}}}
  plain: {log: {}}
"""
SECRETS = {
    "SLACK_URL": "https://hooks.slack.example/services/planted", "SLACK_TOKEN": "xoxb-planted", "MAIL_PASSWORD": "planted-word",
    "HOOK_SECRET": "whsec_cGxhbnRlZC1rZXktcGxhbnRlZC1rZXktcGxhbnRlZCE=",
}  # fmt: skip


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name in ("ping.txt", "pd.txt", "am.txt"):
        Path(name).write_text("https://ping.example/planted\n")

    def load(text):
        Path("driftline.yaml").write_text(text)
        return load_config("driftline.yaml")

    return load


def test_all_of_it_is_read_and_built(load, tmp_path) -> None:
    config = load(FULL)
    assert config.receivers["oncall"].routing_key == Secret("file", str(tmp_path / "pd.txt"))
    assert config.fallbacks == {"oncall": "team"}
    assert (config.heartbeat.every_ms, config.receivers["prom"].resend_ms) == (120_000, 30_000)
    assert config.receivers["mail"].to == ("a@example.com",)
    assert (config.receivers["mail"].port, config.receivers["mail"].starttls) == (587, True)
    made = notifiers(config)
    assert {name: type(one) for name, one in made.items()} == {
        "log": LogNotifier, "oncall": WithFallback, "team": SlackWebhookNotifier, "room": SlackBotNotifier, "mail": EmailNotifier,
        "relay": EmailNotifier, "prom": AlertmanagerNotifier, "hook": WebhookNotifier, "plain": LogNotifier,
    }  # fmt: skip
    assert isinstance(made["oncall"], WithFallback)
    assert isinstance(made["oncall"].first, PagerDutyNotifier)
    assert "planted" not in repr(config) + repr(made)


ONE = "models: {m: {}}\nreceivers: {r: {%s}}"


@pytest.mark.parametrize(
    ("receiver", "told"),
    [
        ("slack: {}", "receivers.r.slack: should hold either url, or token and channel"),
        ("slack: {token: {env: A}}", "receivers.r.slack: should hold either url, or token and channel"),
        ("slack: {url: {env: A}, channel: c}", "receivers.r.slack: should hold either url, or token and channel"),
        ("slack: {url: https://hooks.slack.com/planted}", "receivers.r.slack.url: a secret is not written here"),
        ("pagerduty: {routing_key: planted}", "receivers.r.pagerduty.routing_key: a secret is not written here"),
        ("pagerduty: {}", "receivers.r.pagerduty.routing_key: is missing"),
        ("email: {host: h, from: me, to: a@b}", "receivers.r.email.from: should be a mail address such as"),
        ("email: {host: h, from: a@b, to: []}", "receivers.r.email.to: should be a mail address or a list of them"),
        ("email: {host: h, from: a@b, to: [a@b, c]}", "receivers.r.email.to: should be a mail address such as"),
        ("email: {host: h, from: a@b, to: a@b, username: u}", "receivers.r.email: username and password go together"),
        (
            "email: {host: h, from: a@b, to: a@b, username: u, password: {env: A}, starttls: false}",
            "receivers.r.email: a password is not sent without encryption (leave out starttls: false)",
        ),
        ("email: {host: 'a b', from: a@b, to: a@b}", "receivers.r.email.host: has characters that are not allowed here"),
        ("alertmanager: {urls: []}", "receivers.r.alertmanager.urls: should not be empty"),
        ("alertmanager: {urls: [h:9093]}", "receivers.r.alertmanager.urls.0: should be a URL that starts with"),
        ("alertmanager: {urls: ['http://h'], resend: 1s}", "receivers.r.alertmanager.resend: should be from 10s to 1h"),
        ("log: {}, slack: {url: {env: A}}", "receivers.r: should hold exactly one of: webhook, log, pagerduty, slack, email"),
        ("fallback: r2", "receivers.r: should hold exactly one of:"),
        ("log: {}, fallback: nobody", "receivers.r.fallback: unknown receiver nobody"),
        ("log: {}, fallback: r", "receivers.r.fallback: is the receiver itself (name another one)"),
        ("slack: {url: {env: A}, template: {text: $whta}}", "receivers.r.slack.template.text: unknown placeholder $whta (known: $title"),
        ("slack: {url: {env: A}, template: {title: 5 $}}", "receivers.r.slack.template.title: has a $ that begins no placeholder"),
        ("pagerdut: {}", "receivers.r.pagerdut: unknown key (did you mean pagerduty?)"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_without_the_secret(load, receiver, told) -> None:
    with pytest.raises(UserError) as caught:
        load(ONE % receiver)
    assert told in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("links: {page: 'https://$model.example/'}", "links.page: should be a URL"),
        ("links: {page: 'https://x/$user'}", "links.page: unknown placeholder $user (known: $model"),
        ("links: {'a b': 'https://x/'}", "links.a b"),
        ("heartbeat: {url: https://ping.example/x}", "heartbeat.url: a secret is not written here"),
    ],
)
def test_links_and_heartbeat(load, text, told) -> None:
    with pytest.raises(UserError) as caught:
        load(f"models: {{m: {{}}}}\n{text}")
    assert told in str(caught.value)


def test_private_addresses_are_fine_unless_they_are_closed(load) -> None:
    text = """\
models: {m: {}}
receivers:
  a: {alertmanager: {urls: ["http://alerts.example:9093", "http://10.0.0.1:9093"]}}
  b: {webhook: {url: "http://[::1]:8000/x", secret: {env: HOOK_SECRET}}}
  c: {email: {host: localhost, from: a@b, to: a@b}}
retraining_targets: {t: {webhook: {url: "http://169.254.169.254/latest", secret: {env: HOOK_SECRET}}}}
"""
    load(text)
    with pytest.raises(UserError) as caught:
        load(text + "egress: {deny_private: true}\n")
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()] == [
        "receivers.a.alertmanager.urls.1: 10.0.0.1 is private, which egress.deny_private closes",
        "receivers.b.webhook.url: ::1 is private, which egress.deny_private closes",
        "receivers.c.email.host: localhost is private, which egress.deny_private closes",
        "retraining_targets.t.webhook.url: 169.254.169.254 is private, which egress.deny_private closes",
    ]


@pytest.mark.parametrize(
    ("receiver", "value"),
    [
        ("slack: {url: {env: SLACK_URL}}", "planted"),
        ("webhook: {url: 'http://h/', secret: {env: SLACK_URL}}", "planted"),
    ],
)
def test_a_secret_that_is_of_no_use_is_told_by_the_receiver_s_name_only(load, monkeypatch, receiver, value) -> None:
    monkeypatch.setenv("SLACK_URL", value)
    with pytest.raises(UserError) as caught:
        notifiers(load(ONE % receiver))
    assert str(caught.value).startswith("receiver r: ")
    assert "planted" not in str(caught.value)


def test_an_authority_s_file_that_is_not_there_is_told(load) -> None:
    config = load(ONE % "email: {host: h, from: a@b, to: a@b, ca_file: none.pem}")
    with pytest.raises(UserError, match="receiver r: ca_file cannot be read: No such file"):
        notifiers(config)


def test_apprise_goes_by_an_address_that_is_a_secret_and_cannot_be_held_to_closed_addresses(load, monkeypatch) -> None:
    monkeypatch.setenv("APPRISE_URL", "json://127.0.0.1:9/planted")
    text = ONE % "apprise: {url: {env: APPRISE_URL}}"
    made = notifiers(load(text))["r"]
    assert isinstance(made, AppriseNotifier)
    assert "planted" not in repr(made)
    monkeypatch.setenv("APPRISE_URL", "no://planted")
    with pytest.raises(UserError) as caught:
        notifiers(load(text))
    assert str(caught.value).startswith("receiver r: the address is none that apprise knows")
    with pytest.raises(
        UserError, match=r"2:17: receivers\.r\.apprise: connects by itself, so it cannot be held to egress"
    ):
        load(f"{text}\negress: {{deny_private: true}}")
