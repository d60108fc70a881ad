"""A file is replaced whole or not at all."""

import os
import stat

import pytest

from llmops_lab.store.whole import replacing


def test_the_new_file_is_there_with_everyones_rights_and_nothing_beside_it(tmp_path):
    path = tmp_path / "told.json"
    for text in ("first", "second"):
        with replacing(path) as draft:
            draft.write_text(text)
            assert text == "first" or path.read_text() == "first"  # until it is done, readers have the old one
    umask = os.umask(0)
    os.umask(umask)
    assert path.read_text() == "second" and stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("problem", [OSError("no room"), KeyboardInterrupt()])
def test_what_goes_wrong_leaves_the_old_file_and_no_draft(tmp_path, problem):
    path = tmp_path / "told.json"
    path.write_text("old")
    with pytest.raises(type(problem)), replacing(path) as draft:
        draft.write_text("half of the n")
        raise problem
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_made(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "gone" / "told.json") as draft:
        draft.write_text("new")
    assert list(tmp_path.iterdir()) == []
