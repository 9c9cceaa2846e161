"""From the configuration to the rules of telling: routes, receivers and whom they reach."""

from __future__ import annotations

from alerts import routing
from alerts.desk import Receiver, Rules
from alerts.grouping import Audience
from monitor.config import Config
from monitor.config.receivers import STREAMS
from monitor.config.routes import Route


def rules_of(config: Config) -> Rules:
    """The rules without silences, which are stored and not configured. The log is no receiver here: it hears everything by itself."""
    receivers = {
        name: Receiver(
            audience=Audience.STREAM if isinstance(one, STREAMS) else Audience.PEOPLE, limit=config.limits.get(name)
        )
        for name, one in config.receivers.items()
        if name != routing.LOG
    }
    return Rules(
        receivers=receivers, routes=[_route(route, receivers.get(route.receiver), config) for route in config.routes]
    )


def _route(route: Route, receiver: Receiver | None, config: Config) -> routing.Route:
    audience = Audience.STREAM if receiver is None else receiver.audience
    return routing.Route(
        receiver=route.receiver,
        match=route.match,
        matchers=route.matchers,
        goes_on=route.goes_on,
        group_by=route.group_by,
        timing=route.timing_over(routing.TIMINGS[audience]),
        mute=config.windows_of(route.mute_time_intervals),
        active=config.windows_of(route.active_time_intervals),
        digest=route.digest,
    )
