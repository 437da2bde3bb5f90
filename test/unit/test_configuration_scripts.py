"""What the scripts of one-shot containers do before they need Glance: find, redact, refuse."""

import json
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from support.scripts import FILES, script

pytestmark = pytest.mark.one_host

prove, schema = script("prove"), script("schema")


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "glance.conf.d").mkdir()
    (tmp_path / "glance-api.conf").write_text("")
    return tmp_path


class Parser:
    """As much of oslo.config's parser as the proof needs."""

    def __init__(self, path, sections):
        self.path, self.sections = path, sections

    def parse(self):
        current = None
        for line in Path(self.path).read_text().splitlines():
            if line.startswith("["):
                current = self.sections.setdefault(line[1:-1], {})
            elif line:
                name, _, value = line.partition(" = ")
                current.setdefault(name, []).append(value)


@pytest.fixture
def proof(etc, monkeypatch):
    """A function: text of a configuration -> what the proof read of it."""
    cfg = types.SimpleNamespace(
        ConfigParser=Parser, ParseError=ValueError, NoSuchOptError=KeyError, Error=ValueError
    )
    monkeypatch.setitem(sys.modules, "oslo_config", types.SimpleNamespace(cfg=cfg))

    def read(text, name="glance-image-import.conf"):
        (etc / "glance.conf.d" / name).write_text(text)
        made = prove.Proof(str(etc))
        made.read()
        return made

    return read


def test_secrets_of_the_configuration_are_taken_out_of_findings(proof):
    made = proof(
        "[database]\nconnection = mysql://glance:c4n4ry1@db/glance\n"
        "[keystone_authtoken]\npassword = c4n4ry2\n"
        "[DEFAULT]\ntransport_url = rabbit://openstack:c4n4ry3@mq:5672//\n"
        "[vault]\nroot_token_id = c4n4ry4\n",
        "glance-secrets.conf",
    )
    made.add("it said c4n4ry1 and c4n4ry2, mysql://glance:c4n4ry1@db and\n c4n4ry3, c4n4ry4")
    assert made.findings == ["it said *** and ***, mysql://***@db and ***, ***"]


class Unread:
    """Options none of which can be read as its type."""

    def __call__(self, *_, **__):
        return self

    def __getitem__(self, _):
        return self

    def __getattr__(self, name):
        raise ValueError(f"{name} is not valid: no number")


@pytest.mark.parametrize(
    ("file", "shown"),
    [("glance-secrets.conf", "(hidden)"), ("glance-image-import.conf", "abc")],
)
def test_a_secret_of_the_wrong_type_is_not_shown(proof, monkeypatch, file, shown):
    made = proof("[vault]\nroot-token-id = abc\n", file)
    known = {"vault": {"root_token_id"}}
    monkeypatch.setattr(prove, "declared", lambda *_: (Unread(), known))
    assert prove.check_values(made, []) is False
    assert made.findings[0].startswith(f"[vault] root_token_id = {shown} is not valid:")


def test_a_login_in_a_url_is_taken_out_even_if_unknown(proof):
    made = proof("")
    made.add("no answer from http://user:pass@word@proxy:3128/")
    assert made.findings == ["no answer from http://***@proxy:3128/"]


def test_a_finding_is_noted_once(proof):
    made = proof("")
    made.add("one")
    made.add(" one\n")
    assert made.findings == ["one"]


HARMLESS = "[database]\nconnection = sqlite:////tmp/glance-proof/x\n"


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ("", None),
        ("[file]\nfilesystem_store_datadir = /tmp/glance-proof/file/x\n", None),
        ("[file]\nfilesystem_store_datadir = /var/lib/glance/images\n", "[file] filesystem_store"),
        ("[os_glance_staging_store]\nfilesystem_store_datadir = /x\n", "[os_glance_staging_store]"),
        ("[DEFAULT]\nimage_cache_dir = /var/lib/glance-cache\n", "[DEFAULT] image_cache_dir"),
        ("[DEFAULT]\nnode_staging_uri = file:///srv\n", "[DEFAULT] node_staging_uri"),
        ("[database]\nslave_connection = mysql://db/x\n", "[database] slave_connection"),
    ],
)
def test_nothing_is_loaded_that_could_touch_real_data(proof, more, finding):
    made = proof(HARMLESS + more)
    assert made.is_harmless() == (finding is None)
    assert [text.startswith(finding or "") for text in made.findings] == [True] * bool(finding)


@pytest.mark.parametrize("text", ["", "[database]\nmax_retries = -1\n"])
def test_no_database_is_not_a_throw_away_one(proof, text):
    made = proof(text)
    assert not made.is_harmless()
    assert made.findings == [
        "[database] connection is not a throw-away one, so nothing was loaded."
    ]


def test_the_reason_of_an_error_without_words_is_its_cause():
    try:
        try:
            raise OSError("object not found")
        except OSError:
            raise RuntimeError from None
    except RuntimeError as error:
        assert prove.reason_of(error) == "OSError: object not found"
    assert prove.reason_of(KeyError()) == "KeyError"
    assert prove.reason_of(ValueError("a line.\n")) == "ValueError: a line"


@pytest.fixture
def stores(monkeypatch):
    """A stand-in for glance_store, which makes stores as the real one does."""
    made = types.ModuleType("glance_store.multi_backend")
    made.seen = []

    def make(conf, entry, invoke_load=True, backend=None):
        made.seen.append(("made", backend))
        return backend

    def every(conf):
        for name in conf:
            yield made._load_multi_store(conf, "file", backend=name)

    made._load_multi_store, made._load_multi_stores = make, every
    package = types.ModuleType("glance_store")
    package.multi_backend = made
    monkeypatch.setitem(sys.modules, "glance_store", package)
    return made


