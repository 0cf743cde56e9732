import pytest

from xmodelkd_ros.core.errors import LabelError, XModelKDError, listed, one_line, quoted


@pytest.mark.parametrize("name", ["two\nlines", "a\r\x1b[2Jb", "nul\0", "\u2028", "\x85"])
def test_errors_are_one_printable_line(name):
    text = str(LabelError(f"no class '{name}'; it has car"))
    assert text.splitlines() == [text] and text.isprintable()
    assert text.startswith("no class '") and text.endswith("'; it has car")


def test_errors_have_limited_length():
    text = str(XModelKDError(f"no class '{'x' * 100_000}'; it has car"))
    assert len(text) <= 600
    assert text.startswith("no class 'xxx") and text.endswith("xxx'; it has car")
    assert str(XModelKDError("Straße 名 'x'")) == "Straße 名 'x'"


def test_quoted_values_are_shortened():
    assert [quoted(value) for value in ("x", 3, None, [1, "a"], {"b": 2.5}, KeyError("z"))] == [
        *("'x'", "3", "None", "[1, 'a']", "{'b': 2.5}", "KeyError('z')")
    ]
    for long in ("x" * 10_000, 10**4000, list(range(10_000)), KeyError("x" * 10_000), {"k" * 500: "v" * 500}):
        assert 3 < len(quoted(long)) < 140


def test_quoting_nested_references_uses_little_memory():
    """Ten levels of ten references expand to 10^10 entries; a list may contain itself."""
    bomb: list = ["x"] * 10
    for _ in range(10):
        bomb = [bomb] * 10
    itself: list = []
    itself.append(itself)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert all(len(quoted(value)) < 140 for value in (bomb, itself, deep))


def test_long_lists_of_names_are_cut():
    assert listed("abc") == "a, b, c" and listed([]) == ""
    assert listed(f"n{k}" for k in range(100)).endswith("n15 and 84 more")
    assert len(listed(["x" * 1000] * 3)) < 400
    topics = [f"/sensing/camera/front_{k}/image/compressed (sensor_msgs/msg/CompressedImage)" for k in range(12)]
    assert listed(topics) == f"{', '.join(topics[:4])} and 8 more"


def test_overlong_messages_are_cut_between_words():
    words = [f"word{number}" for number in range(200)]
    start, end = str(XModelKDError(" ".join(words))).split(" ... ")
    assert set(start.split()) | set(end.split()) <= set(words) and len(start) + len(end) > 500


def test_library_errors_are_shortened_to_one_line():
    assert one_line(ValueError("a\n  b.")) == "a b"
    assert one_line(ValueError("")) == "ValueError('')"
    assert len(one_line(ValueError("x" * 10_000))) < 260
