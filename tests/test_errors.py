"""Messages that fit on one line of any terminal."""

from brats_infer.errors import CaseError


def test_a_message_is_one_line_whatever_the_file_is_called() -> None:
    assert str(CaseError("a\nb\r\n\tc.nii.gz: is bad")) == "a b c.nii.gz: is bad"


def test_terminal_codes_and_broken_unicode_are_shown_not_sent() -> None:
    assert str(CaseError("\x1b[31mred\x07 \udcff")) == "\\x1b[31mred\\x07 \\udcff"


def test_letters_of_any_language_stay() -> None:
    assert str(CaseError("Müller 脳: fehlt …")) == "Müller 脳: fehlt …"
