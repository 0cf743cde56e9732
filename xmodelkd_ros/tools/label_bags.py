"""``xmodelkd label`` on many bags: by processes of this machine or by a Ray cluster, resumable, with a summary."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xmodelkd_ros.bags.bag import STORAGE_SUFFIXES
from xmodelkd_ros.core.atomic_write import atomic_file, make_folder
from xmodelkd_ros.core.errors import ConfigError, XModelKDError, listed, one_line
from xmodelkd_ros.inference.cpu import cores
from xmodelkd_ros.tools.label import BAG_NAME, BagLabeller, LabelOptions
from xmodelkd_ros.tools.label_report import write_summary

_LOCK = ".lock"


@dataclass(frozen=True)
class Outcome:
    """What became of a bag.

    Attributes:
        bag: its path.
        summary: of its labels; None if it failed.
        error: why it failed.
        skipped: whether it had been labelled before.
    """

    bag: str
    summary: dict[str, Any] | None = None
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class _Task:
    """A bag to label.

    Attributes:
        bag: its path.
        out: the labelled bag or folder; its summary lies beside it.
        options: how.
    """

    bag: Path
    out: Path
    options: LabelOptions

    @property
    def record(self) -> Path:
        """The file of the summary."""
        return self.out.with_name(f"{self.out.name}.json")


def label_bags(
    bags: Sequence[Path], out: Path, options: LabelOptions, jobs: int, ray_address: str = ""
) -> tuple[list[Outcome], Path]:
    """Label bags; what an earlier run has finished is skipped. Returns the outcomes, and the path of the summary.

    Args:
        bags: the bags.
        out: folder of the labelled bags and of ``summary.json`` and ``summary.html``.
        options: how.
        jobs: bags that are labelled at once.
        ray_address: of a Ray cluster, on which all paths must be the same; empty for processes of this machine.

    Raises:
        ConfigError: two bags have the same name, or would have the same file of boxes, or another process labels into
            the folder.
        XModelKDError: the model cannot be used.
    """
    if options.boxes and len(bags) > 1 and BAG_NAME not in options.boxes:
        example = Path(options.boxes).with_stem(f"{Path(options.boxes).stem}-{BAG_NAME}")
        raise ConfigError(f"--boxes {options.boxes} names one file for {len(bags)} bags; give --boxes '{example}'")
    make_folder(out)
    if options.boxes:
        make_folder(Path(options.boxes).parent)
    tasks = [_Task(bag, out / name, options) for bag, name in zip(bags, _names(bags, options.format), strict=True)]
    with _locked(out):
        for leftover in out.glob("*.unfinished-*"):  # of a killed run
            shutil.rmtree(leftover, ignore_errors=True)
        outcomes: dict[str, Outcome] = {}
        waiting = []
        for task in tasks:
            done = _finished(task)
            if done is None:
                waiting.append(task)
            else:
                outcomes[str(task.bag)] = _told(done, len(outcomes), len(tasks))
        run = _on_ray(ray_address) if ray_address else _in_processes if jobs > 1 else _one_by_one
        for outcome in run(waiting, jobs):
            outcomes[outcome.bag] = _told(outcome, len(outcomes), len(tasks))
        ordered = [outcomes[str(task.bag)] for task in tasks]
        return ordered, write_summary(out, [asdict(outcome) for outcome in ordered])


def _names(bags: Sequence[Path], form: str) -> list[str]:
    """Names of the outputs: of the bags, without their suffixes."""
    suffixes = tuple(STORAGE_SUFFIXES.values())
    names = [bag.stem if bag.suffix in suffixes else bag.name for bag in bags]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"several bags are called {listed(twice)}; label them into different folders")
    return [f"{name}.mcap" if form == "mcap" else name for name in names]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder."""
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another process labels bags into {folder}; wait for it, or choose another") from error
        yield
        with suppress(OSError):
            (folder / _LOCK).unlink()


def _finished(task: _Task) -> Outcome | None:
    """The outcome of an earlier run; None if the bag is not labelled yet."""
    if not task.out.exists():
        return None
    try:
        record = json.loads(task.record.read_text(encoding="utf-8"))
        same = record["settings"] == task.options.settings()
        summary = record["summary"]
    except (OSError, ValueError, KeyError, TypeError):
        return Outcome(str(task.bag), error=f"{task.out} exists, but its summary does not; remove it")
    if not same:
        return Outcome(str(task.bag), error=f"{task.out} was labelled with other options; remove it")
    return Outcome(str(task.bag), summary, skipped=True)


