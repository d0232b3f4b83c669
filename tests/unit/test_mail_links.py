"""Tokens of links in mails: nobody else can make one, no byte of one can be changed, none passes for another kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import SignatureError
from espial.mail_links import MailLinks, Reader, reader_of, seal, unseal

SECRET = b"0123456789abcdef0123456789abcdef"
READER = Reader("id:cust-1", "ada@example.com", "s-1", "email", "offers")
TOKEN = seal("u", READER, SECRET)


@given(st.lists(st.text(), max_size=6), st.binary(min_size=1, max_size=64))
def test_a_token_says_what_was_sealed(said, secret):
    """Whatever the texts, with the secret's successor before it too."""
    token = seal("c", said, secret)
    assert said == unseal("c", token, (b"the next one", secret))
    assert token.isascii()
    assert "/" not in token


@pytest.mark.parametrize("place", range(len(TOKEN)))
def test_no_byte_of_a_token_can_be_changed(place):
    """Not even to another spelling of the same bytes."""
    for other in ("A", "b", "7", "-", "_", "=", ".", "%", "é", "\x00", ""):
        changed = TOKEN[:place] + other + TOKEN[place + 1 :]
        if changed != TOKEN:
            with pytest.raises(SignatureError):
                unseal("u", changed, (SECRET,))


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_what_is_no_token_is_refused(text):
    """Whatever comes in a URL, SignatureError is the only way to fail."""
    with pytest.raises(SignatureError):
        unseal("u", text, (SECRET,))


def test_a_token_of_one_kind_is_none_of_another():
    """An unsubscribe link does not become a redirect."""
    for purpose in ("c", "o"):
        with pytest.raises(SignatureError):
            unseal(purpose, TOKEN, (SECRET,))


@pytest.mark.parametrize("secrets", [(), (b"",), (b"another stack's",)])
def test_without_its_secret_a_token_is_none(secrets):
    """Nothing is accepted without proof, an empty secret least of all."""
    with pytest.raises(SignatureError):
        unseal("u", TOKEN, secrets)
    with pytest.raises(SignatureError):
        unseal("u", seal("u", READER, b""), (b"",))


def test_links_name_their_reader_and_the_destination():
    """Each link opens to what it was made of."""
    links = MailLinks("https://pages.example.com", SECRET).to(READER)
    click = links.click("https://shop.example.com/?a=1&b=ü").removeprefix("https://pages.example.com/c/")
    assert (READER, "https://shop.example.com/?a=1&b=ü") == reader_of("c", unseal("c", click, (SECRET,)))
    opened = links.pixel().removeprefix("https://pages.example.com/o/").removesuffix(".gif")
    assert (READER, "") == reader_of("o", unseal("o", opened, (SECRET,)))


def test_a_token_of_another_version_is_refused():
    """Proven, but not what this version says."""
    with pytest.raises(SignatureError):
        reader_of("u", ["id:cust-1"])
