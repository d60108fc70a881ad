"""The service of a project: one at a time, found at its door, and gone with its home."""

import contextlib
import os
import shutil
import threading

import pytest

from llmops_lab.jobs import service


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "_IDLE_TICK", 0.2)
    (tmp_path / "home").mkdir()
    return service.Place(tmp_path / "home")


@contextlib.contextmanager
def waiting(door):
    """The service while it has nothing to do; gives its thread and what it has heard."""
    heard, idle = [], [600.0]
    thread = threading.Thread(target=service.keep, args=(door, heard.extend, lambda: idle[0]))
    thread.start()
    yield thread, heard
    idle[0] = 0.0
    thread.join()


def test_there_is_one_service_and_it_hears_who_knocks(place):
    with service.alone(place) as door, service.alone(place) as second:
        assert second is None and service.is_there(place)
        with waiting(door) as (_, heard):
            assert service.knock(place, {"job": "a"}) and service.knock(place, {"job": "b"})
        assert heard == [{"job": "a"}, {"job": "b"}]
    assert not service.is_there(place) and not service.knock(place, {})


def test_a_service_among_thousands_of_open_files_hears_who_knocks(place):
    with contextlib.ExitStack() as many:
        for _ in range(1100):
            many.enter_context(open(os.devnull))
        with service.alone(place) as door, waiting(door) as (_, heard):
            assert service.knock(place, {"job": "a"})
    assert heard == [{"job": "a"}]


def test_a_service_ends_soon_after_its_home_was_deleted(place):
    with service.alone(place) as door, waiting(door) as (thread, _):
        thread.join(0.5)
        assert thread.is_alive()
        shutil.rmtree(place.home)
        thread.join(20)
        assert not thread.is_alive()


def test_the_service_of_a_deleted_home_leaves_the_one_of_the_new_home_alone(place):
    with contextlib.ExitStack() as first:
        old, _ = first.enter_context(waiting(first.enter_context(service.alone(place))))
        shutil.rmtree(place.home)
        place.home.mkdir()
        with service.alone(place) as second:
            assert second is not None
            old.join(20)
            assert not old.is_alive(), "two services would start twice as many jobs at once"
            first.close()
            with waiting(second):
                assert service.knock(place, {"job": "a"})
    assert not service.is_there(place)
