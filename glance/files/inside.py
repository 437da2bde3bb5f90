"""What the scripts that run inside the serving glance-api container have in common.

One line of JSON as the answer, with a deadline: {"error": "one sentence"}, never with a password,
if the work cannot be done or does not end.  They run as the container's user, so that they see
the service's configuration, files and processes.
"""

import json
import logging
import os
import re
import signal
import stat

MANY = 500  # ids in one question to the database

doing = "read its configuration"


def begin(what):
    """Say what is being done, for the error if it does not end."""
    global doing
    doing = what


def answer(who, seconds, work):
    """Do some work, print its result on the real standard output, and end the process.

    who: what the sentence of an error begins with.  seconds: after which it ends, whatever hangs.
    work: function without arguments; returns what JSON can hold.  It ends at once, without waiting
    for threads or connections.  Whatever libraries print goes to standard error.
    """
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.CRITICAL)

    def settle(result):
        answer_to.write(json.dumps(result) + "\n")
        answer_to.flush()
        os._exit(0)

    def too_late(*_):
        settle({"error": f"{who} could not {doing} within {seconds} seconds."})

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        settle(work())
    except Exception as error:  # whatever it is, the caller gets a sentence
        settle({"error": sentence(who, error)})


def sentence(who, error):
    """Return one sentence for an error, without credentials."""
    reason = getattr(error, "orig", None) or error
    args = getattr(reason, "args", ())
    if len(args) > 1 and isinstance(args[0], int):
        reason = f"{args[1]} (error {args[0]})"
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(reason).split())).rstrip(".")
    return f"{who} could not {doing}: {text or type(error).__name__}."


def configure(*programs):
    """Read the configuration as these programs of Glance do; return the options."""
    import glance.db.migration  # noqa: F401  (declares the options of the database)
    from glance.common import config
    from oslo_config import cfg

    files = []
    for program in programs:
        files += cfg.find_config_files(project="glance", prog=program)
    config.parse_args(args=[], default_config_files=files)
    # Glance itself would try for ever.
    config.CONF.set_override("max_retries", 1, group="database")
    return config.CONF


def held():
    """Return (device, inode) of every file that another process of this user has open."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.getuid() or int(pid) == os.getpid():
                continue
            for number in os.listdir(folder):
                try:
                    seen = os.stat(f"{folder}/{number}")
                except (FileNotFoundError, PermissionError):
                    # Closed meanwhile; or on a filesystem into which only its owner may look.
                    continue
                if stat.S_ISREG(seen.st_mode):
                    found.add((seen.st_dev, seen.st_ino))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    return found


def engine(conf):
    """Return a connection maker for Glance's database."""
    import sqlalchemy

    return sqlalchemy.create_engine(conf.database.connection)


def ask(link, query, **values):
    """Return the rows of a query."""
    import sqlalchemy

    return list(link.execute(sqlalchemy.text(query), values))


def images(link, ids):
    """Return {id: {"status", "size"}} of those ids that are images."""
    found, ids = {}, sorted(ids)
    for start in range(0, len(ids), MANY):
        some = {f"i{at}": one for at, one in enumerate(ids[start : start + MANY])}
        marks = ", ".join(f":{name}" for name in some)
        for row in ask(link, f"SELECT id, status, size FROM images WHERE id IN ({marks})", **some):
            found[row[0]] = {"status": row[1], "size": row[2]}
    return found
