"""Texts that a database, a terminal or a page could not take, with those characters as escapes."""

from hypothesis import given
from hypothesis import strategies as st

from llmops_lab.escapes import encodable, inert, storable

TEXTS = st.text(st.characters(), max_size=400)  # lone surrogates too


@given(TEXTS)
def test_every_text_can_be_stored(text):
    assert "\x00" not in storable(text).encode("utf-8").decode("utf-8")
    assert encodable(text).encode("utf-8").decode("utf-8").count("\x00") == text.count("\x00")


@given(TEXTS)
def test_an_inert_text_holds_no_character_that_drives_a_terminal_or_turns_the_reading_direction(text):
    shown = inert(text)
    assert all(letter in "\t\n" or letter >= " " for letter in shown)
    assert not set(shown) & set("\x7f\x9b\u202a\u202e\u2066\u2069")
    shown.encode("utf-8")


def test_ordinary_text_stays_as_it_is_and_the_rest_can_be_read():
    for safe in (encodable, storable, inert):
        assert safe("grüße 🙂\tund\nZeilen") == "grüße 🙂\tund\nZeilen"
        assert safe("a\ud800b") == "a\\ud800b"
    assert storable("b\x00c") == inert("b\x00c") == "b\\x00c"
    assert inert("\x1b[2J \u202etxt.exe") == "\\x1b[2J \\u202etxt.exe"
