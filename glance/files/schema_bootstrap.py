"""Run commands of Glance on the configured database while nobody else changes its schema.

Runs inside a one-shot container, beside schema_change.py.  Its order is in a file beside it:
``commands`` (each a list of words) and ``patience`` (seconds to wait for somebody else who changes
the schema).  Ends with the code of the first command that fails; what they say is its output.

Kolla's own bootstrap (KOLLA_BOOTSTRAP) runs the same commands without the lock.
"""

import json
import pathlib
import subprocess
import sys

import schema
import schema_change


def main(order, url):
    """Run the commands and return the code to end with."""
    try:
        with schema_change.alone(url, order["patience"]):
            for command in order["commands"]:
                code = subprocess.run(command, check=False).returncode
                if code:
                    return code
    except schema.Refused as refused:
        print(f"{refused}.", file=sys.stderr)
        return 1
    except Exception as error:  # one of several libraries' errors
        print(schema.sentence(error, url), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    file = pathlib.Path(__file__).with_name("schema_bootstrap.json")
    sys.exit(main(json.loads(file.read_text(encoding="utf-8")), schema.connection()))
