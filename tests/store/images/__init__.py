"""Ledgers that earlier builds of the program left behind, one or more of each schema version (`README.md`)."""

import lzma
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """One file, named `v{schema version}-{commit}.db.xz`."""

    file: Path

    @property
    def name(self) -> str:
        return self.file.name.removesuffix(".db.xz")

    @property
    def version(self) -> int:
        return int(self.name.partition("-")[0].removeprefix("v"))

    def content(self) -> bytes:
        """The ledger's file."""
        return lzma.decompress(self.file.read_bytes())


IMAGES = sorted(map(Image, FOLDER.glob("v*.db.xz")), key=lambda image: (image.version, image.name))
