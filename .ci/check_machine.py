"""Say in one line what this machine lacks to build coordemu, and exit with 3; say nothing when it lacks nothing.

Written for any Python 3, so that an old one gets the line and not a syntax error.
"""

import os
import shutil
import sys
import sysconfig


def missing():
    """The one line, or an empty one."""
    if sys.version_info < (3, 11):
        return "Python 3.11 or later is needed, and {} is {}.{}".format(sys.executable, *sys.version_info[:2])
    if not sys.platform.startswith("linux"):
        return "Linux is needed (epoll, eventfd, futex), and this is {}".format(sys.platform)
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return "a C compiler is needed, and {} is not on the path (Debian: apt install gcc libc6-dev)".format(compiler)
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not os.path.exists(header):
        return "the C headers of Python are needed, not found: {} (Debian: apt install python3-dev)".format(header)
    try:
        for module in ("ensurepip", "venv"):
            __import__(module)
    except ImportError as error:
        return "{} is needed (Debian: apt install python3-venv)".format(error.name)
    return ""


line = missing()
if line:
    sys.stderr.write("coordemu: {}\n".format(line))
    sys.exit(3)
