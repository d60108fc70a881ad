"""Every test of the ledger that asks for ``place`` runs twice: on a SQLite file, and on a real PostgreSQL server."""

import socket

import pytest

from llmops_lab.store._dialect import dialect_for
from llmops_lab.store.ledger import Ledger
from tests.postgres import PostgresServer, Unavailable

DEAD = f"{socket.gethostname()}:999999999:1"
"""A process of this host that does not run."""


@pytest.fixture(scope="session")
def postgres_server():
    try:
        server = PostgresServer().__enter__()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield server
    server.__exit__()


@pytest.fixture
def postgres(postgres_server):
    """The server; the databases that a test makes are dropped after it."""
    yield postgres_server
    postgres_server.drop_databases()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where an empty ledger goes: a path or a URL, as the setting ``ledger`` takes it."""
    if request.param == "sqlite":
        return str(tmp_path / "lab.db")
    return request.getfixturevalue("postgres").database()


@pytest.fixture
def opened():
    """Opens ledgers, each as another process would, and closes them."""
    ledgers = []

    def open_one(place, owner=None):
        ledger = Ledger(dialect_for(place))
        ledger.owner = owner or ledger.owner
        ledgers.append(ledger)
        return ledger

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened, place):
    return opened(place)
