"""AWS's CLI for many calls: it is imported once, and each request on a socket gets a fork of it."""

import json
import os
import signal
import socket
import sys
import tempfile
import traceback

import awscli.clidriver
import awscli.handlers  # noqa: F401: each call would import them


def run(request):
    """Calls the CLI as its program does. Returns its exit status."""
    os.chdir(request["dir"])
    # Set by the import.
    data = {"AWS_DATA_PATH": os.environ["AWS_DATA_PATH"]}
    os.environ.clear()
    os.environ.update(data | request["env"])
    sys.argv = ["aws", *request["args"]]
    try:
        return awscli.clidriver.main()
    except SystemExit as end:
        # As Python's own exit: nothing is 0, a text is 1.
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1


def answer(connection):
    text = connection.makefile("rb").read()
    if not text:
        return
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = run(json.loads(text))
        sys.stdout.flush()
        sys.stderr.flush()
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode("utf-8", "replace"))
    outcome = {"code": code, "stdout": written[0], "stderr": written[1]}
    connection.sendall(json.dumps(outcome).encode())


listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
while True:
    connection, _ = listener.accept()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            answer(connection)
        finally:
            os._exit(0)
    connection.close()
