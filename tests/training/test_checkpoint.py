"""A checkpoint counts when it is whole; a folder of checkpoints belongs to one process at a time."""

import pytest

from llmops_lab.errors import BadInput
from llmops_lab.training import checkpoint


def made(work, step, *, sealed=True):
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 100)
    if sealed:
        checkpoint.seal(folder)
    return folder


def test_the_newest_whole_one_is_found_by_its_number(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None
    eight, ten = made(tmp_path, 8), made(tmp_path, 10)
    made(tmp_path, 12, sealed=False)
    assert checkpoint.newest(tmp_path) == ten and checkpoint.step_of(ten) == 10
    (ten / "weights").write_bytes(b"x" * 99)
    assert checkpoint.newest(tmp_path) == eight
    (eight / "sealed.json").write_text("{")
    assert checkpoint.newest(tmp_path) is None


def test_two_at_once_are_told_apart(tmp_path):
    with checkpoint.alone(tmp_path / "work"):
        with pytest.raises(BadInput, match="the very same tuning is running"), checkpoint.alone(tmp_path / "work"):
            pass
    with checkpoint.alone(tmp_path / "work"):
        pass
