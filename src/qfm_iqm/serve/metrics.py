"""Metrics of the service in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Metrics of one service, in their own registry, so that two services do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "qfm_requests_total", "Requests answered.", ["route", "code"], registry=self.registry
        )
        self.images = Counter(
            "qfm_images_total", "Images by outcome.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "qfm_request_seconds",
            "Time from a request's first byte to its response.",
            ["route"],
            buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.together = Histogram(
            "qfm_images_together",
            "Images scored together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Adds a gauge whose value is read on demand."""
        Gauge(name, about, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self.registry)
