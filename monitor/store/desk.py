"""The desk (`alerts.desk.Desk`) as it is stored: groups, storms and links. Only for who has the turn of telling."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alerts.desk import Desk
from alerts.grouping import Group, decode_group, encode_group
from alerts.storm import decode_storm, encode_storm
from monitor.store.engine import chunks, upsert
from monitor.store.tables import LINKS, STORMS, alert_desk, alert_group

_g, _d = alert_group.c, alert_desk.c
_NOTHING = ("{}", None)  # what a row that is not there says


def read_desk(connection: Connection) -> Desk:
    groups = connection.execute(sa.select(_g.key, _g.body).order_by(_g.key))
    kept = _kept(connection)
    return Desk(
        groups={key: decode_group(body) for key, body in groups},
        storms={name: decode_storm(body) for name, body in json.loads(kept.get(STORMS, _NOTHING)[0]).items()},
        links=json.loads(kept.get(LINKS, _NOTHING)[0]),
    )


def keep_desk(connection: Connection, desk: Desk, changed: Collection[str], look_ms: int | None) -> None:
    """`look_ms` stands beside the storms, which have no rows of their own."""
    put_groups(connection, desk.groups, changed)
    storms = json.dumps({name: encode_storm(state) for name, state in sorted(desk.storms.items())})
    kept = _kept(connection)
    for name, new in {LINKS: (json.dumps(desk.links, sort_keys=True), None), STORMS: (storms, look_ms)}.items():
        if kept.get(name, _NOTHING) != new:
            insert = upsert(connection, alert_desk)
            statement = insert.on_conflict_do_update(
                index_elements=[_d.name], set_={"body": insert.excluded.body, "look_ms": insert.excluded.look_ms}
            )
            connection.execute(statement, {"name": name, "body": new[0], "look_ms": new[1]})


def groups_of(connection: Connection, alert_id: str) -> dict[str, Group]:
    """Those the alert may be a member of."""
    its = sa.select(_g.key, _g.body).where(_g.body.contains(alert_id, autoescape=True))
    return {key: decode_group(body) for key, body in connection.execute(its)}


def put_groups(connection: Connection, groups: Mapping[str, Group], keys: Collection[str]) -> None:
    """Write these groups; those that are missing are forgotten."""
    for some in chunks(sorted(key for key in keys if key not in groups)):
        connection.execute(sa.delete(alert_group).where(_g.key.in_(some)))
    rows = [
        {"key": key, "body": encode_group(groups[key]), "look_ms": groups[key].look_ms}
        for key in sorted(keys)
        if key in groups
    ]
    if rows:
        insert = upsert(connection, alert_group)
        statement = insert.on_conflict_do_update(
            index_elements=[_g.key], set_={"body": insert.excluded.body, "look_ms": insert.excluded.look_ms}
        )
        connection.execute(statement, rows)


def _kept(connection: Connection) -> dict[str, tuple[str, int | None]]:
    return {row.name: (row.body, row.look_ms) for row in connection.execute(sa.select(alert_desk))}
