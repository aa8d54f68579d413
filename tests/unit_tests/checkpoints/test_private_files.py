"""The cache's folders and files: nobody else plants anything, and no crash, race or full disk leaves half a file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from langchain_qwen.checkpoints.private_files import (
    forget_unused,
    open_private,
    open_regular,
    private_folder,
    replacing,
)
from langchain_qwen.errors import IncompleteCheckpointError, UnsafeCacheError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def write(file: Path, content: bytes) -> None:
    with replacing(file) as stream:
        stream.write(content)


class TestFolders:
    def test_they_are_created_for_this_user_alone(self, tmp_path: Path) -> None:
        previous = os.umask(0)
        try:
            private_folder(tmp_path / "new" / "cache" / "packed")
        finally:
            os.umask(previous)
        assert mode(tmp_path / "new" / "cache") == mode(tmp_path / "new" / "cache" / "packed") == 0o700

    @pytest.mark.parametrize("place", ["cache", "cache/packed"])
    @pytest.mark.parametrize("rights", [0o770, 0o702, 0o777])
    def test_one_that_others_can_write_to_is_refused_with_what_to_do(
        self, tmp_path: Path, place: str, rights: int
    ) -> None:
        private_folder(tmp_path / "cache" / "packed")
        (tmp_path / place).chmod(rights)
        with pytest.raises(UnsafeCacheError, match=rf"chmod go-w {tmp_path / place}`.*LANGCHAIN_QWEN_CACHE"):
            private_folder(tmp_path / "cache" / "packed")

    @as_root
    @pytest.mark.parametrize("place", ["cache", "cache/packed"])
    def test_one_of_another_user_is_refused(self, tmp_path: Path, place: str) -> None:
        private_folder(tmp_path / "cache" / "packed")
        os.chown(tmp_path / place, 1234, -1)
        with pytest.raises(UnsafeCacheError, match=rf"{tmp_path / place} belongs to user 1234.*chown"):
            private_folder(tmp_path / "cache" / "packed")

    def test_others_may_read(self, tmp_path: Path) -> None:
        private_folder(tmp_path / "cache" / "packed")
        for place in ("cache", "cache/packed"):
            (tmp_path / place).chmod(0o755)
        private_folder(tmp_path / "cache" / "packed")

    def test_the_root_may_be_a_link_of_this_user_or_sticky(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "cache").symlink_to(tmp_path / "disk")
        private_folder(tmp_path / "cache" / "packed")
        assert (tmp_path / "disk" / "packed").is_dir()
        (tmp_path / "disk").chmod(0o1777)
        private_folder(tmp_path / "cache" / "packed")

    @as_root
    def test_a_link_of_another_user_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "cache").symlink_to(tmp_path / "disk")
        os.lchown(tmp_path / "cache", 1234, -1)
        with pytest.raises(UnsafeCacheError, match="belongs to user 1234"):
            private_folder(tmp_path / "cache" / "packed")

    def test_a_link_out_of_the_root_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "cache" / "packed").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UnsafeCacheError, match="is a link"):
            private_folder(tmp_path / "cache" / "packed")

    def test_a_file_in_place_of_a_folder_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("")
        with pytest.raises(OSError, match="cache"):
            private_folder(tmp_path / "cache" / "packed")


class TestReading:
    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("x")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        with pytest.raises(OSError, match="symbolic links"):
            open_private(tmp_path / "link")

    def test_a_pipe_or_device_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(IncompleteCheckpointError, match="no regular file"):
                open_regular(path)

    def test_a_file_that_others_can_write_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "file").chmod(0o664)
        with pytest.raises(UnsafeCacheError, match="can be written by other users"):
            open_private(tmp_path / "file")

    @as_root
    def test_a_file_of_another_user_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        os.chown(tmp_path / "file", 1234, -1)
        with pytest.raises(UnsafeCacheError, match="belongs to user 1234"):
            open_private(tmp_path / "file")


class TestWriting:
    def test_files_are_read_only_and_private(self, tmp_path: Path) -> None:
        write(tmp_path / "file", b"abc")
        assert (tmp_path / "file").read_bytes() == b"abc"
        assert mode(tmp_path / "file") == 0o400
        write(tmp_path / "file", b"def")
        assert (tmp_path / "file").read_bytes() == b"def"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    def test_a_link_in_its_place_is_replaced_and_its_target_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("mine")
        (tmp_path / "file").symlink_to(tmp_path / "target")
        write(tmp_path / "file", b"abc")
        assert (tmp_path / "target").read_text() == "mine"
        assert not (tmp_path / "file").is_symlink()

    @pytest.mark.parametrize("there", [False, True])
    def test_a_kill_in_the_middle_leaves_the_old_file_and_its_rest_is_cleaned(
        self, tmp_path: Path, there: bool
    ) -> None:
        if there:
            write(tmp_path / "file", b"old")
        for _ in range(3):
            done = run(
                """
                import os, signal, sys
                from pathlib import Path
                from langchain_qwen.checkpoints.private_files import replacing
                with replacing(Path(sys.argv[1])) as stream:
                    stream.write(bytes(100_000))
                    stream.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                """,
                tmp_path / "file",
            )
            assert done.returncode == -9, done.stderr
            assert len(list(tmp_path.glob("*.tmp"))) == 1  # that of the kill before is gone
        assert (tmp_path / "file").exists() == there
        if there:
            assert (tmp_path / "file").read_bytes() == b"old"
        write(tmp_path / "other", b"new")
        assert not list(tmp_path.glob("*.tmp"))

    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path) -> None:
        write(tmp_path / "file", b"old")
        done = run(
            """
            import resource, sys
            from pathlib import Path
            from langchain_qwen.checkpoints.private_files import replacing
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            try:
                with replacing(Path(sys.argv[1])) as stream:
                    stream.write(bytes(100_000))
            except OSError as error:
                print(type(error).__name__, error.errno)
            """,
            tmp_path / "file",
        )
        assert done.stdout.startswith("OSError"), done.stderr
        assert (tmp_path / "file").read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    @as_root
    def test_a_really_full_disk_leaves_the_old_file(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            write(disk / "file", b"old")
            with pytest.raises(OSError, match="No space left"):
                write(disk / "file", bytes(100_000))
            assert (disk / "file").read_bytes() == b"old"
            assert [entry.name for entry in disk.iterdir()] == ["file"]
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_writers_at_the_same_time_leave_one_whole_file(self, tmp_path: Path) -> None:
        code = """
        import sys
        from pathlib import Path
        from langchain_qwen.checkpoints.private_files import replacing
        for _ in range(60):
            with replacing(Path(sys.argv[1])) as stream:
                for _ in range(50):
                    stream.write(sys.argv[2].encode() * 1000)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "file")]
        writers = [subprocess.Popen([*command, letter], stderr=subprocess.PIPE, text=True) for letter in "abc"]
        deadline = time.monotonic() + 60
        while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
            if (tmp_path / "file").exists():
                content = (tmp_path / "file").read_bytes()
                assert content == content[:1] * 50_000
        assert [writer.communicate()[1] for writer in writers] == ["", "", ""]  # none has lost its file to another
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    def test_the_names_of_unfinished_files_do_not_depend_on_the_process_number(self, tmp_path: Path) -> None:
        # Containers that share a cache have the same numbers.
        with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as two:
            assert one.name != two.name
            one.write(b"1")
            two.write(b"2")
        assert (tmp_path / "file").read_bytes() == b"1"  # the first block ended last


