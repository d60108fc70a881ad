"""What Prometheus may read: requests, times, tokens, cost, cache and errors, by release and by the key's name."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.records import Reply, Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RATES = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)


@dataclass
class Call:
    """One request as it went. ``status`` is ok or the code of the error; ``cache`` is hit, miss or off.

    ``usage`` and ``cost_usd`` are what it was billed, be there a reply or not; ``guessed`` where nobody told the tokens.
    """

    id: str
    began: float = field(default_factory=time.perf_counter)
    at: float = field(default_factory=time.time)
    key_id: str = ""
    key_name: str = ""
    release: str = ""
    version: str = ""
    stream: bool = False
    status: str = "ok"
    message: str = ""
    cache: str = "off"
    reply: Reply | None = None
    usage: Usage = field(default_factory=Usage)
    guessed: bool = False
    cost_usd: float = 0.0
    first_at: float | None = None
    seconds: float = 0.0

    @property
    def ttft_s(self) -> float | None:
        """Seconds to the first piece of a stream, as the caller saw it."""
        return None if self.first_at is None else self.first_at - self.began


@dataclass
class _Bound:
    """The counters of one release and key."""

    requests: dict[bool, Any]
    cache: dict[str, Any]
    seconds: Any
    ttft: Any
    rate: Any
    given: Any
    made: Any


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        # A line each for when a counter began would double the page, and nobody reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._serving: dict[str, tuple[str, str, str]] = {}
        self._bound: dict[tuple[str, str], _Bound] = {}
        names = ["release", "key"]

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"llmops_lab_{name}", text, [*names, *more], registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"llmops_lab_{name}", text, names, buckets=buckets, registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"llmops_lab_{name}", text, list(labels), registry=self._registry)

        self._requests = counter("requests", "Requests that have ended.", "stream")
        self._errors = counter("errors", "Requests that ended with an error, by its code.", "kind")
        self._cache = counter("cache", "Requests by what the cache did: hit, miss or off.", "result")
        self._tokens = counter("tokens", "Tokens of requests that reached a model; of those that broke off, by a guess.", "direction")
        self._cost = counter("cost_usd", "What was spent, as far as prices are known.")
        self._seconds = histogram("request_seconds", "From the request to the end of its answer.", _SECONDS)
        self._ttft = histogram("ttft_seconds", "From the request to the first piece of a streamed answer.", _SECONDS)
        self._rate = histogram("output_tokens_per_second", "Output tokens of a request by its time.", _RATES)
        self.in_flight = gauge("in_flight_requests", "Requests being answered now.")
        self._info = gauge("release_info", "1 for the version that answers now.", "release", "version", "digest")
        self._stuck = gauge("release_stuck", "1 while a newer version is wanted that cannot be served.", "release")

    def done(self, call: Call) -> None:
        """Count a request that has ended."""
        where = (call.release, call.key_name)
        mine = self._bound.get(where) or self._bind(where)
        mine.requests[call.stream].inc()
        mine.seconds.observe(call.seconds)
        if call.status != "ok":
            self._errors.labels(*where, call.status).inc()
        if call.cost_usd:
            self._cost.labels(*where).inc(call.cost_usd)
        if call.release:
            mine.cache[call.cache].inc()
        if call.first_at is not None:
            mine.ttft.observe(call.first_at - call.began)
        given, made = call.usage.input_tokens or 0, call.usage.output_tokens or 0
        mine.given.inc(given)
        mine.made.inc(made)
        if made and call.seconds > 0 and not call.guessed:
            mine.rate.observe(made / call.seconds)

    def _bind(self, where: tuple[str, str]) -> _Bound:
        # Looking up a label costs more than counting, so what every request counts is looked up once.
        made = self._bound[where] = _Bound(
            requests={stream: self._requests.labels(*where, str(stream).lower()) for stream in (False, True)},
            cache={result: self._cache.labels(*where, result) for result in ("hit", "miss", "off")},
            seconds=self._seconds.labels(*where),
            ttft=self._ttft.labels(*where),
            rate=self._rate.labels(*where),
            given=self._tokens.labels(*where, "input"),
            made=self._tokens.labels(*where, "output"),
        )
        return made

    def serving(self, release: str, version: str, digest: str) -> None:
        """Note the version that answers from now on."""
        if release in self._serving:
            self._info.remove(*self._serving[release])
        self._serving[release] = (release, version, digest[:12])
        self._info.labels(*self._serving[release]).set(1)
        self.stuck(release, False)

    def stuck(self, release: str, yes: bool) -> None:
        """Whether a newer version is wanted that cannot be served."""
        self._stuck.labels(release).set(1 if yes else 0)

    def pages(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
