"""Mutated recordings of a killed recorder: recovered or rejected, without partial output."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, InvariantError, Limits, Target, ensure
from test.fuzz.targets.bags import mutate_message, short_drive
from xmodelkd_ros.bags.bag import BagReader, RawMessage
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recover import recover
from xmodelkd_ros.core.errors import XModelKDError

_NAME = "drive.mcap"


class _KilledError(Exception):
    """Stands for a kill signal, which would end this process too: flushed data is on disk, without a footer."""


class Recorded(NamedTuple):
    """File of a killed recorder, and its size in bytes and messages at each flush."""

    data: bytes
    flushes: tuple[tuple[int, int], ...]

    def messages_before(self, cut: int) -> int:
        """Number of messages that lie completely before ``cut`` bytes."""
        return max((messages for size, messages in self.flushes if size <= cut), default=0)


class Recover(FolderTarget):
    """``xmodelkd recover`` of folders with one or several truncated, mutated, exchanged, empty or missing files."""

    name = "recover"
    limits = Limits(seconds=5.0, memory=16 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        self._messages = list(short_drive())
        self._whole = self._recorded(self._messages)
        self._other = self._recorded(self._messages[3:][::-1]).data
        return self

    def _recorded(self, messages: Any) -> Recorded:
        """File of a recorder killed after its last flush: two chunks without index and footer."""
        place = self.folder / "recorder"
        flushes: list[tuple[int, int]] = []
        with suppress(_KilledError), BagWriter(place / _NAME, keep=True) as bag:
            for topic, msgtype in dict.fromkeys((topic, msgtype) for topic, msgtype, _, _ in messages):
                bag.add_topic(topic, msgtype, latched="static" in topic)
            for number, (topic, _, at_ns, data) in enumerate(messages):
                bag.write_raw(topic, at_ns, data)
                if number in (len(messages) // 2, len(messages) - 1):
                    bag.flush()
                    (left,) = place.rglob("*.mcap")
                    flushes.append((left.stat().st_size, number + 1))
            raise _KilledError
        data = left.read_bytes()
        shutil.rmtree(place)
        return Recorded(data, tuple(flushes))

    def seed_input(self) -> Any:
        return self.cut(len(self._whole.data))

    def cut(self, size: int) -> Any:
        """The first ``size`` bytes of the recording, and the number of messages that must be recovered."""
        return {_NAME: self._whole.data[:size]}, self._whole.messages_before(size)

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        """Files by name, and the number of messages that must be recovered; None unless only the end is missing."""
        least: int | None = None
        if mutator.chance(0.2):
            files, least = self.cut(mutator.below(len(self._whole.data) + 1))
        elif mutator.chance(0.25):
            messages = list(self._messages)
            mutate_message(mutator, messages)
            files = {_NAME: self._recorded(messages).data}
        else:
            files = self._several(mutator)
        return (files, least), sum(map(len, files.values()))

    def _several(self, mutator: Mutator) -> dict[str, bytes]:
        """Files of a split recording, one of them mutated, from another recording, or not a bag."""
        whole = self._whole.data
        files = {f"drive_{number}.mcap": whole for number in range(mutator.pick((1, 1, 1, 2, 3)))}
        name = mutator.pick(list(files))
        kind = mutator.below(8)
        if kind == 0:
            files[name] = self._other
        elif kind == 1:
            files[name] = self._other[: mutator.below(len(self._other))] + whole[mutator.below(len(whole)) :]
        elif kind == 2:
            files[name] = mutator.random.randbytes(mutator.below(4000))
        elif kind == 3:
            del files[name]
            files[mutator.pick(("drive.db3", "x.mcap/inside.txt", "metadata.yaml"))] = whole
        else:
            files[name] = mutator.mutate_bytes(files[name])
        return files

    def execute(self, value: Any) -> None:
        files, least = value
        left, out = self.folder / "left" / f"{_NAME}.unfinished-x", self.folder / "saved"
        for folder in (left, out):
            shutil.rmtree(folder, ignore_errors=True)
        left.mkdir(parents=True)
        for name, data in files.items():
            (left / name).parent.mkdir(exist_ok=True)
            (left / name).write_bytes(data)
        said: list[str] = []
        try:
            count = recover(left, out / _NAME, said.append)
        except XModelKDError as error:
            if least:
                raise InvariantError(f"{least} messages before the cut are refused") from error
            raise
        finally:
            self._check_left(out)
        for line in said:
            ensure(
                line.splitlines() == [line] and line.isprintable() and len(line) <= 600, "a note is not one short line"
            )
        self._check_saved(out / _NAME, count, least)

    @staticmethod
    def _check_left(out: Path) -> None:
        there = [file.name for file in out.iterdir()] if out.exists() else []
        ensure(there in ([], [_NAME]), f"partial output: {there}")

    def _check_saved(self, path: Path, count: int, least: int | None) -> None:
        with BagReader(path) as reader:
            saved = list(reader.raw())
            ensure(len(saved) == count, "the reported number of messages is wrong")
            if least is not None:
                ensure(count >= least, "a message before the cut is lost")
                expected = [RawMessage(topic, at_ns, data) for topic, _, at_ns, data in self._messages][:count]
                ensure(sorted(saved) == sorted(expected), "a message before the cut is changed or added")
            ensure(sum(1 for _ in reader.messages()) <= count, "more messages than were saved")
