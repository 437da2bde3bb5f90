"""Print which Glance an image holds, as one line of JSON.

Runs inside a throw-away container of the image, with any Python 3.8 or newer; imports nothing of
Glance, so that it is fast and works in an image that is broken otherwise.
"""

import glob
import json
import sys

VENV = "/var/lib/kolla/venv"


def main():
    """Look into Kolla's virtualenv first, then where this Python looks."""
    from importlib import metadata

    places = glob.glob(VENV + "/lib/python3*/site-packages") + sys.path
    for found in metadata.distributions(name="glance", path=places):
        print(json.dumps({"glance": found.version}))
        return 0
    print(json.dumps({"glance": None}))
    return 1


if __name__ == "__main__":
    sys.exit(main())
