from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.matching import Matcher, Op, exactly, fit, parse_matcher, parse_matchers

LABELS = {"model": "churn", "severity": "warning", "team": ""}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("model=churn", True),
        ("model=chur", False),
        ("model!=churn", False),
        ("model!=other", True),
        ('severity=~"warn.*"', True),
        ("severity=~warn", False),  # anchored
        ("severity=~arning", False),
        ("severity!~warn", True),
        ("severity=~info|warning", True),
        ("severity!~info|warning", False),
        ("absent=", True),
        ('absent=""', True),
        ("absent!=x", True),
        ("absent=~.*", True),
        ("absent=~.+", False),
        ("team=", True),
        ('model=churn severity=~"warn.*"', True),
        ("model=churn, severity=critical", False),
        ('{model="churn",severity=~"w.+"}', True),
    ],
)
def test_matchers_in_alertmanagers_words(text, fits) -> None:
    assert fit(parse_matchers(text), LABELS) is fits


def test_values_in_quotes_hold_anything() -> None:
    (matcher,) = parse_matchers(r'subject="a b, {c} \"d\" \\ \n"')
    assert matcher == Matcher("subject", Op.EQUAL, 'a b, {c} "d" \\ \n')
    assert parse_matchers(r'subject=~"\d+"') == (Matcher("subject", Op.MATCHES, r"\d+"),)


def test_one_argument_of_a_shell_needs_no_quotes() -> None:
    assert parse_matcher("subject=a b, {c}") == Matcher("subject", Op.EQUAL, "a b, {c}")
    assert parse_matcher(' subject =~ "a|b" ') == Matcher("subject", Op.MATCHES, "a|b")
    assert parse_matcher("a==b") == Matcher("a", Op.EQUAL, "=b")


@pytest.mark.parametrize(
    "text",
    ["", " ", "{}", "model", "=x", "1a=x", 'a="x', 'a="x"y', "a=x{", "a b=c", "a=~(", "a=~[", "a=~*", "a=x } b=y"],
)
def test_what_is_no_matcher_is_refused(text) -> None:
    with pytest.raises(ValueError):
        parse_matchers(text)


@pytest.mark.parametrize("text", ["a", 'a="x', 'a="x"y"', "", "a=~("])
def test_what_is_no_single_matcher_is_refused(text) -> None:
    with pytest.raises(ValueError):
        parse_matcher(text)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(a|a)*", "((a)*b)+", "(a{2,}){3,}", ".*.*.*.*.*x", "(?:(?:a|b)c)*", "(a*)*", "x" * 501],
)
def test_an_expression_that_may_take_for_ever_is_refused(pattern) -> None:
    with pytest.raises(ValueError):
        Matcher("a", Op.MATCHES, pattern)


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?!a)", "(?<=a)", "(?<!a)b", r"(a)\1", "(?P=a)", "a++", "(?>a)", "(?#a)"]
)
def test_an_expression_that_re2_has_not_is_refused(pattern) -> None:
    with pytest.raises(ValueError, match="Alertmanager"):
        Matcher("a", Op.MATCHES, pattern)


@pytest.mark.parametrize(
    "pattern", ["warn.*", "(a|b)c", "[a+*|]+x", r"\+\++", "(?i)warn", "(ab)*", r"\(a|b\)*", "(?P<n>a)", ".*a.*b.*"]
)
def test_useful_expressions_are_allowed(pattern) -> None:
    Matcher("a", Op.NOT_MATCHES, pattern)


def test_the_longest_allowed_expressions_are_quick() -> None:
    hard = Matcher("a", Op.MATCHES, ".*a.*a.*a.*b")
    begin = time.perf_counter()
    assert not hard.fits({"a": "a" * 100})
    assert time.perf_counter() - begin < 5


names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20)
plain = st.builds(Matcher, names, st.sampled_from([Op.EQUAL, Op.NOT_EQUAL]), values)


@settings(deadline=None)
@given(st.lists(plain, min_size=1, max_size=4))
def test_what_is_shown_is_read_back(matchers) -> None:
    assert parse_matchers(" ".join(map(str, matchers))) == tuple(matchers)
    assert parse_matchers("{" + ",".join(map(str, matchers)) + "}") == tuple(matchers)
    assert tuple(parse_matcher(str(m)) for m in matchers) == tuple(matchers)


@settings(deadline=None)
@given(names, values, st.dictionaries(names, values))
def test_a_sign_and_its_opposite_never_agree(name, value, labels) -> None:
    assert Matcher(name, Op.EQUAL, value).fits(labels) is not Matcher(name, Op.NOT_EQUAL, value).fits(labels)
    pattern = re.escape(value).replace("\\\n", "\n")
    assert Matcher(name, Op.MATCHES, pattern).fits(labels) is not Matcher(name, Op.NOT_MATCHES, pattern).fits(labels)
    assert Matcher(name, Op.MATCHES, pattern).fits(labels) is Matcher(name, Op.EQUAL, value).fits(labels)


def test_a_match_is_its_matchers() -> None:
    assert exactly({"b": "2", "a": "1"}) == parse_matchers("a=1 b=2")
