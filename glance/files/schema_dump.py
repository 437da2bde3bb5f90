"""Save the configured database in a file, as it is at one instant, while it is in use.

Runs inside a one-shot container, beside schema.py; the folder that the file goes to is mounted at
/backup.  MariaDB and MySQL: SQL statements, which ``mysql DATABASE < FILE`` reads again.  SQLite: a
copy of the file.  The last line is JSON: ``file``, ``tables``, ``rows``, or ``error``.
"""

import os
import sqlite3
import time

import schema

FOLDER = "/backup"
ROWS = 200  # rows of one INSERT statement
BYTES = 512 * 1024  # after which a statement ends, whatever max_allowed_packet is
END = "-- complete"


def main(url):
    """Write the file and return the answer."""
    from sqlalchemy.engine import make_url

    os.umask(0o077)
    parsed = make_url(url)
    heads = schema.look(url)["heads_in_database"]
    kind = "sqlite" if parsed.get_backend_name() == "sqlite" else "sql"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"glance-{stamp}-{'+'.join(heads) or 'empty'}.{kind}"
    path = os.path.join(FOLDER, name)
    try:
        counted = (_sqlite if kind == "sqlite" else _mysql)(parsed, path)
    except OSError as err:  # those of the database are of another kind
        raise schema.Refused(f"The backup cannot be written: {err.strerror}") from err
    return {"file": name, **counted}


def _sqlite(parsed, path):
    source, target = sqlite3.connect(parsed.database), sqlite3.connect(path)
    with target:
        source.backup(target)
    tables = [row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    rows = sum(target.execute(f'SELECT COUNT(*) FROM "{one}"').fetchone()[0] for one in tables)
    target.close()
    return {"tables": len(tables), "rows": rows}


def _mysql(parsed, path):
    import pymysql
    from pymysql.cursors import SSCursor

    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    # No decoders: every value stays as the server writes it.
    raw = {"conv": pymysql.converters.encoders, "charset": "utf8mb4"}
    link = pymysql.connect(**{**arguments, **raw})
    with link, link.cursor(SSCursor) as cursor, open(path, "w", encoding="utf-8") as file:
        for statement in (
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION time_zone = '+00:00'",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        ):
            cursor.execute(statement)
        file.write(_head(parsed))
        query = "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'"
        tables = [row[0] for row in _all(cursor, query)]
        rows = 0
        for table in tables:
            created = _all(cursor, f"SHOW CREATE TABLE {_name(table)}")[0][1]
            file.write(f"DROP TABLE IF EXISTS {_name(table)};\n{created};\n")
            rows += _rows(link, cursor, table, file)
        for row in _all(cursor, "SHOW TRIGGERS"):
            created = _all(cursor, f"SHOW CREATE TRIGGER {_name(row[0])}")[0][2]
            file.write(f"DELIMITER ;;\n{created};;\nDELIMITER ;\n")
        file.write(f"SET FOREIGN_KEY_CHECKS = 1;\n{END}\n")
        file.flush()
        os.fsync(file.fileno())
    return {"tables": len(tables), "rows": rows}


def _head(parsed):
    name = parsed.database
    return (
        f"-- The database {name} of Glance. It is put back into an empty database, with every\n"
        "-- glance-api stopped:\n"
        f"--   mysql -e 'DROP DATABASE {_name(name)}; CREATE DATABASE {_name(name)}"
        " CHARACTER SET utf8mb3'\n"
        f"--   mysql {name} < THIS FILE\n"
        "SET NAMES utf8mb4;\n"
        "SET SESSION time_zone = '+00:00';\n"
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\n"
        "SET FOREIGN_KEY_CHECKS = 0;\n"
    )


def _rows(link, cursor, table, file):
    """Write the rows of a table, as they come from the server; return how many."""
    columns = [row[0] for row in _all(cursor, f"SHOW COLUMNS FROM {_name(table)}")]
    names = ", ".join(map(_name, columns))
    cursor.execute(f"SELECT {names} FROM {_name(table)}")
    begin = f"INSERT INTO {_name(table)} ({names}) VALUES\n"
    count, values, size = 0, [], 0
    for row in cursor.fetchall_unbuffered():
        values.append(f"({', '.join(map(link.literal, row))})")
        size += len(values[-1])
        count += 1
        if len(values) == ROWS or size > BYTES:
            file.write(begin + ",\n".join(values) + ";\n")
            values, size = [], 0
    if values:
        file.write(begin + ",\n".join(values) + ";\n")
    return count


def _all(cursor, query):
    cursor.execute(query)
    return cursor.fetchall()


def _name(name):
    return "`" + name.replace("`", "``") + "`"


if __name__ == "__main__":
    schema.answer(lambda: schema.attempt(main))
