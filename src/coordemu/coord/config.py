"""Config: the module's options, their limits, and what changing one sets off.

Role: the head of the resize chain. A client's CONFIG SET reaches `Config.config_set` on the main thread; the value is
checked and stored, and only then is the one callable called that the option has: `on_workers_changed`,
`on_min_operation_workers_changed`, `on_conn_per_shard_changed`. What upstream does there for WORKERS is
`workers_setter`: first the thread pool, then COORDINATOR_TRIGGER, which ends at the connection pools; a resize policy
puts its own steps in that place. COORDINATOR_TRIGGER is a value passed in, as it is in upstream.

The arithmetic of the trigger is here too: `connections_per_shard`, and its share for one I/O thread.

Thread: main. Other threads may read a value (one attribute read). Upstream: src/config.c, src/coord/config.c.
Left out: FT.CONFIG's list of some hundred other options, CONFIG REWRITE, strings and booleans: every option here is a
number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

UINT32_MAX = 2**32 - 1
MAX_WORKERS = 16
MAX_WORKERS_NO_LIMITS = 8192

OnChanged = Callable[[int, int], object]


class ConfigError(ValueError):
    """An unknown name, or a value that the option does not take: one line, fit for an error reply. Nothing was
    changed.
    """


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its two names, its bounds (both included), what it is at first.

    most_no_limits: the upper bound when limits are off.  immutable: can be given at the start only.
    """

    name: str
    alias: str
    default: int
    least: int
    most: int
    most_no_limits: int
    immutable: bool = False

    def parse(self, value: int | str | bytes, limits: bool) -> int:
        """The value as a number. Raises ConfigError when it is none, or outside the bounds."""
        said = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        digits = said.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise ConfigError(f"{self.name}: {said[:40]!r} is not a whole number")
        number = int(said)
        most = self.most if limits else self.most_no_limits
        if not self.least <= number <= most:
            raise ConfigError(f"{self.name}: {number} is not within {self.least}..{most}")
        return number


OPTIONS: tuple[Option, ...] = (
    Option("WORKERS", "search-workers", 0, 0, MAX_WORKERS, MAX_WORKERS_NO_LIMITS),
    Option("MIN_OPERATION_WORKERS", "search-min-operation-workers", 4, 0, MAX_WORKERS, MAX_WORKERS_NO_LIMITS),
    Option("CONN_PER_SHARD", "search-conn-per-shard", 0, 0, UINT32_MAX, UINT32_MAX),
    Option("SEARCH_IO_THREADS", "search-io-threads", 1, 1, 256, 256, immutable=True),
    Option(
        "WORKERS_PRIORITY_BIAS_THRESHOLD",
        "search-workers-priority-bias-threshold",
        1,
        0,
        UINT32_MAX,
        UINT32_MAX,
        immutable=True,
    ),
    Option("TOPOLOGY_VALIDATION_TIMEOUT", "search-topology-validation-timeout", 30_000, 0, UINT32_MAX, UINT32_MAX),
    Option("CONNECT_TIMEOUT", "search-connect-timeout", 5_000, 0, UINT32_MAX, UINT32_MAX),
)

_BY_NAME = {spelling: option for option in OPTIONS for spelling in (option.name.lower(), option.alias)}


