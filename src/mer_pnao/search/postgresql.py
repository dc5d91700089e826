"""A PostgreSQL server as the storage of a study, for workers on several machines."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mer_pnao.foundations.errors import InputError
from mer_pnao.search.storage_errors import failures_named, shown

_DRIVER = "postgresql+psycopg"
_KEY = "hashtextextended('mer-pnao search ' || :name, 0)"  # advisory locks have numbers for names
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}  # seconds, times


class ServerRegistry:
    """The workers of many machines: a session that holds its lock is a worker that lives. See WorkerRegistry."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._locked("study"):
            yield

    @contextmanager
    def register(self, worker: str) -> Iterator[Callable[[], None]]:
        with ExitStack() as sessions:
            session = sessions.enter_context(self._locked(worker))

            def renew() -> None:
                nonlocal session
                try:
                    session.execute(text("SELECT 1"))
                except DBAPIError:  # the session is gone, and the lock with it
                    session = sessions.enter_context(self._locked(worker))

            yield renew

    def is_alive(self, worker: str) -> bool:
        with self._session() as session:  # which gives the lock back when it ends
            return not session.execute(text(f"SELECT pg_try_advisory_lock({_KEY})"), {"name": worker}).scalar_one()

    @contextmanager
    def _locked(self, name: str) -> Iterator[Connection]:
        with self._session() as session:
            session.execute(text(f"SELECT pg_advisory_lock({_KEY})"), {"name": name})
            yield session

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            for name, value in _KEEPALIVE.items():  # so that a machine that lost its power is not alive for hours
                session.execute(text(f"SET {name} = {value}"))
            yield session


def open_server(url: str) -> tuple[RDBStorage, ServerRegistry]:
    """The storage on the server of a URL. Raises InputError when it cannot be used."""
    try:
        chosen = make_url(url)
    except ArgumentError as error:
        raise InputError("the storage is no URL like postgresql://user@host/database") from error
    if chosen.drivername not in ("postgresql", _DRIVER):
        raise InputError(f"the storage must be a {_DRIVER}:// URL, got one that starts with {chosen.drivername}://")
    chosen = chosen.set(drivername=_DRIVER)
    whole = chosen.render_as_string(hide_password=False)
    try:
        # A connection for each step and none between them costs little beside a round, and outlives a server's restart.
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": 10}}
        registry = ServerRegistry(create_engine(whole, **options))
        with failures_named(url), registry.exclusive():  # of two processes that make the tables at once, one would fail
            return RDBStorage(whole, engine_kwargs=options), registry
    except ModuleNotFoundError as error:
        raise InputError(f"{shown(url)} needs the package psycopg: `make dev` installs it") from error