def _told(outcome: Outcome, before: int, total: int) -> Outcome:
    """Print a line about a bag."""
    name, number = Path(outcome.bag).name, f"[{before + 1}/{total}]"
    if outcome.summary is None:
        print(f"{number} {name}: failed: {outcome.error}", file=sys.stderr, flush=True)
        return outcome
    summary = outcome.summary
    rate = summary["sweeps"] / max(summary["seconds"]["total"], 1e-9)
    state = "labelled before" if outcome.skipped else f"{summary['seconds']['total']:.1f} s, {rate:.1f} sweeps a second"
    line = f"{number} {name}: {summary['sweeps']} sweeps, mean entropy {summary['entropy']:.2f}, {state}"
    print(line, flush=True)
    return outcome


def _label(labeller: Callable[[], BagLabeller], task: _Task) -> Outcome:
    """Label a bag; its summary is written before the labelled bag gets its name."""
    unfinished = task.out.with_name(f"{task.out.name}.unfinished-{os.getpid()}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished)
        summary = labeller().label(task.bag, unfinished / task.out.name)
        summary.out = str(task.out)
        record = {"settings": task.options.settings(), "summary": summary.to_dict()}
        with atomic_file(task.record) as path:
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (unfinished / task.out.name).rename(task.out)
        return Outcome(str(task.bag), record["summary"])
    except XModelKDError as error:
        return Outcome(str(task.bag), error=str(error))
    except OSError as error:
        return Outcome(str(task.bag), error=one_line(error))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


_labellers: dict[str, BagLabeller] = {}
"""The labeller of this process, by its options."""


def _own_labeller(options: LabelOptions) -> BagLabeller:
    key = repr(options)
    if key not in _labellers:
        _labellers.clear()
        _labellers[key] = BagLabeller(options)
    return _labellers[key]


def label_task(task: _Task) -> Outcome:
    """Label a bag in this process, with the model that it has loaded before."""
    return _label(lambda: _own_labeller(task.options), task)


def _label_elsewhere(task: _Task, models: Mapping[str, str]) -> Outcome:
    """Label a bag in a worker of a cluster, where the models lie in other folders."""
    run = task.options.run
    run = replace(run, model=models[run.model], student=models.get(run.student, run.student))
    return label_task(replace(task, options=replace(task.options, run=run)))


def _one_by_one(tasks: Sequence[_Task], jobs: int) -> Iterator[Outcome]:
    if tasks:
        _own_labeller(tasks[0].options)  # a model that cannot be used concerns all bags
    yield from map(label_task, tasks)


def _in_processes(tasks: Sequence[_Task], jobs: int) -> Iterator[Outcome]:
    """Label several bags at once; those whose process dies, which ends them all, are tried once more, one by one."""
    if tasks:
        BagLabeller(tasks[0].options)  # a model that cannot be used concerns all bags
    lost: list[_Task] = []
    yield from _in_pool(tasks, min(jobs, max(len(tasks), 1)), lost)
    for task in lost:
        again: list[_Task] = []
        yield from _in_pool([task], 1, again)
        for dead in again:
            yield Outcome(str(dead.bag), error="the process that labelled it died, twice; is the memory enough?")


def _in_pool(tasks: Sequence[_Task], workers: int, lost: list[_Task]) -> Iterator[Outcome]:
    """Label bags in a pool of processes; those without an outcome, since a process died, are added to ``lost``."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    for share in _shares_of_cores(workers):
        queue.put(share)
    with ProcessPoolExecutor(workers, context, _start_worker, (queue,)) as pool:
        futures = {pool.submit(label_task, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                lost.append(futures[future])


def _shares_of_cores(workers: int) -> list[list[int]]:
    """The cores of each worker."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    usable = allowed[: cores()]
    return [usable[k::workers] or usable for k in range(workers)]


def _start_worker(queue: Any) -> None:
    share = queue.get()
    if share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)


def _on_ray(address: str) -> Callable[[Sequence[_Task], int], Iterator[Outcome]]:
    """A way to label bags on a Ray cluster."""
    from xmodelkd_ros.tools.label_ray import on_ray

    def run(tasks: Sequence[_Task], jobs: int) -> Iterator[Outcome]:
        if not tasks:
            return
        given = tasks[0].options.run
        models = [given.model, given.student] if given.mode == "teacher" else [given.model]
        gpu = given.backend == "tensorrt"
        yield from on_ray(tasks, address, models, gpu, _label_elsewhere, lambda t, why: Outcome(str(t.bag), error=why))

    return run
