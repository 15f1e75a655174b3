"""Text and YAML that others wrote: plain data, or one line."""

import os

import pytest

from wavelit.errors import WavelitError
from wavelit.files.plain import load_yaml, read_json, read_text, read_yaml

LAUGHS = "\n".join(
    ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
)


def test_plain_data():
    assert load_yaml("a: [1, 2.5, null, true]\nb: {c: text}", "f") == {
        "a": [1, 2.5, None, True],
        "b": {"c": "text"},
    }
    assert load_yaml("", "f") is None
    assert load_yaml("a: &x [1]\nb: *x", "f") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 100000 entries"),
        ("a: &x [*x]", "more than 100000 entries"),
        ("a: &x {b: 1}\n" + "c: &y {<<: *x}\n", None),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1, " * 100_001 + "]", "more than 100000 entries"),
        ("a: [", "not a YAML file"),
        ("a: \x00", "not a YAML file"),
        ("a: 1\n---\nb: 2", "not a YAML file"),
        ("!!python/object/apply:os.system [exit]", "not a YAML file"),
        ("a: !!bool maybe", "not a YAML file"),
        ("a: !!timestamp then", "not a YAML file"),
        ("a: 2020-13-45", "not a YAML file"),
        ("a: !!int ''", "not a YAML file"),
        ("a: " + "9" * 5000, "not a YAML file"),
        ("a: " + "9" * 301, "a whole number of 301 digits"),
        ("? [a]\n: 1", "not a YAML file"),
        ("a: 1\n" * 10, "larger than 16 characters"),
    ],
)
def test_a_text_that_is_not(text, message):
    longest = 16 if message is not None and "16 characters" in message else 2**24
    if message is None:
        load_yaml(text, "f")
        return
    with pytest.raises(WavelitError, match=message) as caught:
        load_yaml(text, "f", longest)
    assert str(caught.value).startswith("f: ")
    assert "\n" not in str(caught.value)


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: ä", encoding="utf8")
    assert read_yaml(path) == {"a": "ä"}
    path.write_bytes(b"a: \xe4")
    with pytest.raises(WavelitError, match=r"a\.yaml: byte 3 is not UTF-8; write"):
        read_yaml(path)
    with pytest.raises(WavelitError, match="larger than 3 bytes"):
        read_text(path, longest=3)
    for other in (tmp_path / "pipe", tmp_path):
        if other != tmp_path:
            os.mkfifo(other)
        with pytest.raises(WavelitError, match="not a regular file"):
            read_text(other)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_whole_numbers_of_json_can_be_made_floats(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text('{"a": ' + "9" * 300 + "}")
    assert float(read_json(path)["a"]) == 1e300
    path.write_text('{"a": ' + "9" * 301 + "}")
    with pytest.raises(WavelitError, match="a whole number of 301 digits"):
        read_json(path)
