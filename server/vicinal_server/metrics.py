"""What Prometheus sees; names are Qdrant's where the meaning is equal, so that its boards load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vicinal.types import CollectionInfo

__all__ = ["Metrics"]

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS: Final = ("method", "endpoint", "status")


class Metrics:
    """The service's counters in a registry of their own, so that two applications never share one.

    `collections` is asked at each scrape for the state of every collection.
    """

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, version: str, collections: Callable[[], Iterable[CollectionInfo]]) -> None:
        self._registry = CollectorRegistry()
        app = Gauge("app_info", "Name and version", ("name", "version"), registry=self._registry)
        app.labels("vicinal", version).set(1)
        self.in_flight = Gauge("vicinal_requests_in_flight", "Requests admitted", registry=self._registry)
        self._responses = Counter("rest_responses", "Responses", _LABELS, registry=self._registry)
        self._seconds = Histogram(
            "rest_responses_duration_seconds",
            "Time to answer",
            _LABELS,
            buckets=_BUCKETS,
            registry=self._registry,
        )
        memory = Gauge("memory_resident_bytes", "Resident memory", registry=self._registry)
        memory.set_function(_resident_bytes)
        self._registry.register(_Collections(collections))

    def record(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count one response; `endpoint` is the route's template, never the path itself."""
        self._responses.labels(method, endpoint, str(status)).inc()
        self._seconds.labels(method, endpoint, str(status)).observe(seconds)

    def render(self) -> bytes:
        """The text Prometheus scrapes."""
        return generate_latest(self._registry)


class _Collections(Collector):
    """Asks the database at scrape time: a count kept beside the truth would drift."""

    def __init__(self, collections: Callable[[], Iterable[CollectionInfo]]) -> None:
        self._collections = collections

    def describe(self) -> Iterable[Metric]:
        return ()  # without this the registry would scrape once at registration, before the database is open

    def collect(self) -> Iterator[Metric]:
        infos = list(self._collections())
        yield GaugeMetricFamily("collections_total", "Collections", value=len(infos))
        for name, text, field in (
            ("collection_points", "Points", "points"),
            ("collection_vectors", "Rows of vectors, old versions included", "slots"),
            ("collection_indexed_vectors", "Rows in the graph", "indexed"),
            ("vicinal_tail_rows", "Rows committed and not yet in the graph", "tail"),
            ("vicinal_disk_bytes", "Bytes on disk", "disk_bytes"),
            ("vicinal_memory_bytes", "Bytes of arrays in memory", "memory_bytes"),
        ):
            family = GaugeMetricFamily(name, text, labels=("id",))
            for info in infos:
                family.add_metric((info.name,), float(getattr(info, field)))
            yield family


def _resident_bytes() -> float:
    """Resident set size; 0 where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
