"""The one thread of a lab: urgency, the latest request wins, and what becomes of errors."""

import threading
import time

import pytest

from support.tiny_lab import LIMIT
from vae_plugin.widgets import worker as module
from vae_plugin.widgets.worker import Worker


class Gate:
    """Work that takes until it is let through."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.open.wait(LIMIT)


@pytest.fixture
def failures():
    return []


@pytest.fixture
def worker(failures):
    worker = Worker(failures.append)
    yield worker
    worker.stop()


@pytest.fixture
def gate(worker):
    """The worker is busy until the gate is opened."""
    gate = Gate()
    worker.request(gate)
    assert gate.entered.wait(LIMIT)
    yield gate
    gate.open.set()


def never():
    raise AssertionError("this was to be left alone")


def test_the_most_urgent_is_done_first(worker, gate):
    done = []
    worker.background(done.append(f"background {i}") for i in range(2))
    worker.request(lambda: done.append("request 0"))
    worker.request(lambda: done.append("request 1"))
    worker.live(lambda: done.append("live"), never)
    worker.settle(lambda: done.append("settle"), 0.0)
    gate.open.set()
    assert worker.wait(LIMIT)
    assert done == ["live", "request 0", "request 1", "settle", "background 0", "background 1"]


def test_of_live_requests_only_the_last_is_done_and_each_other_is_dropped_once(worker, gate):
    done, dropped = [], []
    for i in range(50):
        worker.live(lambda i=i: done.append(i), lambda i=i: dropped.append(i))
    assert dropped == list(range(49))
    gate.open.set()
    assert worker.wait(LIMIT)
    assert done == [49]
    assert dropped == list(range(49))


def test_a_live_request_that_was_begun_is_not_dropped(worker):
    gate, done = Gate(), []
    worker.live(gate, never)
    assert gate.entered.wait(LIMIT)
    assert not worker.live_waits()
    worker.live(lambda: done.append("next"), never)
    assert worker.live_waits()
    gate.open.set()
    assert worker.wait(LIMIT)
    assert done == ["next"]


def test_a_request_has_its_result_or_its_exception(worker, failures):
    assert worker.request(lambda: 7).result(LIMIT) == 7
    future = worker.request(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        future.result(LIMIT)
    assert worker.request(threading.get_ident).result(LIMIT) != threading.get_ident()
    assert failures == []  # those who hold the future are told


def test_what_settles_waits_for_quiet(worker):
    done = []
    worker.settle(lambda: done.append(("first", 0.0)), 3600.0)  # the next takes its place long before
    begin = time.monotonic()
    worker.settle(lambda: done.append(("second", time.monotonic() - begin)), 0.15)
    assert worker.wait(LIMIT)
    [(name, seconds)] = done
    assert name == "second"
    assert seconds >= 0.149


@pytest.mark.parametrize("here", [False, True])
def test_a_live_request_ends_the_quiet(worker, here):
    done = []
    worker.settle(lambda: done.append("settled"), 3600.0)
    worker.live(lambda: done.append("live"), never, here)
    assert worker.wait(60)  # nothing is left to settle
    assert done == ["live"]


def test_the_background_goes_on_one_step_at_a_time(worker):
    done = []

    def steps():
        for i in range(3):
            done.append(i)
            worker.request(lambda i=i: done.append(f"request {i}"))
            if i == 1:
                worker.live(lambda: done.append("live"), never)
            yield

    worker.background(steps())
    worker.background(done.append("later") for _ in range(1))
    assert worker.wait(LIMIT)
    assert done == [0, "request 0", 1, "live", "request 1", 2, "request 2", "later"]


def test_what_is_wanted_soon_goes_before_the_rest_of_the_background(worker):
    done = []

    def steps():
        for i in range(2):
            done.append(i)
            if i == 0:
                worker.background((done.append(f"soon {j}") for j in range(2)), soon=True)
            yield

    worker.background(steps())
    assert worker.wait(LIMIT)
    assert done == [0, "soon 0", "soon 1", 1]


def test_the_background_waits_for_what_settles(worker, gate):
    done = []
    worker.background(done.append("step") for _ in range(1))
    worker.settle(lambda: done.append("settled"), 0.05)
    gate.open.set()
    assert worker.wait(LIMIT)
    assert done == ["settled", "step"]


def test_here_is_the_thread_that_asks(worker):
    threads = []
    worker.live(lambda: threads.append((threading.get_ident(), worker.is_current_thread)), never, here=True)
    assert threads == [(threading.get_ident(), True)]
    assert not worker.is_current_thread


def test_here_is_the_workers_thread_while_that_is_busy(worker, gate):
    threads = []
    worker.live(lambda: threads.append(threading.get_ident()), never, here=True)
    assert threads == []
    gate.open.set()
    assert worker.wait(LIMIT)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_no_two_things_are_done_at_once(worker):
    running, most = [], []

    def work():
        running.append(1)
        most.append(len(running))
        time.sleep(0.001)
        running.pop()

    def hammer():
        for i in range(30):
            worker.live(work, lambda: None, here=i % 2 == 0)
            worker.request(work)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker.wait(LIMIT)
    assert len(most) >= 120
    assert max(most) == 1


def test_an_error_that_nobody_waits_for_is_told_and_work_goes_on(worker, failures):
    def steps():
        yield
        raise ValueError("step")

    def fails(word):
        raise ValueError(word)

    worker.live(lambda: fails("live"), never)
    assert worker.wait(LIMIT)
    worker.live(lambda: fails("here"), never, here=True)
    worker.settle(lambda: fails("settle"), 0.0)
    assert worker.wait(LIMIT)
    worker.background(steps())
    assert worker.wait(LIMIT)
    assert [str(error) for error in failures] == ["live", "here", "settle", "step"]
    assert worker.request(lambda: 1).result(LIMIT) == 1


def test_an_interrupt_in_the_thread_that_asks_leaves_the_worker_alive(worker):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.live(interrupted, never, here=True)
    assert worker.wait(LIMIT)
    assert worker.request(lambda: 1).result(LIMIT) == 1


def test_stop_cancels_what_waits_and_accepts_no_more(worker):
    gate, done = Gate(), []
    worker.request(gate)
    assert gate.entered.wait(LIMIT)
    waiting = worker.request(lambda: done.append("request"))
    worker.background(done.append("step") for _ in range(1))
    worker.settle(lambda: done.append("settled"), 0.0)
    thread = worker._thread
    waiting.add_done_callback(lambda _: gate.open.set())  # once it is cancelled
    worker.stop()
    assert not thread.is_alive()
    assert waiting.cancelled()
    worker.live(lambda: done.append("live"), never, here=True)
    worker.background(done.append("step") for _ in range(1))
    with pytest.raises(RuntimeError, match="closed"):
        worker.request(lambda: done.append("request")).result(LIMIT)
    assert worker.wait(LIMIT)
    assert done == []


def test_wait_gives_up_after_its_time(worker, gate):
    begin = time.monotonic()
    assert not worker.wait(0.05)
    assert time.monotonic() - begin > 0.04


def test_an_idle_thread_ends_and_another_begins(worker, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    first = worker.request(threading.current_thread).result(LIMIT)
    first.join(LIMIT)
    assert not first.is_alive()
    second = worker.request(threading.current_thread).result(LIMIT)
    assert second is not first


def test_what_settles_is_not_lost_when_the_idle_thread_ends(worker, monkeypatch):
    # The thread of the asker works across the end of the idle time, and what it leaves is not yet due.
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    done = []
    assert worker.request(lambda: True).result(LIMIT)

    def work():
        time.sleep(0.2)
        worker.settle(lambda: done.append("settled"), 0.1)

    worker.live(work, never, here=True)
    assert worker.wait(LIMIT)
    assert done == ["settled"]
