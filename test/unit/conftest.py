"""Fixtures of the unit tests."""

import ctypes
import os
import pathlib
import shutil
import tempfile

import pytest

NOBODY = 65534


@pytest.fixture
def squashed_share():
    """As root sees a share of an NFS server with root_squash: as nobody.

    ``(the folder of the images, a function that calls another one as that user)``.
    """
    share = pathlib.Path(tempfile.mkdtemp())
    images = share / "images"
    images.mkdir(mode=0o750)
    share.chmod(0o755)

    def squashed(do):
        libc = ctypes.CDLL(None)
        libc.setfsgid(NOBODY), libc.setfsuid(NOBODY)
        try:
            return do()
        finally:
            libc.setfsuid(0), libc.setfsgid(0)

    yield images, squashed
    os.chmod(images, 0o700)
    shutil.rmtree(share)
