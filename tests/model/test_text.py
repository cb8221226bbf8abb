"""The text: real, the same every time, and read from a zipped library too."""

import zipfile

import pytest
import torch

from pipelab.errors import UsageError
from pipelab.model.text import CHARACTERS, VOCABULARY, decode, encode, standard_library_text


def test_it_is_the_standard_library():
    text = decode(standard_library_text())
    assert len(text) == CHARACTERS
    assert "def parse_args(self" in text  # argparse, early in the alphabet


def test_vocabulary_has_every_character_once():
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 96
    assert torch.equal(encode(VOCABULARY), torch.arange(96))


def test_unknown_characters_are_dropped():
    assert decode(encode("a\tbé€c\r\n")) == "abc\n"


def test_a_zipped_library_is_read(tmp_path):
    home = tmp_path / "python.zip"
    with zipfile.ZipFile(home, "w") as archive:
        archive.writestr("calendar.py", "second\n")
        archive.writestr("bisect.py", "first\n")
        archive.writestr("not_of_the_library.py", "no\n")
    assert decode(standard_library_text(str(home))) == "first\nsecond\n"


def test_a_library_without_sources_is_said(tmp_path):
    (tmp_path / "bisect.pyc").write_bytes(b"")
    with pytest.raises(UsageError, match=r"found no Python sources in .*--model mlp"):
        standard_library_text(str(tmp_path))


def test_a_module_of_the_same_name_elsewhere_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "argparse.py").write_text("mine = 'a student wrote this'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    standard_library_text.cache_clear()
    assert "a student wrote this" not in decode(standard_library_text())
