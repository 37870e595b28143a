"""Build families of metrics: values by the texts of their labels."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from stream_server.delivery.meters import Histogram

QUANTILES = (0.5, 0.95, 1.0)

Labels = TypeVar("Labels", bound=tuple[str, ...])


def full(name: str) -> str:
    """Return the full name of a metric."""
    return f"stream_server_{name}"


def gauge(name: str, words: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return gauges(name, words, (), {(): value})


def gauges(name: str, words: str, labels: tuple[str, ...], values: Mapping[Labels, float]) -> Metric:
    """Return a gauge with a value for each combination of labels."""
    family = GaugeMetricFamily(full(name), words, labels=labels)
    for texts, value in values.items():
        family.add_metric(texts, value)
    return family


def counter(name: str, words: str, value: float) -> Metric:
    """Return a counter without labels."""
    return counters(name, words, (), {(): value})


def counters(name: str, words: str, labels: tuple[str, ...], values: Mapping[Labels, float]) -> Metric:
    """Return a counter with a value for each combination of labels."""
    family = CounterMetricFamily(full(name), words, labels=labels)
    for texts, value in values.items():
        family.add_metric(texts, value)
    return family


def histogram(name: str, words: str, labels: tuple[str, ...], values: Mapping[Labels, Histogram]) -> Metric:
    """Return a histogram for each combination of labels."""
    family = HistogramMetricFamily(full(name), words, labels=labels)
    for texts, value in values.items():
        family.add_metric(texts, value.buckets(), value.sum)
    return family


def summary(name: str, words: str, labels: tuple[str, ...], values: Mapping[Labels, Sequence[float]]) -> Metric:
    """Return the quantiles of the last values, in seconds. No count or sum of all values is kept."""
    family = SummaryMetricFamily(full(name), words, labels=labels)
    for texts, seconds in values.items():
        ordered = sorted(seconds)
        for quantile in QUANTILES if ordered else ():
            value = ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]
            named = dict(zip(labels, texts, strict=True))
            family.add_sample(full(name), named | {"quantile": str(quantile)}, value)
    return family
