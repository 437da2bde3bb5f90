"""What the expansion of a schema would make, and what one that was cut has made of it.

MariaDB and MySQL end a transaction with every statement that changes a table, and Glance's
revisions do not ask whether a table is there.  So an expansion that was cut between two statements
fails for ever with "already exists" (1050) or "duplicate column" (1060).  What it has made is known
from the revision itself, and as long as it holds nothing it can be taken away again.

Runs inside a one-shot container, beside schema.py.
"""

import io
from contextlib import contextmanager


def revisions(script, head, heads):
    """Return the revisions that lead from the heads of a database to a head, in their order."""
    applied, order = set(), []

    def walk(name, found, into):
        revision = script.get_revision(name)
        if revision.revision in found:
            return
        found.add(revision.revision)
        for parent in (*_names(revision.down_revision), *_names(revision.dependencies)):
            walk(parent, found, into)
        into.append(revision)

    for one in heads:
        walk(one, applied, [])
    walk(head, applied, order)
    return order


def needs_triggers(todo):
    """Whether a revision makes triggers, for which a server with a binary log is strict."""
    return any(
        "CREATE TRIGGER" in value
        for revision in todo
        for value in vars(revision.module).values()
        if isinstance(value, str)
    )


def objects(dialect, todo):
    """Return the tables, columns and indexes that revisions would make, in their order.

    Each as (kind, table, name, columns). None when a revision cannot be read without a database.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    made = []

    def table(what, **_more):
        made.append(("table", what.name, what.name, [column.name for column in what.columns]))

    def column(name, what, **_more):
        made.append(("column", str(name), what.name, []))

    def index(what, **_more):
        made.append(("index", what.table.name, what.name, []))

    # As for a script of statements: nothing is executed.
    context = MigrationContext.configure(
        dialect=dialect, opts={"as_sql": True, "output_buffer": io.StringIO()}
    )
    context.impl.create_table, context.impl.create_index = table, index
    context.impl.add_column = column
    try:
        with Operations.context(context):
            for revision in todo:
                revision.module.upgrade()
    except Exception:  # a revision may ask the database for anything
        return None
    # What belongs to a new table comes and goes with it.
    new = {one[1] for one in made if one[0] == "table"}
    return [one for one in made if one[0] == "table" or one[1] not in new]


def half_done(link, script, head, heads):
    """Return what a cut expansion has left in a database, or None.

    ``{"objects": [names], "repairable": bool, "remedy": sentence}``
    """
    found = _left(link, script, head, heads)
    if not found:
        return None
    faults = [fault for one in found if (fault := _fault(link, one, found))]
    names = [_name(one) for one in found]
    remedy = (
        "An expansion of the schema was cut, and what it has left is not as it left it, so nothing"
        f" was removed: {'; '.join(faults)}. Look at it; if nobody needs it, remove it with"
        f" {'; '.join(_statement(link.dialect, one) for one in reversed(found))}; and run the same"
        " command again."
    )
    return {"objects": names, "repairable": not faults, "remedy": remedy if faults else ""}


def repair(link, script, head, heads):
    """Take away what a cut expansion has left; return the names of it.

    Only after :func:`half_done` has said that it may.  Everything is locked and counted once more,
    so that nothing that was stored a moment ago is lost.
    """
    from sqlalchemy import text

    found = _left(link, script, head, heads)
    with _locked(link, sorted({one[1] for one in found})):
        if any(_holds(link, one) for one in found):
            raise RuntimeError("what a cut expansion has left is in use")
        for one in reversed(found):
            link.execute(text(_statement(link.dialect, one)))
    return [_name(one) for one in found]


def _left(link, script, head, heads):
    todo = revisions(script, head, heads)
    return [one for one in objects(link.dialect, todo) or [] if _exists(link, one)] if todo else []


def _exists(link, one):
    import sqlalchemy

    kind, table, name, _ = one
    look = sqlalchemy.inspect(link)
    if not look.has_table(table):
        return False
    if kind == "table":
        return True
    rows = look.get_columns(table) if kind == "column" else look.get_indexes(table)
    return name in [row["name"] for row in rows]


def _fault(link, one, found):
    """Why something must not be removed, or None."""
    import sqlalchemy

    kind, table, _, columns = one
    if kind == "table":
        look = sqlalchemy.inspect(link)
        if [column["name"] for column in look.get_columns(table)] != columns:
            return f"the table {table} has other columns"
        ours = {entry[1] for entry in found if entry[0] == "table"}
        for other in set(look.get_table_names()) - ours:
            if table in [key["referred_table"] for key in look.get_foreign_keys(other)]:
                return f"the table {other} refers to {table}"
    return _holds(link, one)


def _holds(link, one):
    """What something holds, or None."""
    from sqlalchemy import text

    kind, table, name, _ = one
    if kind == "index":
        return None
    quote = link.dialect.identifier_preparer.quote
    what = "*" if kind == "table" else quote(name)
    rows = link.execute(text(f"SELECT COUNT({what}) FROM {quote(table)}")).scalar()
    place = f"table {table} holds {rows} rows"
    if kind == "column":
        place = f"column {table}.{name} holds {rows} values"
    return f"the {place}" if rows else None


def _statement(dialect, one):
    quote = dialect.identifier_preparer.quote
    kind, table, name, _ = one
    if kind == "table":
        return f"DROP TABLE {quote(table)}"
    if kind == "column":
        return f"ALTER TABLE {quote(table)} DROP COLUMN {quote(name)}"
    where = f" ON {quote(table)}" if dialect.name == "mysql" else ""
    return f"DROP INDEX {quote(name)}{where}"


def _name(one):
    kind, table, name, _ = one
    return f"table {table}" if kind == "table" else f"{kind} {table}.{name}"


@contextmanager
def _locked(link, tables):
    from sqlalchemy import text

    if link.dialect.name != "mysql":
        yield
        return
    # Looking at the catalogue needs no lock; the tables that may be dropped do.
    names = ", ".join(f"{link.dialect.identifier_preparer.quote(one)} WRITE" for one in tables)
    link.execute(text(f"LOCK TABLES {names}"))
    try:
        yield
    finally:
        link.execute(text("UNLOCK TABLES"))


def _names(value):
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