class TestForgetting:
    def make(self, folder: Path, name: str, age: int, size: int = 10) -> Path:
        file = folder / f"{name}.safetensors"
        file.write_bytes(bytes(size))
        os.utime(file, (1e9 - age, 1e9 - age))
        return file

    def test_those_not_used_for_longest_make_room(self, tmp_path: Path) -> None:
        files = [self.make(tmp_path, str(age), age) for age in range(5)]
        forget_unused(tmp_path, 35)
        assert [file.exists() for file in files] == [True, True, True, False, False]

    def test_what_nobody_can_use_any_more_goes_first(self, tmp_path: Path) -> None:
        files = [self.make(tmp_path, name, age) for age, name in enumerate(["a-v1", "a-v2", "b-v2"])]
        forget_unused(tmp_path, 1000, lambda name: "v1" in name)
        assert [file.exists() for file in files] == [False, True, True]

    def test_the_latest_stays_even_where_it_is_too_large(self, tmp_path: Path) -> None:
        latest, older = self.make(tmp_path, "a", 0, 100), self.make(tmp_path, "b", 1)
        forget_unused(tmp_path, 50)
        assert latest.exists()
        assert not older.exists()

    def test_use_keeps_a_file(self, tmp_path: Path) -> None:
        used, unused = self.make(tmp_path, "a", 2), self.make(tmp_path, "b", 1)
        used.chmod(0o400)
        open_private(used).close()
        forget_unused(tmp_path, 10)
        assert used.exists()
        assert not unused.exists()

    def test_a_dangling_link_is_deleted_like_a_file(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a", 0)
        (tmp_path / "b.safetensors").symlink_to(tmp_path / "nothing")
        forget_unused(tmp_path, 10, lambda name: name.startswith("b"))
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
