"""What test/demo shows; every step ends the program with a sentence when it is not as promised."""

import hashlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.engines import Engine
from support.load_process import LoadProcess
from support.salt_call import SaltCall

ENGINE = 0  # the testbed's own, which holds the images
ADDRESS = "127.0.99.1"
URL = f"http://{ADDRESS}:9292"
SIZE = 64 * 1024 * 1024
KOLLA_OPEN_FILES = 1048576


def main():
    """Run the demo; returns the exit code."""
    with Engine(ENGINE).used() as engine, SaltCall(engine.url) as call:
        try:
            show(call)
        finally:
            clean(call, engine)
    print("\nAll of it held.")
    return 0


def show(call):
    """The story."""
    pillar = {
        "glance_api_image_full": "glance-api:2026.2",
        "glance_image_pull": "never",
        "api_interface_address": ADDRESS,
        "node_config": str(call.minion.root / "kolla"),
        "glance_api_workers": 4,
    }
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < KOLLA_OPEN_FILES:
        # This machine does not let containers open as many files as Kolla asks for.
        pillar["default_container_dimensions"] = {}

    title("Deploy: an empty pillar but for what this testbed is, and workers enough for a load")
    apply(call, pillar, expect_changes=True)

    title("Upload an image with the openstack client, download it, compare")
    folder = call.minion.root
    sent, back = folder / "sent.raw", folder / "back.raw"
    sent.write_bytes(os.urandom(SIZE))
    openstack("image", "create", "--file", sent, "--disk-format", "raw", "demo")
    openstack("image", "save", "--file", back, "demo")
    digests = [hashlib.sha512(path.read_bytes()).hexdigest() for path in (sent, back)]
    for path, digest in zip((sent, back), digests, strict=True):
        print(f"  {path.name}: {SIZE // 1024 // 1024} MiB, sha512 {digest[:32]}...")
    hold(digests[0] == digests[1], "the image came back with other bytes")

    title("Apply again: nothing to do")
    apply(call, pillar, expect_changes=False)

    title("Edit the pillar under load: the container is replaced by hand-over")
    with LoadProcess(URL, rate=25, kinds="lists,transfers", pause=1) as load:
        load.wait(requests=200)
        apply(call, {**pillar, "glance_logging_debug": "yes"}, expect_changes=True)
        report = load.stop()
    print(
        f"  {report['requests']} requests in {report['seconds']:.0f} s while it happened,"
        f" {report['failed']} failed, slowest {report['slowest']['seconds']:.2f} s,"
        f" {len(report['ledger'])} images compared"
    )
    hold(report["failed"] == 0, f"requests failed: {report['failures'][:3]}")
    hold(not report["stuck"], f"images are stuck: {report['stuck']}")

    title("One screen")
    print(call("glance_api.status", out="nested").stdout)


def apply(call, pillar, expect_changes):
    """Run state.apply glance and print a line for each state."""
    call.pillar({"glance": pillar})
    print("$ salt-call --local state.apply glance")
    began = time.monotonic()
    result = call("state.apply", "glance")
    for state in result.states:
        mark = "changed" if state.get("changes") else "ok"
        comment = str(state["comment"]).splitlines()[0]
        print(f"  {mark:8}{state['__id__']}: {comment}")
    changed = len(result.changed)
    print(f"  {changed or 'no'} changes, {time.monotonic() - began:.1f} s")
    hold(result.rc == 0, f"the state failed: {result.failed or result.stderr}")
    hold(bool(changed) == expect_changes, f"changed: {result.changed}")


def openstack(*arguments):
    """Run the real client against the trial's API, which has no Keystone."""
    print("$ openstack", *(getattr(one, "name", one) for one in arguments))
    environment = {**os.environ, "OS_AUTH_TYPE": "none", "OS_ENDPOINT": URL}
    client = Path(sys.executable).with_name("openstack")
    done = subprocess.run(
        [client, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    hold(done.returncode == 0, f"the client failed: {done.stderr}")


def clean(call, engine):
    """Take away what was deployed, with the formula's own words."""
    title("Remove it, images included")
    call.pillar({"glance": {"api_interface_address": ADDRESS, "glance_remove_data": "yes",
                            "node_config": str(call.minion.root / "kolla")}})  # fmt: skip
    print("$ salt-call --local state.apply glance.clean pillar='{glance: {confirm: glance}}'")
    result = call("state.apply", "glance.clean", pillar={"glance": {"confirm": "glance"}})
    hold(result.rc == 0, f"the state failed: {result.failed or result.stderr}")
    subprocess.run(
        ["docker", "-H", engine.url, "volume", "rm", "-f", "kolla_logs"],
        check=True,
        capture_output=True,
    )


def title(text):
    """Say what comes."""
    print(f"\n== {text}", flush=True)


def hold(condition, otherwise):
    """End the demo when a promise is broken."""
    if not condition:
        sys.exit(f"test/demo: {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
