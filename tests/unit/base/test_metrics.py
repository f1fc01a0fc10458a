"""Each metric is described where operators look for it."""

from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from muster.base import metrics

_PAGE = Path(__file__).parents[3] / "docs" / "subsystems" / "metrics.md"


def test_each_metric_is_in_the_documentation() -> None:
    found = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    text = _PAGE.read_text()
    assert found
    for metric in found:
        [family] = metric.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}`" in text, f"{name} is not in {_PAGE.name}"
