"""How a command ends: exit codes, the words of a mistake, Ctrl-C once and twice."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from types import FrameType

import click

from densereid.pipeline.console import is_first_process, print_problem, print_status
from densereid.pipeline.invocation import this_command

EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130


def failed(problem: str, remedy: str) -> int:
    """Print what is wrong and what to do; the exit code."""
    which = "" if is_first_process() else f"process {os.environ['RANK']}: "
    click.echo(click.style("error: ", fg="red", bold=True), err=True, nl=False)
    print_problem(which + problem)
    if remedy:
        print_problem(remedy)
    return EXIT_ERROR


def explained(error: OSError) -> tuple[str, str]:
    """What is wrong and what to do where the system refused something, in its own words."""
    where = f": {error.filename}" if error.filename else ""
    problem = f"{error.strerror or error}{where}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return problem, (
            "you have no permission to write or read there: change that (`ls -ld` shows who has), or choose another "
            "folder with STORE_ROOT, RUN_ROOT or DATA_ROOT; what is finished is kept, and the same command continues"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem, "make room on that disk, then run the same command again; what is finished is kept"
    return problem, "what is finished is kept; run the same command again when that is mended"


def leave_events_to_who_writes_them() -> None:
    """Print no traceback of TensorBoard's thread: what a disk refused it is raised again where a run writes next."""

    def told(ended: threading.ExceptHookArgs) -> None:
        if not type(ended.thread).__module__.startswith("tensorboard."):
            threading.__excepthook__(ended)

    threading.excepthook = told


def interrupted() -> int:
    """Print the command that continues; the exit code."""
    print_status(_interruption())
    return EXIT_INTERRUPTED


def _interruption() -> str:
    return f"\ninterrupted; what is finished is kept. To continue: {this_command()}"


def stop_at_once_when_interrupted_twice() -> None:
    """The first Ctrl-C raises KeyboardInterrupt, so that what is under way can end; the second does not wait.

    Python's own code runs between two of its instructions alone, and a step of a large network is one of them, minutes
    long. So a thread answers: the C code of the signal wakes it by writing the signal's number to a socket.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # a job in the background ignores it, and stays so
    seen, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # or a child's Ctrl-C would count here
    unsaid = threading.Lock()

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda _number, _frame: None)  # the second one is the thread's
        _acknowledge(unsaid)
        raise KeyboardInterrupt

    threading.Thread(target=_answer, args=(seen, told, unsaid), name="Ctrl-C", daemon=True).start()
    signal.signal(signal.SIGINT, first)


def _answer(seen: socket.socket, told: socket.socket, unsaid: threading.Lock) -> None:
    """Say at once what becomes of the first Ctrl-C, and end the process at the second."""
    count = 0
    while told.fileno() >= 0:
        count += seen.recv(64).count(signal.SIGINT)
        if count:
            _acknowledge(unsaid)
        if count > 1:
            _write(f"{_interruption()}\n")
            os._exit(EXIT_INTERRUPTED)


def _acknowledge(unsaid: threading.Lock) -> None:
    """Once, from a signal's handler or from the thread."""
    if unsaid.acquire(blocking=False):
        _write("\nstopping when what is under way has ended; Ctrl-C again stops at once\n")


def _write(text: str) -> None:
    """Not print_status(): a signal may come in the middle of one."""
    if is_first_process():
        os.write(sys.stderr.fileno(), text.encode())
