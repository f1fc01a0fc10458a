"""Two looks at processes, compared: rates, waits, quantiles, what is contended most, and processes that began anew."""

from io import StringIO

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from rich.console import Console

from muster.top.console import drawn
from muster.top.rates import HostMemory, Picture, compare, remembered
from muster.top.scrape import Scrape, parse


class Worker:
    """A process's metrics."""

    def __init__(self, target: str = "one") -> None:
        self.target = target
        self.registry = CollectorRegistry()
        self.lock = Histogram("muster_lock_wait_seconds", "", ["kind"], buckets=(0.1, 0.2, 0.4), registry=self.registry)
        self.queue = Histogram("muster_queue_seconds", "", ["coalescer"], registry=self.registry)
        self.items = Histogram("muster_batch_items", "", ["coalescer"], registry=self.registry)
        self.took = Histogram("muster_batch_seconds", "", ["coalescer"], registry=self.registry)
        self.queued = Gauge("muster_queue_items", "", ["coalescer"], registry=self.registry)
        self.states = Counter("muster_server_states_total", "", ["state"], registry=self.registry)
        self.requests = Counter("muster_requests_total", "", ["api", "method", "status"], registry=self.registry)

    def look(self, at_s: float) -> Scrape:
        return Scrape(self.target, at_s, parse(generate_latest(self.registry).decode()))


def test_rates_are_per_second_over_all_processes() -> None:
    workers = [Worker("one"), Worker("two")]
    for worker in workers:
        worker.requests.labels("compute", "POST", "202").inc(1_000)
    before = [worker.look(0.0) for worker in workers]
    workers[0].requests.labels("compute", "POST", "202").inc(10)
    workers[0].requests.labels("network", "GET", "200").inc(20)
    workers[1].states.labels("active").inc(8)
    workers[1].states.labels("error").inc(80)
    picture = compare(before, [worker.look(4.0) for worker in workers])
    assert [process.requests_per_s for process in picture.processes] == [7.5, 0.0]
    assert picture.active_per_s == 2.0


def test_what_most_wait_for_at_a_time_is_named() -> None:
    worker = Worker()
    before = [worker.look(0.0)]
    for _ in range(100):
        worker.lock.labels("subnet").observe(0.15)  # 15 s within 10 s
    worker.queue.labels("images").observe(2.0)  # a longer wait, of one
    picture = compare(before, [worker.look(10.0)])
    assert [wait.thing for wait in picture.waits] == ["lock subnet", "queue images"]
    most = picture.most_contended
    assert most is not None
    assert (most.thing, most.per_s) == ("lock subnet", 10.0)
    assert most.waiting == pytest.approx(1.5)
    assert most.mean_s == pytest.approx(0.15)


def test_quantiles_are_straight_lines_within_buckets_and_stop_at_the_last_bound() -> None:
    worker = Worker()
    before = [worker.look(0.0)]
    for seconds in [0.05] * 50 + [0.3] * 40 + [9.0] * 10:
        worker.lock.labels("subnet").observe(seconds)
    [wait] = compare(before, [worker.look(1.0)]).waits
    assert wait.p50_s == pytest.approx(0.1)
    assert wait.p99_s == pytest.approx(0.4)


def test_where_nothing_waits_nothing_is_named() -> None:
    worker = Worker()
    before = [worker.look(0.0)]
    worker.lock.labels("subnet").observe(0.01)
    assert compare(before, [worker.look(10.0)]).most_contended is None
    assert compare(before, before).most_contended is None


def test_batches_have_their_mean_size_and_what_waits_behind_them_now() -> None:
    worker = Worker()
    before = [worker.look(0.0)]
    for items in (1, 99):
        worker.items.labels("servers.create").observe(items)
        worker.took.labels("servers.create").observe(0.5)
    worker.queued.labels("servers.create").set(7)
    [batch] = compare(before, [worker.look(2.0)]).batches
    assert (batch.coalescer, batch.mean_items, batch.mean_s, batch.queued) == ("servers.create", 50, 0.5, 7)


