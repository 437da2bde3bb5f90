"""Load the metadata definitions of this image into the configured database.

Runs inside a one-shot container of the image, beside schema_change.py, while nobody else changes
the schema.  What is there stays as it is.  The last line is JSON: ``loaded`` and ``missing``
(namespaces that the database lacked before, and lacks, wholly or in part, afterwards), or ``error``
(one sentence).
"""

import schema
import schema_change

PATIENCE = 60  # seconds to wait for somebody else who changes the schema


def main(url):
    """Load what is missing and return the answer."""
    with schema_change.alone(url, PATIENCE):
        before = after = schema.look(url)["metadefs_missing"]
        if before:
            from glance.cmd import manage

            manage.DbCommands().load_metadefs(merge=True)
            after = schema.look(url)["metadefs_missing"]
    return {"loaded": [one for one in before if one not in after], "missing": after}


if __name__ == "__main__":
    schema.answer(lambda: schema.attempt(main))
