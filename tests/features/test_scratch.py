from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from bayfed.features.scratch import PREFIX, scratch_folder


def write_for_ever(parent: Path, told: Connection) -> None:
    with scratch_folder(parent) as folder:
        (folder / "block.npy").touch()
        told.send(folder)
        time.sleep(600)


def aged(folder: Path) -> Path:
    os.utime(folder, (0, 0))
    return folder


def left_in(parent: Path) -> list[Path]:
    return sorted(parent.glob(f"{PREFIX}*"))


def test_a_folder_is_gone_at_its_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "block.npy").touch()
        assert left_in(tmp_path) == [folder]
    assert left_in(tmp_path) == []


def test_what_a_killed_writer_has_left_is_removed_and_not_while_it_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # as no library need be loaded again
    listening, told = context.Pipe(duplex=False)
    writer = context.Process(target=write_for_ever, args=(tmp_path, told))
    writer.start()
    try:
        written = aged(listening.recv())
        with scratch_folder(tmp_path):
            assert written in left_in(tmp_path)
    finally:
        writer.kill()
        writer.join()
    assert left_in(tmp_path) == [written]
    with scratch_folder(tmp_path) as other:
        assert left_in(tmp_path) == [other]


def test_a_folder_that_has_no_lock_yet_is_left_alone_while_it_is_new(tmp_path: Path) -> None:
    new, old = tmp_path / f"{PREFIX}new", tmp_path / f"{PREFIX}old"
    new.mkdir()
    old.mkdir()
    aged(old)
    with scratch_folder(tmp_path) as own:
        assert left_in(tmp_path) == sorted([new, own])
