"""The real HAProxy takes what is rendered for it."""

import subprocess

import pytest

from support import session
from support.docker_engine import archive

pytestmark = pytest.mark.cluster

GOLDEN = session.ROOT / "test" / "golden" / "haproxy"


@pytest.fixture(scope="module")
def certificates(haproxy, tmp_path_factory):
    """What the drop-ins name: HAProxy's own certificates, and the CA bundle of Kolla's image."""
    folder = tmp_path_factory.mktemp("certificates")
    names = [folder / name for name in ("cert", "key")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        + ["-subj", "/CN=cloud", "-out", names[0], "-keyout", names[1]],
        check=True,
        capture_output=True,
    )
    both = "".join(name.read_text() for name in names)
    files = {
        "/etc/haproxy/certificates/haproxy.pem": both,
        "/etc/haproxy/certificates/haproxy-internal.pem": both,
        "/etc/ssl/certs/ca-bundle.crt": names[0].read_text(),
    }
    haproxy.container.put_archive("/", archive(files))


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.cfg")), ids=lambda file: file.stem)
def test_haproxy_accepts_the_drop_in(haproxy, certificates, file):
    code, said = haproxy.check(file.read_text())
    assert code == 0, said
    assert "WARNING" not in said, said


def test_haproxy_refuses_a_wrong_one(haproxy):
    code, said = haproxy.check("frontend f\n    bind nowhere\n")
    assert code != 0 and "nowhere" in said
