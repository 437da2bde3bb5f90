"""
Register Glance in Keystone; runs inside a one-shot container, with openstacksdk of the image.

Reads its order from a file beside it: Keystone's URL and administrator, the steps to take, and the
names (ids, the new password) that the steps refer to. Prints one line of JSON:
``{"done": how many steps, "error": one sentence or null}``.
"""

import json
import pathlib
import sys

import openstack
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as errors


def main(order):
    names, done = dict(order["names"]), 0
    where = f"Keystone at {order['keystone']} (glance:{order['setting']})"
    try:
        identity = _connect(order).identity
        for step in order["steps"]:
            _take(identity, step, names)
            done += 1
    except auth_errors.SSLFailure:
        error = (
            f"The certificate of {where} is not trusted in the container: put its CA into"
            " glance:glance_ca_certificates and name the bundle in glance:openstack_cacert."
        )
    except (errors.HttpException, auth_errors.HttpError) as err:
        code = getattr(err, "status_code", None) or getattr(err, "http_status", None)
        what = order["steps"][done]["call"].replace("_", " ")
        reason = str(getattr(err, "details", None) or "no reason").rstrip(".")
        error = (
            f"{where} refuses to {what} (HTTP {code}, {reason}): check the rights of"
            " glance:keystone_admin_user."
        )
    except (errors.SDKException, auth_errors.ClientException) as err:
        error = f"{where} cannot be used from the container ({type(err).__name__})."
    else:
        error = None
    return {"done": done, "error": error}


def _connect(order):
    """A connection that reads no file and no environment, and keeps to the URL of the order."""
    url = f"{order['keystone']}/v3"
    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_type="password",
        auth={**order["admin"], "auth_url": url},
        identity_api_version="3",
        identity_endpoint_override=url,
        verify=order["cacert"] or True,
    )


def _take(identity, step, names):
    arguments = {
        name: value.format_map(names) if _is_name(value) else value
        for name, value in step["with"].items()
    }
    call = getattr(identity, step["call"])
    made = call(step["id"], **arguments) if step["id"] else call(**arguments)
    if step["gives"]:
        names[step["gives"]] = made.id


def _is_name(value):
    return isinstance(value, str) and value.startswith("{") and value.endswith("}")


if __name__ == "__main__":
    order_file = pathlib.Path(__file__).with_name("identity.json")
    answer = main(json.loads(order_file.read_text(encoding="utf-8")))
    print(json.dumps(answer))
    sys.exit(1 if answer["error"] else 0)
