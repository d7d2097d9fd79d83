"""A disk that fails under a running program and turns read-only, and can be repaired."""

import os
import shutil
import subprocess
from pathlib import Path


class FragileDisk:
    """A file system of its own that turns read-only at its first error, as ext4 does under many a server."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fragile"
        self.path.mkdir()
        self._image = folder / "image"
        with self._image.open("wb") as file:
            file.truncate(64 * 1024**2)

    def make(self) -> str:
        """Why there is none here; empty when there is one."""
        steps = (["mkfs.ext4", "-q", "-F", str(self._image)], self._mounting())
        if shutil.which("mkfs.ext4") is None or any(subprocess.run(step, check=False).returncode for step in steps):
            return "no ext4 on a loop device here"
        return "" if os.access(self._trigger, os.W_OK) else "no way to make this kernel's ext4 fail"

    def fail(self) -> None:
        """From now on it is read-only, for what is open, too: a remount would be refused while a ledger is open."""
        self._trigger.write_text("1")

    def repair(self) -> None:
        """Unmounted, checked, and mounted again."""
        self.close()
        # Another file: some mount namespace may still hold the old one, and it would come back as it was.
        self._image = shutil.copyfile(self._image, self._image.with_suffix(".repaired"))
        checked = subprocess.run(["e2fsck", "-fy", str(self._image)], check=False, capture_output=True, text=True)
        assert checked.returncode in (0, 1), checked.stdout
        subprocess.run(self._mounting(), check=True)

    def close(self) -> None:
        """No longer mounted."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)

    @property
    def _trigger(self) -> Path:
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(self.path)], check=True, capture_output=True, text=True
        )
        return Path("/sys/fs/ext4") / Path(device.stdout.strip()).name / "trigger_fs_error"

    def _mounting(self) -> list[str]:
        return ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path)]
