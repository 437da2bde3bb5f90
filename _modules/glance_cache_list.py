"""
The images that every host keeps in its cache: found by name or id, and asked for where missing.
"""

import json
import re
import urllib.parse

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_cache_list"

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


def __virtual__():
    return __virtualname__


def find(settings):
    """
    Find the images of glance:glance_cache_images.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"ids": {id: bytes}, "faults": [sentences]}``; a name must be that of one image.
    """
    ids, faults = {}, []
    for name in settings["glance_cache_images"]:
        try:
            found = _images(settings, name)
        except CommandExecutionError as err:
            faults.append(str(err))
            if _UUID.match(name):
                ids[name] = 0  # kept as far as it is there
            continue
        active = [one for one in found if one["status"] == "active"]
        if len(active) == 1:
            ids[active[0]["id"]] = active[0]["size"]
        else:
            count = "no image is" if not active else f"{len(active)} images are"
            hint = "upload it, or take it off the list" if not active else "write its id there"
            faults.append(
                f"glance:glance_cache_images lists {name}, but {count} active under that name:"
                f" {hint}."
            )
    return {"ids": ids, "faults": faults}


def missing(ids, seen):
    """
    Which of them are neither in the cache nor on their way into it. Pure.

    ids
        Ids of images.
    seen
        What ``glance/files/cache.py`` saw.
    """
    there = {one["id"] for one in seen["files"]}
    there |= {one["id"] for one in seen["incomplete"] if one["open"]}
    return [one for one in ids if one not in there]


def crowded(ids, limit, text):
    """
    A sentence when they do not fit into the cache together, or None. Pure.

    ids
        ``{id: bytes}``.
    limit
        Bytes that the cache may hold.
    text
        Function: bytes -> text.
    """
    total = sum(ids.values())
    if total <= limit:
        return None
    return (
        f"The images of glance:glance_cache_images take {text(total)}, and the cache may hold"
        f" {text(limit)}: shorten the list, or raise glance:glance_cache_max_size."
    )


def request(settings, ids):
    """
    Ask this node's API to take images into its cache, which it does one after the other.

    settings
        Result of ``glance_settings.get``.
    ids
        Ids of images.

    Returns sentences on those that it does not take.
    """
    faults = []
    for one in ids:
        path = f"/v2/cache/{urllib.parse.quote(one, safe='')}"
        try:
            __salt__["glance_http.request"](settings, "caching", "PUT", path, expect=(202,))
        except CommandExecutionError as err:
            faults.append(str(err))
    return faults


def _images(settings, name):
    if _UUID.match(name):
        path = f"/v2/images/{urllib.parse.quote(name, safe='')}"
        answer = __salt__["glance_http.request"](settings, "show", "GET", path, expect=(200, 404))
        return [json.loads(answer["body"])] if answer["status"] == 200 else []
    # In quotes, for the sake of commas (glance: common/utils.py, split_filter_value_for_quotes).
    escaped = name.replace('"', '\\"')
    query = urllib.parse.urlencode({"name": f'in:"{escaped}"', "limit": 10})
    answer = __salt__["glance_http.request"](settings, "list", "GET", f"/v2/images?{query}")
    return json.loads(answer["body"])["images"]
