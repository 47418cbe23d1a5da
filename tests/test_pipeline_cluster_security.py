"""Local Dask workers take work from the process that started them, and answer nobody else on the machine."""

from __future__ import annotations

import contextlib
import socket
import sys

import psutil
import pytest
from distributed import Client, Security

from densereid.data_catalog.errors import UserError
from densereid.pipeline.dask_cluster import shard_executor


def listening() -> dict[int, str]:
    """Port and address of every socket at which this process or one that it started listens."""
    here = psutil.Process()
    found = (
        connection for process in (here, *here.children(recursive=True)) for connection in process.net_connections()
    )
    return {each.laddr.port: each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}


def test_nobody_else_reaches_the_workers() -> None:
    """Another user of the machine could have them run code as ours: they answer to their own certificate alone."""
    before = set(listening())
    with shard_executor(workers=2, scheduler=None) as (executor, _):
        ports = {port: address for port, address in listening().items() if port not in before}
        assert executor is not None
        assert executor.submit(int, "7").result() == 7
        assert len(ports) >= 5  # of the scheduler, two workers and their two nannies
        assert set(ports.values()) == {"127.0.0.1"}
        for port in ports:
            assert not answers(port, b"GET /health HTTP/1.0\r\n\r\n")
            with pytest.raises(OSError, match=r"."):
                Client(f"tcp://127.0.0.1:{port}", timeout=0.5, set_as_default=False)
            with pytest.raises(OSError, match=r"."):  # another run's certificate
                Client(f"tls://127.0.0.1:{port}", security=Security.temporary(), timeout=0.5, set_as_default=False)


def answers(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):
            return connection.recv(1000) if b"HTTP" in connection.recv(4, socket.MSG_PEEK) else b""
        return b""


def test_without_the_package_for_certificates_local_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with (
        pytest.raises(UserError, match=r"local workers need the package cryptography(.|\n)*pip install cryptography"),
        shard_executor(workers=1, scheduler=None),
    ):
        pass