def find_option(name: str) -> Option:
    """The option of that name or alias, in any case. Raises ConfigError with the nearest name."""
    option = _BY_NAME.get(name.lower())
    if option is None:
        near = get_close_matches(name.lower(), _BY_NAME, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no option is called {name[:80]!r}{hint}")
    return option


class Config:
    """The values.

    workers: threads that run queries, 0..16.  min_operation_workers: at least so many while an operation such as an
    RDB load is under way, 0..16.  conn_per_shard: 0..4294967295 (upstream's bound for a number without one of its
    own); 0 means workers + 1.  search_io_threads: 1..256.  workers_priority_bias_threshold: tickets of the pool's
    high-priority queue, 0 or more.
    topology_validation_timeout_ms: 0 (no limit) or more.  connect_timeout_ms: 0 (no limit) or more.
    limits: False raises the bound of the two numbers of workers to 8192, for experiments.
    on_...: called with (old, new) after the new value has been stored and only if it differs. What one raises comes
    out of `config_set`, and the old value is put back: it must raise before it changes anything, or undo what it did.
    Raises ConfigError for a value out of its bounds.  Thread: main.  Upstream: RSConfig, src/config.h.
    """

    def __init__(
        self,
        *,
        workers: int = 0,
        min_operation_workers: int = 4,
        conn_per_shard: int = 0,
        search_io_threads: int = 1,
        workers_priority_bias_threshold: int = 1,
        topology_validation_timeout_ms: int = 30_000,
        connect_timeout_ms: int = 5_000,
        limits: bool = True,
        on_workers_changed: OnChanged | None = None,
        on_min_operation_workers_changed: OnChanged | None = None,
        on_conn_per_shard_changed: OnChanged | None = None,
    ) -> None:
        self.limits = limits
        self.on_workers_changed = on_workers_changed
        self.on_min_operation_workers_changed = on_min_operation_workers_changed
        self.on_conn_per_shard_changed = on_conn_per_shard_changed
        self._sets = 0
        self._refusals = 0
        given = (
            workers,
            min_operation_workers,
            conn_per_shard,
            search_io_threads,
            workers_priority_bias_threshold,
            topology_validation_timeout_ms,
            connect_timeout_ms,
        )
        self._values = {option.name: option.parse(value, limits) for option, value in zip(OPTIONS, given, strict=True)}

    def __repr__(self) -> str:
        return f"<Config {' '.join(f'{name}={value}' for name, value in self._values.items())}>"

    def statistics(self) -> dict[str, int]:
        """sets (values changed), refusals, and each option's value by name."""
        return {"sets": self._sets, "refusals": self._refusals, **self._values}

    @property
    def workers(self) -> int:
        """WORKERS. Upstream: numWorkerThreads."""
        return self._values["WORKERS"]

    @property
    def min_operation_workers(self) -> int:
        """MIN_OPERATION_WORKERS. Upstream: minOperationWorkers."""
        return self._values["MIN_OPERATION_WORKERS"]

    @property
    def conn_per_shard(self) -> int:
        """CONN_PER_SHARD; 0 means WORKERS + 1. Upstream: connPerShard."""
        return self._values["CONN_PER_SHARD"]

    @property
    def search_io_threads(self) -> int:
        """SEARCH_IO_THREADS: I/O runtimes, 1 or more. Upstream: coordinatorIOThreads."""
        return self._values["SEARCH_IO_THREADS"]

    @property
    def workers_priority_bias_threshold(self) -> int:
        """WORKERS_PRIORITY_BIAS_THRESHOLD. Upstream: highPriorityBiasNum."""
        return self._values["WORKERS_PRIORITY_BIAS_THRESHOLD"]

    @property
    def topology_validation_timeout_ms(self) -> int:
        """TOPOLOGY_VALIDATION_TIMEOUT, in ms; 0: no limit. Upstream: topologyValidationTimeoutMS."""
        return self._values["TOPOLOGY_VALIDATION_TIMEOUT"]

    @property
    def connect_timeout_ms(self) -> int:
        """CONNECT_TIMEOUT, in ms; 0: no limit. Bounds the handshake of a shard connection."""
        return self._values["CONNECT_TIMEOUT"]

    def config_get(self, pattern: str) -> dict[str, str]:
        """The options that the glob-style pattern matches, in any case, under the name that it matched (the alias
        first).

        "*" gives all by alias; a pattern that matches nothing gives an empty dict, as Redis does.
        Thread: main. Upstream: CONFIG GET, FT.CONFIG GET.
        """
        wanted = pattern.lower()
        found: dict[str, str] = {}
        for option in OPTIONS:
            if fnmatchcase(option.alias, wanted):
                found[option.alias] = str(self._values[option.name])
            elif fnmatchcase(option.name.lower(), wanted):
                found[option.name] = str(self._values[option.name])
        return found

    def config_set(self, name: str, value: int | str | bytes) -> None:
        """Store a value, then tell whoever carries it out. A value that is there already changes nothing and tells
        nobody.

        Raises ConfigError (unknown name, bad value, immutable option), or what the callable raises; nothing is
        changed then.
        Thread: main, with the module lock held.  May block: as long as the callable does; with upstream's setter
        before PR 7410 that is the incident.  Upstream: CONFIG SET, FT.CONFIG SET; set_workers and its neighbours in
        src/config.c.
        """
        try:
            option = find_option(name)
            number = option.parse(value, self.limits)
            old = self._values[option.name]
            if option.immutable:
                raise ConfigError(f"{option.name}: can't be changed while the server runs")
            if number == old:
                return
            self._values[option.name] = number
            try:
                self._tell(option.name, old, number)
            except BaseException:
                self._values[option.name] = old
                raise
        except Exception:
            self._refusals += 1
            raise
        self._sets += 1

    def _tell(self, name: str, old: int, new: int) -> None:
        told = {
            "WORKERS": self.on_workers_changed,
            "MIN_OPERATION_WORKERS": self.on_min_operation_workers_changed,
            "CONN_PER_SHARD": self.on_conn_per_shard_changed,
        }.get(name)
        if told is not None:
            told(old, new)


def workers_setter(set_num_workers: Callable[[], object], trigger: Callable[[], object]) -> OnChanged:
    """Upstream's order for `Config.on_workers_changed`: the value is stored already; then the thread pool, then the
    trigger.

    set_num_workers: workersThreadPool_SetNumWorkers.  trigger: COORDINATOR_TRIGGER.
    Upstream: setWorkThreads and set_workers, src/config.c.
    """

    def on_workers_changed(_old: int, _new: int) -> None:
        set_num_workers()
        trigger()

    return on_workers_changed


def connections_per_shard(config: Config) -> int:
    """Connections to every shard, over all I/O threads: CONN_PER_SHARD if that is not 0, else WORKERS + 1. At least 1.

    Upstream: triggerConnPerShard, src/coord/config.c.
    """
    return config.conn_per_shard or config.workers + 1


def connections_per_io_thread(config: Config) -> int:
    """One I/O thread's share of `connections_per_shard`: divided by SEARCH_IO_THREADS, rounded up. At least 1.

    Upstream: triggerConnPerShard, src/coord/config.c, and CEIL_DIV.
    """
    return -(-connections_per_shard(config) // config.search_io_threads)
