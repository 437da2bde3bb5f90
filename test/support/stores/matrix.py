"""Which store is proved in images of which release: what the tests run, README's table of it."""

import yaml

from support import session

SOURCE = session.ROOT / "test" / "golden" / "stores.yaml"
BEGIN, END = "<!-- stores: test/golden/stores.yaml -->\n", "<!-- end of stores -->\n"


def read():
    """Return {store: {release: "run" or another text}}."""
    given = yaml.safe_load(SOURCE.read_text(encoding="utf8"))
    found = {}
    for store, ways in given["stores"].items():
        row = dict.fromkeys(given["releases"], given["default"])
        for way, releases in ways.items():
            row.update(dict.fromkeys(releases, way))
        found[store] = row
    return found


def releases():
    """Releases in which anything is run, the newest first."""
    rows = read().values()
    return sorted({one for row in rows for one, way in row.items() if way == "run"}, reverse=True)


def table():
    """The table for the README."""
    rows = read()
    names = list(next(iter(rows.values())))
    lines = ["| store | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {store} | " + " | ".join(row.values()) + " |" for store, row in rows.items()]
    return "\n".join(lines) + "\n"
