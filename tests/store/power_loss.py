"""Takes the power from the real ledger, at every write that it makes, again and again.

The writer runs once under strace. From its writes and syncs the disk is rebuilt as a power loss could leave it at each
of them: all that was synced, and of the rest nothing, any part, or any part with torn sectors. Each image must open,
be sound, hold every acknowledged commit, and none by halves.

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import anyio

from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed

SECTOR_BYTES: Final = 512
_CALL: Final = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_TARGET: Final = re.compile(r"\d+<([^>]*)>")
_TEXT: Final = re.compile(r'"(.*)"')


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
class Ack:
    """The n-th commit was acknowledged."""

    number: int


Operation = Write | Sync | Unlink | Ack


def record(folder: Path, *, commits: int) -> list[Operation]:
    """What the ledger asked of the disk, in order, while that many commits were made into `folder`."""
    folder.mkdir()
    trace = folder.with_suffix(".trace")
    calls = "pwrite64,write,ftruncate,fdatasync,fsync,unlink"
    subprocess.run(
        [
            *("strace", "-f", "-qq", "-y", "-xx", "-s", "100000", "-o", str(trace), "-e", f"trace={calls}"),
            *(sys.executable, "-m", "tests.store.writer", str(folder / "live.db"), str(commits)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = _whole_lines(trace.read_text().splitlines())
    operations = [operation for line in lines if (operation := _operation(line, str(folder))) is not None]
    assert sum(isinstance(operation, Ack) for operation in operations) == commits, "the trace is not whole"
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
    if call == "unlink":
        file = _decoded(arguments).decode()
        return Unlink(file) if file.startswith(folder) else None
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
    loose_names: list[tuple[str, int | None]] = field(default_factory=list)
    safe: dict[int, bytearray] = field(default_factory=dict)
    loose: dict[int, list[Write]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0

    def take(self, operation: Operation) -> None:
        match operation:
            case Ack():
                self.acknowledged = operation.number
            case Unlink():
                self.names.pop(operation.file, None)
                self.loose_names.append((operation.file, None))
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
            self.names[file] = number = len(self.safe)
            self.safe[number] = bytearray()
            self.loose_names.append((file, number))
        return self.names[file]

    def after_power_loss(self, rng: Random, variant: int) -> dict[str, bytearray]:
        """One way in which the disk may come back: variant 0 loses all it may, 1 any part, 2 tears sectors too.

        A folder comes back as it was at some moment since its last sync, as journalling file systems have it.
        """
        names = dict(self.safe_names)
        _rename(names, self.loose_names[: rng.randint(0, len(self.loose_names)) if variant else 0])
        return {file: self._content(number, rng, variant) for file, number in names.items()}

    def _content(self, number: int, rng: Random, variant: int) -> bytearray:
        content = bytearray(self.safe[number])
        for write in self.loose.get(number, []):
            if variant == 0 or rng.random() < 0.5:
                continue
            for part in write.sectors() if variant == 2 else [write]:
                if variant == 1 or rng.random() < 0.7:
                    part.apply(content)
        return content


def _rename(names: dict[str, int], changes: list[tuple[str, int | None]]) -> None:
    for file, number in changes:
        if number is None:
            names.pop(file, None)
        else:
            names[file] = number


async def reopened(path: Path, number: int) -> None:
    """The ledger itself must take the file, and go on with the next commit."""
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        assert (await ledger.meta()).published == number
        await ledger.commit(batch(number + 1))
    assert committed(path) == number + 1


def torture(
    operations: list[Operation], live: Path, *, images: int, seed: int = 1, reopen_every: int = 100
) -> Counter[str]:
    """Check about that many images of `live`; fails at the first that is not as promised."""
    told: Counter[str] = Counter(type(operation).__name__ for operation in operations)
    rng, disk = Random(seed), Disk(str(live))
    variants = -(-images // len(operations))
    for place, operation in enumerate(operations):
        disk.take(operation)
        for variant in range(variants):
            path = _lay_out(disk.after_power_loss(rng, variant % 3), live.with_name("image"))
            number = committed(path) if path.exists() else 0
            assert disk.acknowledged <= number <= disk.acknowledged + 1, (
                f"operation {place}, seed {seed}: {disk.acknowledged} acknowledged, {number} there"
            )
            told["images"] += 1
            if told["images"] % reopen_every == 0:
                anyio.run(reopened, path, number)
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
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        live = Path(folder) / "live"
        operations = record(live, commits=wanted.commits)
        told = torture(operations, live, images=wanted.images, seed=wanted.seed)
    print(f"{told['images']} images, 0 acknowledged commits lost, 0 halves, 0 damaged; {dict(told)}")
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