def test_a_process_that_began_anew_counts_from_its_start() -> None:
    old, new = Worker(), Worker()
    old.requests.labels("compute", "GET", "200").inc(1_000)
    new.requests.labels("compute", "GET", "200").inc(4)
    assert _requests(compare([old.look(0.0)], [new.look(2.0)])) == 2.0


def test_a_process_that_is_silent_is_shown_with_its_reason_and_spoils_nothing() -> None:
    worker = Worker()
    before = [worker.look(0.0), Scrape("two", 0.0, error="Connection refused")]
    worker.requests.labels("compute", "GET", "200").inc(4)
    picture = compare(before, [worker.look(2.0), Scrape("two", 2.0, error="Connection refused")])
    assert _requests(picture) == 2.0
    assert picture.processes[1].error == "Connection refused"


def test_a_process_that_missed_a_look_counts_over_its_own_time() -> None:
    """All that it had counted in its life was taken for the last two seconds', and named as what is contended most."""
    missed, other = Worker("one"), Worker("two")
    for worker in (missed, other):
        worker.requests.labels("compute", "GET", "200").inc(1_000_000)
        for _ in range(1_000):
            worker.lock.labels("subnet").observe(100.0)
    first = [missed.look(0.0), other.look(0.0)]
    silent = [Scrape("one", 2.0, error="timed out"), other.look(2.0)]
    missed.requests.labels("compute", "GET", "200").inc(40)
    other.requests.labels("compute", "GET", "200").inc(20)
    picture = compare(remembered(first, silent), [missed.look(4.0), other.look(4.0)])
    assert [process.requests_per_s for process in picture.processes] == [10.0, 10.0]
    assert picture.most_contended is None


def test_a_process_that_answers_for_the_first_time_counts_from_the_next_look_on() -> None:
    known, new = Worker("one"), Worker("two")
    new.states.labels("active").inc(1_000)
    picture = compare([known.look(0.0), Scrape("two", 0.0, error="refused")], [known.look(2.0), new.look(2.0)])
    assert picture.active_per_s == 0.0


def _requests(picture: Picture) -> float:
    return picture.processes[0].requests_per_s


def test_an_ipv6_address_is_shown_whole() -> None:
    look = Worker("[fd00::1]:9100").look(0.0)
    console = Console(width=80, record=True, file=StringIO())
    console.print(drawn(compare([look], [look])))
    assert "[fd00::1]:9100" in console.export_text()


def test_phases_are_in_the_order_of_a_servers_life() -> None:
    registry = CollectorRegistry()
    phases = Histogram("muster_phase_seconds", "", ["step"], buckets=(1, 2, 4), registry=registry)
    before = [Scrape("one", 0.0, parse(generate_latest(registry).decode()))]
    for step, seconds in (("active", 3.0), ("placed", 0.5), ("placed", 1.5)):
        phases.labels(step).observe(seconds)
    picture = compare(before, [Scrape("one", 1.0, parse(generate_latest(registry).decode()))])
    assert [(phase.step, phase.mean_s) for phase in picture.phases] == [("placed", 1.0), ("active", 3.0)]


def test_hosts_with_the_least_memory_come_first_with_what_merging_saves_and_whether_boots_wait() -> None:
    looks = []
    for name, available, saved, held in (("roomy", 4_000, 0, 0), ("full", 100, 900, 1)):
        registry = CollectorRegistry()
        for metric, value in (
            ("muster_host_memory_available_bytes", available * 2**20),
            ("muster_ksm_saved_bytes", saved * 2**20),
            ("muster_ksm_running", held),
            ("muster_host_boots_held", held),
        ):
            Gauge(metric, "", ["host"], registry=registry).labels(name).set(value)
        looks.append(Scrape(name, 0.0, parse(generate_latest(registry).decode())))
    picture = compare(looks, looks)
    assert picture.hosts == [
        HostMemory(host="full", available_mib=100, saved_mib=900, merging=True, boots_held=True),
        HostMemory(host="roomy", available_mib=4_000, saved_mib=0, merging=False, boots_held=False),
    ]
    console = Console(width=80, record=True, file=StringIO())
    console.print(drawn(picture))
    [row] = [line for line in console.export_text().splitlines() if line.strip().startswith("full") and "wait" in line]
    assert row.split() == ["full", "100", "900", "on", "wait", "for", "memory"]
