import threading

import pytest

from xmodelkd_ros.node.worker import NewestWinsWorker


class Work:
    """Work that blocks at a gate, and records its items."""

    def __init__(self):
        self.started, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.done, self.replaced, self.failed = [], [], []
        self.worker = NewestWinsWorker(self.work, self.replaced.append, lambda *failure: self.failed.append(failure))

    def work(self, item):
        self.started.release()
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


@pytest.mark.parametrize(
    ("capacity", "submissions", "done", "replaced"),
    [
        pytest.param(1, [(1,), (2,), (3,)], [0, 3], [1, 2], id="the newest item replaces waiting ones"),
        pytest.param(2, [(1,), (2,), (3,)], [0, 2, 3], [1], id="a capacity above one"),
        pytest.param(1, [(1, 2), ()], [0, 1, 2], [], id="items submitted together do not replace each other"),
    ],
)
def test_queue_replaces_the_oldest_waiting_items(work, capacity, submissions, done, replaced):
    work.worker.capacity = capacity
    work.worker.submit(0)
    assert work.started.acquire(timeout=10)
    for items in submissions:
        work.worker.submit(*items)
    assert work.worker.waiting == len(done) - 1
    work.open_gate()
    work.worker.stop()
    assert (work.done, work.replaced) == (done, replaced)


def test_error_affects_its_own_item_only(work):
    work.open_gate()
    work.worker.submit("bad")
    assert work.started.acquire(timeout=10)
    work.worker.submit("good")
    work.worker.stop()
    assert work.done == ["good"]
    assert [(item, str(error)) for item, error in work.failed] == [("bad", "bad item")]


def test_thread_survives_an_error_of_the_error_callback(work, capsys):
    failing = NewestWinsWorker(work.work, work.replaced.append, lambda *_: 1 / 0)
    work.open_gate()
    failing.submit("bad")
    assert work.started.acquire(timeout=10)
    failing.submit("good")
    failing.stop()
    assert work.done == ["good"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_stop_waits_for_current_and_waiting_items(work):
    work.worker.submit(0)
    assert work.started.acquire(timeout=10)
    work.worker.submit(1)
    stopping = threading.Thread(target=work.worker.stop)
    stopping.start()
    stopping.join(timeout=0.2)
    assert stopping.is_alive(), "stop blocks"
    work.open_gate()
    stopping.join(timeout=10)
    assert not stopping.is_alive()
    assert work.done == [0, 1]


def test_releases_items_when_done(work):
    class Item:
        pass

    item = Item()
    released = threading.Event()
    import weakref

    weakref.finalize(item, released.set)
    worker = NewestWinsWorker(lambda item: None, work.replaced.append, lambda *_: None)
    worker.submit(item)
    del item
    assert released.wait(timeout=10)
    worker.stop()
