"""The encoding of names and messages."""

import os
import sys


def use_utf8() -> None:
    """Starts this process anew in Python's UTF-8 mode where the locale has another encoding.

    Names of files would not be text there: neither tables nor messages could hold them.
    """
    if sys.getfilesystemencoding() != 'utf-8':
        os.execv(sys.executable, [sys.executable, '-X', 'utf8', *sys.orig_argv[1:]])
