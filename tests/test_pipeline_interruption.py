"""How commands end: Ctrl-C during a step that takes minutes, and several processes that train together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Thread

import pytest
from helpers import ROOT

from densereid.pipeline.cli import group
from densereid.pipeline.exit import leave_events_to_who_writes_them

_LONG_STEP = """
import hashlib, os, sys, threading
from densereid.pipeline import cli
from densereid.pipeline.cli import model_commands
def step():
    # C code that gives no instruction of Python's a turn, as the backward pass of a large network
    hashlib.pbkdf2_hmac("sha512", b"", b"", int(os.environ["ROUNDS"]))
def training(**request):
    os.write(2, b"begun\\n")
    if os.environ.get("FORKS"):
        if not os.fork():
            step()
            os._exit(0)
    step()
    raise SystemExit("it was not stopped")
model_commands.evaluate_command.callback = training
sys.argv = ["pipeline", "evaluate", "x"]
cli.main()
"""


def _start(**environment: object) -> subprocess.Popen[str]:
    """In a process group of its own, which Ctrl-C reaches whole, with SIGINT as a person at a terminal has it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LONG_STEP], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    time.sleep(0.2)  # it is in the step by now
    return process


@pytest.mark.parametrize("forks", ["", "1"])
def test_ctrl_c_during_a_long_step_is_answered_at_once_and_the_second_ends_it(forks: str) -> None:
    """A child that was forked gets the same Ctrl-C, and it is no second one."""
    process = _start(ROUNDS=10**9, FORKS=forks)  # minutes
    assert process.stderr is not None
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "stopping when what is under way has ended; Ctrl-C again stops at once\n"
    time.sleep(0.5)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - began < 30
    os.killpg(process.pid, signal.SIGKILL) if forks else None
    assert "interrupted; what is finished is kept. To continue: " in process.stderr.read()
    process.stderr.close()


def test_ctrl_c_once_ends_the_step_and_then_the_command() -> None:
    process = _start(ROUNDS=2 * 10**6)  # seconds
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=100)
    assert process.returncode == 130, message
    assert message.count("Ctrl-C again stops at once") == 1
    assert message.count("interrupted; what is finished is kept") == 1
    assert "Traceback" not in message


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_the_first_alone_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str
) -> None:
    """As torchrun starts them; a mistake is told by whoever meets it, with its number."""
    monkeypatch.setattr(group, "stop_at_once_when_interrupted_twice", lambda: None)
    monkeypatch.setattr("sys.stdout", sys.stdout)  # which the other processes close
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("sys.argv", ["pipeline", "catalog", "list"])
    with pytest.raises(SystemExit) as ended:
        group.main()
    assert ended.value.code == 0
    assert ("market" in capsys.readouterr().out) == (rank == "0")
    monkeypatch.setattr("sys.argv", ["pipeline", "train", "--model", "nothing"])
    with pytest.raises(SystemExit) as ended:
        group.main()
    assert ended.value.code == 1
    assert ("error: process 1: unknown model" in capsys.readouterr().err) == (rank == "1")


class _Refused(Thread):
    def run(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("module", "is_told"), [("tensorboard.summary.writer", False), ("elsewhere", True)])
def test_a_refusal_of_events_is_left_to_who_writes_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, is_told: bool
) -> None:
    """TensorBoard's thread ends with a traceback, and then the writer raises the same error again."""
    monkeypatch.setattr("threading.excepthook", None)
    leave_events_to_who_writes_them()
    thread = type("Writer", (_Refused,), {"__module__": module})()
    thread.start()
    thread.join()
    assert ("No space left on device" in capsys.readouterr().err) == is_told
