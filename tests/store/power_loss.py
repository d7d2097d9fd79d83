"""Takes the power from the real ledger, at every write that it makes, again and again; and kills it there.

A program that uses the ledger runs once under strace: `writer.py` commits, `upkeep.py` migrates an older file and
prunes it. From their writes and syncs the disk is rebuilt as a power loss could leave it at each of them: all that was
synced, and of the rest nothing, any part, or any part with torn sectors; and as a kill leaves it, with all that was
written. Each image must open, be sound, hold everything that was acknowledged, and nothing by halves.

    python -m tests.store.power_loss --images 25000
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Final

import anyio

from controller.store.ledger import open_ledger
from tests.store import upkeep
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed

SECTOR_BYTES: Final = 512
UPKEEP_SHARE: Final = 10
"""Of the images, one in so many is of the upkeep: its file is larger, and its steps are few."""
_CALL: Final = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_TARGET: Final = re.compile(r"\d+<([^>]*)>")
_TEXT: Final = re.compile(r'"(.*)"')
_TEXTS: Final = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Write:
    """Bytes at an offset of a file; None bytes cut the file there."""

    file: str
    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        end = self.offset + len(self.data or b"")
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if self.data is None:
            del content[self.offset :]
        else:
            content[self.offset : end] = self.data

    def sectors(self) -> list["Write"]:
        data = self.data
        if data is None:
            return [self]
        return [
            Write(self.file, self.offset + at, data[at : at + SECTOR_BYTES]) for at in range(0, len(data), SECTOR_BYTES)
        ]


@dataclass(frozen=True)
class Sync:
    """Everything written to a file before this is durable; of a folder: its removals are."""

    file: str


@dataclass(frozen=True)
class Unlink:
    """A file is removed."""

    file: str


@dataclass(frozen=True)
class Rename:
    """A file takes the place of another."""

    file: str
    to: str


@dataclass(frozen=True)
class Ack:
    """The n-th step was acknowledged."""

    number: int


Operation = Write | Sync | Unlink | Rename | Ack


class Loss(Enum):
    """What is lost of what was written and not synced."""

    ALL = "all that may be lost"
    ANY = "any part"
    TORN = "any part, and sectors of the rest"
    NONE = "nothing: not the power went, the program was killed"


@dataclass(frozen=True, kw_only=True)
class Story:
    """A program that uses the ledger and acknowledges each of its steps, and how its file is judged."""

    program: tuple[str, ...]
    """Module and arguments; the file's path comes between the two."""
    acks_count: int
    begin: bytes
    """The file that is there at its start; empty for none."""
    stand: Callable[[Path], int]
    """How many steps the file holds; fails unless they are whole and the file is sound."""
    carry_on: Callable[[Path, int], Awaitable[None]]
    """The ledger itself must take the file, at that many steps, and go on."""


