"""Names against those that there are: a set of known ones, the nearest for another, no single word."""

from __future__ import annotations

import pytest

from coordemu.name_check import check_names


class Unknown(ValueError):
    """An error of the test's own."""


def test_known_names_are_a_set() -> None:
    assert check_names(["one", "two", "one"], {"one": "", "two": "", "three": ""}, "number", Unknown) == {"one", "two"}
    assert check_names((), {"one"}, "number", Unknown) == frozenset()


def test_another_is_told_the_nearest() -> None:
    with pytest.raises(Unknown, match=r"^no number is called 'thre'; did you mean 'three'[?]$"):
        check_names({"thre"}, ("one", "three"), "number", Unknown)
    with pytest.raises(Unknown, match="did you mean 'one'"):
        check_names({"xyz"}, ("one",), "number", Unknown)


def test_a_word_is_no_set_of_its_letters() -> None:
    with pytest.raises(Unknown, match="not the one word 'one'"):
        check_names("one", ("o", "n", "e"), "number", Unknown)
