import threading

import pytest

from xmodelkd_ros.node.worker import NewestWinsWorker


class Work:
    """Work that waits at a gate, and remembers what it got."""

    def __init__(self):
        self.begun, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.done, self.replaced, self.failed = [], [], []
        self.worker = NewestWinsWorker(self.work, self.replaced.append, lambda *failure: self.failed.append(failure))

    def work(self, item):
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        if item == "bad":
            raise ValueError("bad item")
        self.done.append(item)

    def open_gate(self):
        self.gate.release(1000)


@pytest.fixture
def work():
    work = Work()
    yield work
    work.open_gate()
    work.worker.stop()


def test_the_newest_waits_and_what_it_pushes_out_is_reported(work):
    work.worker.submit(0)
    assert work.begun.acquire(timeout=10)
    for item in (1, 2, 3):
        work.worker.submit(item)
    work.open_gate()
    work.worker.stop()
    assert work.done == [0, 3]
    assert work.replaced == [1, 2]


def test_there_may_be_more_places(work):
    work.worker.capacity = 2
    work.worker.submit(0)
    assert work.begun.acquire(timeout=10)
    for item in (1, 2, 3):
        work.worker.submit(item)
    assert work.worker.waiting == 2
    work.open_gate()
    work.worker.stop()
    assert (work.done, work.replaced) == ([0, 2, 3], [1])


def test_items_that_come_together_do_not_push_each_other_out(work):
    work.worker.submit(0)
    assert work.begun.acquire(timeout=10)
    work.worker.submit(1, 2)
    work.worker.submit()
    work.open_gate()
    work.worker.stop()
    assert (work.done, work.replaced) == ([0, 1, 2], [])


def test_a_failure_costs_its_own_item_only(work):
    work.open_gate()
    work.worker.submit("bad")
    assert work.begun.acquire(timeout=10)
    work.worker.submit("good")
    work.worker.stop()
    assert work.done == ["good"]
    assert [(item, str(error)) for item, error in work.failed] == [("bad", "bad item")]


def test_the_thread_outlives_a_report_that_fails(work, capsys):
    failing = NewestWinsWorker(work.work, work.replaced.append, lambda *_: 1 / 0)
    work.open_gate()
    failing.submit("bad")
    assert work.begun.acquire(timeout=10)
    failing.submit("good")
    failing.stop()
    assert work.done == ["good"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_stop_waits_for_the_item_at_work_and_the_one_that_waits(work):
    work.worker.submit(0)
    assert work.begun.acquire(timeout=10)
    work.worker.submit(1)
    stopping = threading.Thread(target=work.worker.stop)
    stopping.start()
    stopping.join(timeout=0.2)
    assert stopping.is_alive(), "it waits"
    work.open_gate()
    stopping.join(timeout=10)
    assert not stopping.is_alive()
    assert work.done == [0, 1]


def test_items_are_let_go_of_when_done(work):
    class Item:
        pass

    item = Item()
    gone = threading.Event()
    import weakref

    weakref.finalize(item, gone.set)
    worker = NewestWinsWorker(lambda item: None, work.replaced.append, lambda *_: None)
    worker.submit(item)
    del item
    assert gone.wait(timeout=10)
    worker.stop()