def test_the_store_at_work_is_known(stores):
    proof = prove.Proof("/nowhere")
    prove.follow_stores(proof)
    known = [(name, proof.store) for name in stores._load_multi_stores(["archive", "rbd"])]
    assert known == [("archive", "archive"), ("rbd", "rbd")]
    assert stores.seen == [("made", "archive"), ("made", "rbd")]
    assert proof.store is None, "what fails later is not the fault of the last store"


class Refused(Exception):
    """As a database driver raises it, inside SQLAlchemy's own."""


def test_a_store_that_does_not_answer_is_told():
    told, answered = [], threading.Event()

    def give_up(sentence):
        told.append(sentence)
        answered.set()

    proof = prove.Proof("/nowhere")
    proof.store = "archive"
    prove.Watch(proof, give_up, limit=0.1).start()
    assert answered.wait(30)
    assert told == [
        "Glance does not load with this configuration, because the store archive has not answered"
        " for 0.1 seconds."
    ]


def test_a_database_that_is_silent_is_told(monkeypatch):
    monkeypatch.setattr(schema, "SILENT", 1)
    monkeypatch.setattr(schema, "connection", lambda: "mysql+pymysql://glance:x@db/glance")
    monkeypatch.setattr(schema, "look", lambda url: threading.Event().wait(30))
    assert schema.attempt(schema.look_in_time) == {
        "error": "The database mysql+pymysql://db/glance cannot be read: no answer within 1"
        " seconds."
    }


class Server:
    """A link to a MySQL server on which a connection holds a lock."""

    def __init__(self, **locks):
        self.locks = locks

    def execute(self, statement, values):
        assert str(statement) == "SELECT IS_USED_LOCK(:name)"
        return types.SimpleNamespace(scalar=lambda: self.locks.get(values["name"]))


def test_who_changes_the_schema_is_known_by_the_lock(monkeypatch):
    sqlalchemy = types.SimpleNamespace(text=str)
    monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)
    url = types.SimpleNamespace(database="glance")
    name = schema.lock(types.SimpleNamespace(name="mysql", url=url))
    assert name == "glance schema of glance"
    assert schema.owner(Server(**{name: 12}), name) == 12
    assert schema.owner(Server(**{"glance schema of other": 12}), name) is None
    url.database = "g" * 70
    assert len(schema.lock(types.SimpleNamespace(name="mysql", url=url))) == 64, "MySQL's limit"
    assert schema.lock(types.SimpleNamespace(name="sqlite", url=url)) is None
    assert schema.owner(None, None) is None, "nobody is asked"


@pytest.mark.parametrize(
    ("looks", "quiet", "changed_by", "waited"),
    [
        ([7, 7, None], 60, None, 4),
        ([7, 7, 7, 7, 7], 6, 7, 6),
        ([7], 0, 7, 0),
        ([None], 60, None, 0),
    ],
)
def test_the_look_is_repeated_until_nobody_changes_the_schema(
    monkeypatch, looks, quiet, changed_by, waited
):
    looks, clock = list(looks), types.SimpleNamespace(now=0)
    found = {"position": "current", "metadef_namespaces": 1, "images": 1}
    monkeypatch.setattr(schema, "attempt", lambda work: {**found, "changed_by": looks.pop(0)})
    sleep = types.SimpleNamespace(
        monotonic=lambda: clock.now,
        sleep=lambda seconds: setattr(clock, "now", clock.now + seconds),
    )
    monkeypatch.setattr(schema, "time", sleep)
    if quiet:
        monkeypatch.setenv("GLANCE_SCHEMA_CHANGE_WAIT", str(quiet))
    assert schema.main() == {**found, "changed_by": changed_by, "waited": waited}


def test_a_database_error_is_a_sentence_without_login():
    error = types.SimpleNamespace(orig=Refused(1045, "Access denied for user 'glance'"))
    assert schema.sentence(error, "mysql+pymysql://glance:s3cr%40t@db:3306/glance?ssl_ca=/x") == (
        "The database mysql+pymysql://db:3306/glance cannot be read: Access denied for user "
        "'glance' (error 1045)."
    )
    assert schema.sentence(OSError("no such\nfile."), "sqlite:////x") == (
        "The database sqlite:////x cannot be read: no such file."
    )


@pytest.mark.parametrize(
    ("work", "answer"),
    [
        ("print('noise') or url[:5]", "mysql"),
        ("1 / 0", {"error": "The database mysql://db/y is lost: division by zero."}),
        (
            "refuse('adm1n is no user of ' + url)",
            {"error": "*** is no user of mysql://x:***@db/y."},
        ),
    ],
)
def test_the_last_line_of_a_script_of_the_database_is_its_answer(work, answer):
    body = f"""
import schema

def refuse(text):
    raise schema.Refused(text)

schema.connection = lambda: "mysql://x:c4n4ry@db/y"
schema.answer(lambda: schema.attempt(lambda url: {work}, "is lost", ["adm1n"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", body], cwd=FILES, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == answer


def test_release_says_so_when_there_is_no_glance():
    done = subprocess.run(
        [sys.executable, "-S", FILES / "release.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["glance"] is None


@pytest.mark.parametrize("name", ["prove", "schema"])
def test_a_script_without_glance_still_answers_in_one_line(name):
    done = subprocess.run(
        # -S: without the libraries that happen to be installed beside this test
        [sys.executable, "-S", FILES / f"{name}.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    text = answer["error"] if name == "schema" else answer["findings"][0]
    assert "No module named" in text
    assert done.stdout.count("\n") == 1
