"""Change the schema of the configured database: one phase of an upgrade, or all of them.

Runs inside a one-shot container of the new image, beside schema.py.  Its order is in a file beside
it: ``phases``, ``online`` (whether old releases serve meanwhile), ``lock_wait`` (seconds that one
statement waits for a lock before the API gets its turn again), ``patience`` (seconds after which
that is given up) and, for MariaDB and MySQL, ``admin`` (user and password of the administrator, or
None).  The last line is JSON: ``before``, ``after`` (heads), ``repaired`` (what a cut expansion had
left), or ``error`` (one sentence).

Phases that were done are passed over, so that it can be run again after any interruption.
"""

import contextlib
import json
import pathlib
import sys
import time

import schema
import schema_pending

PAUSE = 2  # seconds between two attempts, in which those who waited behind the first get through
LOCKED = (1205, 1213)  # waited too long for a lock, deadlock


def main(url, order):
    """Do what is ordered and return the answer."""
    with alone(url):
        before = after = schema.look(url)
        _check(before, order)
        repaired = []
        done, deadline = not set(order["phases"]) & set(before["pending"]), None
        while not done:
            deadline = deadline or time.monotonic() + order["patience"]
            repaired += _repair(url, order)
            try:
                _work(url, order)
                done, after = True, schema.look(url)
            except Exception as error:  # one of several libraries' errors
                if _code(error) not in LOCKED:
                    raise
                if time.monotonic() > deadline:
                    raise schema.Refused(
                        f"The schema was not changed within {order['patience']} seconds, because"
                        " another client holds a lock on it: end its transaction (SHOW"
                        " PROCESSLIST tells which) and run the same command again"
                    ) from error
                print(f"locked, trying again: {error}", file=sys.stderr)
                time.sleep(PAUSE)
    return {
        "before": before["heads_in_database"],
        "after": after["heads_in_database"],
        "repaired": repaired,
    }


def _check(found, order):
    if found["position"] not in ("current", "uncontracted", "expanded", "behind"):
        raise schema.Refused(
            f"The schema ({', '.join(found['heads_in_database']) or 'none'}) is"
            f" {found['position']} for this image, so it was not changed"
        )
    if "expand" in found["pending"] and "expand" not in order["phases"]:
        raise schema.Refused("The schema is not expanded yet: apply glance.upgrade.expand first")
    if found["half_done"] and not found["half_done"]["repairable"]:
        raise schema.Refused(found["half_done"]["remedy"])


def _work(url, order):
    from glance.cmd import manage
    from oslo_config import cfg
    from sqlalchemy.engine import make_url

    use = url
    if order["admin"] and order["online"] and _triggers(url):
        # With a binary log only an administrator may make triggers; the server's global variable
        # for that (log_bin_trust_function_creators) stays as it is.
        login = {"username": order["admin"]["user"], "password": order["admin"]["password"]}
        use = make_url(url).set(**login).render_as_string(hide_password=False)
    cfg.CONF.set_override("connection", _impatient(use, order["lock_wait"]), group="database")
    # As glance-manage does for 'db sync': without old releases beside it no triggers are needed.
    manage.USE_TRIGGERS = order["online"]
    commands = manage.DbCommands()
    for phase in order["phases"]:
        try:
            getattr(commands, phase)(online_migration=order["online"])
        except SystemExit as end:
            if end.code not in (None, 0):
                raise schema.Refused(f"glance-manage db {phase}: {end.code}") from end


def _repair(url, order):
    """Take away what a cut expansion has left."""
    import sqlalchemy

    found = schema.look(url)
    if not found["half_done"]:
        return []
    _check(found, order)
    engine = sqlalchemy.create_engine(_impatient(url, PAUSE))
    with engine.connect() as link:
        script, head = schema.revisions(engine)
        names = schema_pending.repair(link, script, head("expand"), found["heads_in_database"])
        if hasattr(link, "commit"):
            link.commit()
    return names


def _triggers(url):
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    script, head = schema.revisions(engine)
    heads = schema.look(url)["heads_in_database"]
    return schema_pending.needs_triggers(schema_pending.revisions(script, head("expand"), heads))


def _impatient(url, seconds):
    """The URL for a connection that gives a lock up soon: whoever waits makes others wait."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "mysql":
        return url
    command = f"SET SESSION lock_wait_timeout={seconds}, innodb_lock_wait_timeout={seconds}"
    parsed = parsed.update_query_dict({"init_command": command})
    return parsed.render_as_string(hide_password=False)


@contextlib.contextmanager
def alone(url, patience=0):
    """Hold a lock of the server's, which it takes back by itself when this process dies.

    patience: seconds to wait for whoever holds it.
    """
    import sqlalchemy
    from sqlalchemy import text

    engine = sqlalchemy.create_engine(url)
    name = schema.lock(engine)
    if not name:
        yield
        return
    wanted = text("SELECT GET_LOCK(:name, :patience)")
    with engine.connect() as link:
        if not link.execute(wanted, {"name": name, "patience": patience}).scalar():
            owner = schema.owner(link, name)
            raise schema.Refused(
                "Somebody else changes this schema now (connection"
                f" {owner} of the database server): wait for its end and run the same command again"
            )
        yield


def _code(error):
    """The database server's number of an error, wherever it is wrapped."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        reason = getattr(error, "orig", None) or error
        args = getattr(reason, "args", ())
        if args and isinstance(args[0], int):
            return args[0]
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    file = pathlib.Path(__file__).with_name("schema_change.json")
    order = json.loads(file.read_text(encoding="utf-8"))
    fault = "was not changed as ordered"
    hidden = [order["admin"]["password"]] if order["admin"] else []
    schema.answer(lambda: schema.attempt(lambda url: main(url, order), fault, hidden))
