"""Numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bayfed.serve.service import Service

BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends, in seconds."""


class Metrics:
    """One registry for each service, not the process's global one."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(service))
        self.seconds = Histogram(
            "bayfed_score_seconds",
            "From a request's last byte to the record on the disk.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.refused = Counter(
            "bayfed_refused", "Requests that were refused.", ["status"], registry=self._registry
        )

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """What the history and the queue say when they are asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        images = CounterMetricFamily("bayfed_images", "Images recorded.", labels=["decision"])
        reviews = CounterMetricFamily("bayfed_verdicts", "Parts judged.", labels=["verdict"])
        totals: dict[str, int] = {}
        verdicts: dict[str, int] = {}
        waiting = 0
        for (decision, verdict), number in self._service.history.tallies().items():
            totals[decision] = totals.get(decision, 0) + number
            if verdict:
                verdicts[verdict] = verdicts.get(verdict, 0) + number
            elif decision == "review":
                waiting += number
        for decision, number in sorted(totals.items()):
            images.add_metric([decision or "unreadable"], number)
        for verdict, number in sorted(verdicts.items()):
            reviews.add_metric([verdict], number)
        yield images
        yield reviews
        yield GaugeMetricFamily("bayfed_to_review", "Parts that a person is to decide.", waiting)
        depth = self._service.worker.depth
        yield GaugeMetricFamily("bayfed_queue", "Images waiting to be scored.", depth)
        product = GaugeMetricFamily("bayfed_product", "The model.", labels=["name", "revision"])
        model = self._service.worker.model
        product.add_metric([model.product.name, model.revision], 1)
        yield product
