"""
Create Glance's database, its user and its grants; runs inside a one-shot container.

Reads its order from a file beside it (host, port, admin, database, user, passwords, and the CA
file when the connection is to be encrypted), prints one line of JSON: ``{"changes": {...}}`` or
``{"error": "one sentence"}``. Everything is looked at first, so that a second run changes nothing.
No global variable of the server is touched.
"""

import json
import pathlib
import sys

import pymysql


class InUse(Exception):
    """A running Glance would lose its database."""


def main(order):
    where = f"{order['host']}:{order['port']}"
    changes = {}
    try:
        with _connect(order, order["admin"], order["admin_password"]) as admin:
            _database(admin, order, changes)
            _user(admin, order, changes)
            _grants(admin, order, changes)
    except InUse:
        return {
            "error": f"The password of the database user {order['user']} is another one than"
            " glance:glance_database_password, and the database is in use, so it was not"
            " changed: name a new user in glance:glance_database_user together with the new"
            " password; it is made, and taken over without an outage."
        }
    except pymysql.err.MySQLError as err:
        code, text = (*err.args, "")[:2]
        if code in (1044, 1045, 1698):
            return {
                "error": f"The database server at {where} refuses {order['admin']}: check"
                " glance:database_password and glance:glance_database_shard_root_user, or set"
                " glance:use_preconfigured_databases to yes and create the database yourself."
            }
        return {"error": f"The database server at {where} cannot be used ({code}: {text})."}
    except FileNotFoundError:
        return {
            "error": f"The CA file {order['ca']} is not in the image: name one that is there in"
            " glance:openstack_cacert, and put your own CA into glance:glance_ca_certificates."
        }
    except Exception as err:  # whatever else a library finds, the operator gets a sentence
        reason = " ".join(str(err).split()).rstrip(".") or type(err).__name__
        for key in ("password", "admin_password"):
            reason = reason.replace(order[key], "***")
        return {"error": f"The database server at {where} cannot be used: {reason}."}
    return {"changes": changes}


def _database(admin, order, changes):
    if not _rows(admin, "SHOW DATABASES LIKE %s", order["database"]):
        # Another host may make it at the same time.
        name = _name(order["database"])
        admin.cursor().execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3")
        changes[f"database {order['database']}"] = {"old": None, "new": "created"}


def _user(admin, order, changes):
    who = (order["user"], "%")
    if not _rows(admin, "SELECT 1 FROM mysql.user WHERE user = %s AND host = %s", *who):
        make = "CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY %s"
        admin.cursor().execute(make, (*who, order["password"]))
        changes[f"user {order['user']}"] = {"old": None, "new": "created"}
        return
    try:
        _connect(order, order["user"], order["password"]).close()
    except pymysql.err.OperationalError as err:
        if err.args[0] != 1045:
            raise
        # Other hosts may serve with it, also when this one is new.
        if order["in_use"] or _rows(
            admin,
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s LIMIT 1",
            order["database"],
        ):
            raise InUse from err
        admin.cursor().execute("ALTER USER %s@%s IDENTIFIED BY %s", (*who, order["password"]))
        changes[f"user {order['user']}"] = {"old": "another password", "new": "password set"}


def _grants(admin, order, changes):
    pattern = order["database"].replace("_", r"\_")
    found = _rows(
        admin,
        "SELECT 1 FROM mysql.db WHERE user = %s AND host = '%%' AND db IN (%s, %s)"
        " AND create_priv = 'Y' AND alter_priv = 'Y' AND insert_priv = 'Y'",
        order["user"],
        order["database"],
        pattern,
    )
    if not found:
        admin.cursor().execute(
            f"GRANT ALL PRIVILEGES ON {_name(order['database'])}.* TO %s@%s", (order["user"], "%")
        )
        changes[f"grants on {order['database']}"] = {"old": None, "new": f"all to {order['user']}"}


def _connect(order, user, password):
    return pymysql.connect(
        host=order["host"],
        port=int(order["port"]),
        user=user,
        password=password,
        connect_timeout=10,
        read_timeout=60,
        autocommit=True,
        # As with ssl_ca in the URL of Glance itself: certificate and host name are checked.
        ssl={"ca": order["ca"]} if order["ca"] else None,
    )


def _rows(connection, query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def _name(name):
    return "`" + name.replace("`", "``") + "`"


if __name__ == "__main__":
    order_file = pathlib.Path(__file__).with_name("database.json")
    answer = main(json.loads(order_file.read_text(encoding="utf-8")))
    print(json.dumps(answer))
    sys.exit(1 if "error" in answer else 0)