def record(folder: Path, story: Story) -> list[Operation]:
    """What the ledger asked of the disk, in order, while the story was told with a file in `folder`."""
    folder.mkdir()
    path, trace = folder / "live.db", folder.with_suffix(".trace")
    if story.begin:
        path.write_bytes(story.begin)
    module, *arguments = story.program
    calls = "pwrite64,write,ftruncate,fdatasync,fsync,/^(unlink|rename)"
    subprocess.run(
        [
            *("strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-o", str(trace), "-e", f"trace={calls}"),
            *(sys.executable, "-m", module, str(path), *arguments),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = _whole_lines(trace.read_text().splitlines())
    operations = [operation for line in lines if (operation := _operation(line, str(folder))) is not None]
    assert sum(isinstance(operation, Ack) for operation in operations) == story.acks_count, "the trace is not whole"
    return operations


def _whole_lines(lines: list[str]) -> Iterator[str]:
    """strace cuts a call in two when another thread calls meanwhile."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
        elif call.startswith("<..."):
            yield begun.pop(thread) + call.partition("resumed>")[2]
        else:
            yield call


def _operation(line: str, folder: str) -> Operation | None:
    found = _CALL.match(line)
    if found is None or int(found[3]) < 0:
        return None
    call, arguments = found[1], found[2]
    if call.startswith(("unlink", "rename")):
        files = [bytes.fromhex(text.replace("\\x", "")).decode() for text in _TEXTS.findall(arguments)]
        if not files[0].startswith(folder):
            return None
        return Unlink(files[0]) if call.startswith("unlink") else Rename(files[0], files[1])
    if call == "write" and arguments.startswith("1<"):
        said = _decoded(arguments)
        return Ack(int(said.split()[1])) if said.startswith(b"ACK ") else None
    target = _TARGET.match(arguments)
    file = bytes.fromhex(target[1].replace("\\x", "")).decode() if target else ""
    if not file.startswith(folder) or file.endswith(("-shm", ".lock")):
        return None
    if call in ("fdatasync", "fsync"):
        return Sync(file)
    if call == "ftruncate":
        return Write(file, int(arguments.rpartition(", ")[2]), None)
    assert call == "pwrite64", f"a write that the images do not know: {line[:80]}"
    return Write(file, int(arguments.rpartition(", ")[2]), _decoded(arguments))


def _decoded(arguments: str) -> bytes:
    text = _TEXT.search(arguments.partition(">")[2] or arguments)
    assert text is not None
    return bytes.fromhex(text[1].replace("\\x", ""))


@dataclass
class Disk:
    """What is safe, and what a power loss may take. Names and contents become safe each by their own sync."""

    folder: str
    names: dict[str, int] = field(default_factory=dict)
    """Each file by name, as programs see it: its number changes when it is removed and made again."""
    safe_names: dict[str, int] = field(default_factory=dict)
    loose_names: list[dict[str, int | None]] = field(default_factory=list)
    """Changes of names, each whole or not at all: None for a name that is gone."""
    safe: dict[int, bytearray] = field(default_factory=dict)
    loose: dict[int, list[Write]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0

    def put(self, file: str, content: bytes) -> None:
        """A file that was there before, and is safe."""
        self.safe[self._number(file)][:] = content
        self.take(Sync(self.folder))

    def take(self, operation: Operation) -> None:
        match operation:
            case Ack():
                self.acknowledged = operation.number
            case Unlink():
                self._change({operation.file: None})
            case Rename():
                self._change({operation.to: self.names[operation.file], operation.file: None})
            case Sync() if operation.file == self.folder:
                _rename(self.safe_names, self.loose_names)
                self.loose_names = []
            case Sync():
                number = self._number(operation.file)
                for write in self.loose.pop(number, []):
                    write.apply(self.safe[number])
            case Write():
                self.loose[self._number(operation.file)].append(operation)

    def _number(self, file: str) -> int:
        if file not in self.names:
            number = len(self.safe)
            self.safe[number] = bytearray()
            self._change({file: number})
        return self.names[file]

    def _change(self, names: dict[str, int | None]) -> None:
        _rename(self.names, [names])
        self.loose_names.append(names)

    def after(self, loss: Loss, rng: Random) -> dict[str, bytearray]:
        """One way in which the disk may come back.

        A folder comes back as it was at some moment since its last sync, as journalling file systems have it.
        """
        if loss is Loss.NONE:
            names = self.names
        else:
            names = dict(self.safe_names)
            _rename(names, self.loose_names[: 0 if loss is Loss.ALL else rng.randint(0, len(self.loose_names))])
        return {file: self._content(number, loss, rng) for file, number in names.items()}

    def _content(self, number: int, loss: Loss, rng: Random) -> bytearray:
        content = bytearray(self.safe[number])
        for write in self.loose.get(number, []):
            if loss is Loss.ALL or (loss is not Loss.NONE and rng.random() < 0.5):
                continue
            for part in write.sectors() if loss is Loss.TORN else [write]:
                if loss is not Loss.TORN or rng.random() < 0.7:
                    part.apply(content)
        return content


def _rename(names: dict[str, int], changes: list[dict[str, int | None]]) -> None:
    for name, number in (pair for change in changes for pair in change.items()):
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


async def reopened(path: Path, number: int) -> None:
    """The ledger itself must take the file, and go on with the next commit."""
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        assert (await ledger.meta()).published == number
        await ledger.commit(batch(number + 1))
    assert committed(path) == number + 1


def committing(commits: int) -> Story:
    """A new ledger, and that many commits."""
    return Story(
        program=("tests.store.writer", str(commits)),
        acks_count=commits,
        begin=b"",
        stand=lambda path: committed(path) if path.exists() else 0,
        carry_on=reopened,
    )


def keeping_up() -> Story:
    """An older ledger that is brought up to date, and pruned."""
    judge = upkeep.Judge()
    return Story(
        program=("tests.store.upkeep",),
        acks_count=upkeep.STEPS_COUNT,
        begin=judge.begin,
        stand=judge.stand,
        carry_on=judge.carry_on,
    )


def torture(
    operations: list[Operation], live: Path, story: Story, *, images: int, seed: int = 1, reopen_every: int = 100
) -> Counter[str]:
    """Check about that many images of `live`, and one of a kill at each sync; fails at the first not as promised."""
    told: Counter[str] = Counter(type(operation).__name__ for operation in operations)
    rng, disk, kinds = Random(seed), Disk(str(live)), cycle(Loss)
    if story.begin:
        disk.put(str(live / "live.db"), story.begin)
    variants = -(-images // len(operations))
    for place, operation in enumerate(operations):
        disk.take(operation)
        for loss in [*([] if isinstance(operation, Write) else [Loss.NONE]), *islice(kinds, variants)]:
            path = _lay_out(disk.after(loss, rng), live.with_name("image"))
            number = story.stand(path)
            assert disk.acknowledged <= number <= disk.acknowledged + 1, (
                f"operation {place}, seed {seed}, lost {loss.value}: {disk.acknowledged} acknowledged, {number} there"
            )
            told.update(("images", loss.name))
            if told["images"] % reopen_every == 0:
                anyio.run(story.carry_on, path, number)
                told["reopened"] += 1
    return told


def _lay_out(image: dict[str, bytearray], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, content in image.items():
        (folder / Path(file).name).write_bytes(content)
    return folder / "live.db"


def main() -> None:
    """Say what was tried and how long it took."""
    parser = argparse.ArgumentParser(prog="python -m tests.store.power_loss")
    parser.add_argument("--images", type=int, default=25_000)
    parser.add_argument("--commits", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    begun, total = time.monotonic(), 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name, story, images in (
            ("committing", committing(wanted.commits), wanted.images),
            ("keeping up", keeping_up(), wanted.images // UPKEEP_SHARE),
        ):
            live = Path(folder) / name.replace(" ", "-")
            told = torture(record(live, story), live, story, images=images, seed=wanted.seed)
            print(f"{name}: {told['images']} images, 0 acknowledged steps lost, 0 halves, 0 damaged; {dict(told)}")
            total += told["images"]
    print(f"{time.monotonic() - begun:.0f} s")
    # The first image that is not as it must be ends the run.
    print(f"{total} passed, 0 failed")


if __name__ == "__main__":
    main()
