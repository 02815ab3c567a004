"""What the packaged policy finds of people and keys: at which offsets, however the text came, and in how much work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.moderation.gate import apply_retractions, resolve
from services.moderation.model import Action, Finding, Outcome
from services.moderation.policy import PACKAGED_POLICY
from services.moderation.policy_file import PolicyFile
from services.moderation.rules.candidate import Candidate, Check, Span
from services.moderation.rules.pattern import parse_pattern
from services.moderation.rules.rule_set import RuleSet, RuleSpec
from services.moderation.rules.scanner import Scanner
from services.runtime.typed_file import load_typed_file


def specs() -> Iterator[RuleSpec]:
    """The rules about persons and keys, each with its name in the place of what it takes out."""
    file = load_typed_file(PACKAGED_POLICY, PolicyFile, kind="policy")
    for name in ("secrets", "pii"):
        for entry in file.categories[name].rules:
            yield entry.spec(Outcome(name, entry.name, Action.REDACT, f"[{entry.name}]"))


RULES = RuleSet(list(specs()))


def scan(segments: Sequence[str]) -> list[Finding]:
    scanner = Scanner(RULES)
    findings = [finding for segment in segments[:-1] for finding in scanner.feed(segment)]
    return findings + scanner.feed(segments[-1], last=True)


def places(text: str) -> list[tuple[str, str]]:
    return [(finding.outcome.rule, text[finding.start : finding.end]) for finding in scan([text])]


def redact(text: str) -> str:
    return apply_retractions(text, resolve(scan([text]))[0])


def token(prefix: str, length: int, alphabet: str = "q8Zt3Lw9Xk2Vb7Nm4Rp6Yc5Hd1Js") -> str:
    return prefix + (alphabet * 8)[:length]


HEX = "3f8a1c9e5b7d2046"
PLANTS = [
    ("card_number", "4111 1111 1111 1111"),
    ("card_number", "3782-822463-10005"),
    ("card_number_wide", "４１１１ １１１１ １１１１ １１１１"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "DE89370400440532013000"),
    ("us_ssn", "123-45-6789"),
    ("email", "anna.müller+x@mail.example.org"),
    ("phone_number", "+44 20 7946 0958"),
    ("phone_number", "(415) 555-0132"),
    ("phone_number_wide", "+９１ ９２３２１ ７２５２２"),
    ("ip_address", "41.173.96.26"),
    ("github_token", token("ghp_", 36)),
    ("model_api_key", token("sk-proj-", 40)),
    ("aws_access_key", "AKIA" + "Q7ZT3LWX" * 2),
]

ODD = [
    "👩‍👩‍👧‍👦",  # joined by U+200D
    "👍🏽",  # with a skin tone
    "🏳️‍🌈",
    "\u0301e\u0323",  # combining marks
    "שלום, עולם",
    "مرحبا بالعالم",
    "𝒳𐍈𠜎",  # beyond the basic plane: two units in UTF-16
    "日本語。",
    "¡olé!",
    "\u2066bidi\u2069",
]

FILLER = st.one_of(
    st.sampled_from(ODD),
    st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Nd", "Nl", "No"], exclude_characters="@+-_/\\"), max_size=8
    ),
)


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """A text with things to find, and where they stand."""
    text = draw(FILLER)
    expected = []
    for rule, value in draw(st.lists(st.sampled_from(PLANTS), min_size=1, max_size=4)):
        text += f"{draw(FILLER)} · "
        expected.append((len(text), len(text) + len(value), rule))
        text += f"{value} · {draw(FILLER)}"
    return text, expected


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@settings(max_examples=250, deadline=None)
@given(case=planted(), edges=st.lists(st.integers(0, 10_000), max_size=20))
def test_all_that_is_planted_is_found_at_its_place_however_the_text_is_cut(
    case: tuple[str, list[tuple[int, int, str]]], edges: list[int]
) -> None:
    text, expected = case
    whole = scan([text])
    assert [(finding.start, finding.end, finding.outcome.rule) for finding in whole] == expected
    assert scan(cut(text, edges)) == whole
    assert scan([*text]) == whole


@settings(max_examples=100, deadline=None)
@given(case=planted())
def test_redacted_text_is_the_text_with_ranges_replaced(case: tuple[str, list[tuple[int, int, str]]]) -> None:
    text, expected = case
    parts, at = [], 0
    for start, end, rule in expected:
        parts += [text[at:start], f"[{rule}]"]
        at = end
    assert redact(text) == "".join([*parts, text[at:]])


PIECES = [
    *(value for _, value in PLANTS),
    *ODD,
    "4111 1111",
    "1111 ",
    "-",
    ".",
    " ",
    "x",
    "0",
    "12",
    "+",
    "(",
    "@",
    "GB82 ",
    "WEST",
    "call ",
    "Phone: ",
    " fax",
    "SSN ",
    "password: ",
    "api_key = ",
    "_token=",
    "Bearer ",
    "Tr0ub4dor&3!",
    "q8Zt3Lw9Xk2Vb7Nm4Rp6",
    "-----BEGIN RSA PRIVATE KEY-----\n",
    "MIIEowIBAAKCAQEA\n",
    "example.org",
    "192.168",
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=16), edges=st.lists(st.integers(0, 10_000), max_size=16))
def test_findings_do_not_depend_on_the_cuts_whatever_overlaps(pieces: list[str], edges: list[int]) -> None:
    text = "".join(pieces)
    whole = scan([text])
    assert scan(cut(text, edges)) == whole
    assert scan([*text] or [""]) == whole


@pytest.mark.parametrize("before", [*ODD, "", "(", "“", "היא: ", "e\u0301 "])
@pytest.mark.parametrize("after", [*ODD, "", ".", ")", "”", "!\u0301"])
def test_offsets_are_code_points(before: str, after: str) -> None:
    text = f"{before}4111 1111 1111 1111{after}"
    (finding,) = scan([text])
    assert (finding.start, finding.end) == (len(before), len(before) + 19)
    assert redact(text) == f"{before}[card_number]{after}"


def test_overlapping_findings_are_one_gap() -> None:
    text = "Authorization: Bearer " + token("sk-", 40) + " ok"
    assert {rule for rule, _ in places(text)} == {"bearer_token", "model_api_key"}
    assert redact(text).removesuffix(" ok").startswith("Authorization: Bearer [")
    assert token("", 20) not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "My card is 4111 1111 1111 1111.",
        "4111-1111-1111-1111, exp 12/27",
        "card:4111111111111111;",
        "(4111.1111.1111.1111)",
        "4111\u00a01111\u00a01111\u00a01111!",
        "4111–1111–1111–1111",
        "4111 1111 1111\n1111",
    ],
)
def test_cards_with_what_people_put_between_and_behind(text: str) -> None:
    ((rule, found),) = [(rule, found) for rule, found in places(text) if rule.startswith("card")]
    assert rule == "card_number"
    assert found.startswith("4111")
    assert found.endswith("1111")
    assert sum(character.isdigit() for character in found) == 16


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("model_api_key", token("sk-ant-api03-", 90)),
        ("model_api_key", token("sk-or-v1-", 64, HEX)),
        ("model_api_key", token("gsk_", 52)),
        ("github_token", token("github_pat_", 82)),
        ("gitlab_token", token("glpat-", 20)),
        ("slack_token", "xoxb-" + "530476062082-094463276950-" + token("", 24)),
        ("google_api_key", token("AIza", 35)),
        ("google_oauth", token("GOCSPX-", 28)),
        ("stripe_key", token("sk_live_", 24)),
        ("stripe_key", token("whsec_", 32)),
        ("twilio_key", token("SK", 32, HEX)),
        ("sendgrid_key", token("SG.", 22) + token(".", 43)),
        ("mailgun_key", token("key-", 32, HEX)),
        ("digitalocean_token", token("dop_v1_", 64, HEX)),
        ("telegram_bot_token", token("123456789:AA", 33)),
        ("discord_token", token("MTk4", 20) + "." + token("", 6) + "." + token("", 27)),
        ("shopify_token", token("shpat_", 32, HEX)),
        ("huggingface_token", token("hf_", 34)),
        ("npm_token", token("npm_", 36)),
        ("pypi_token", token("pypi-AgEIcHlwaS5vcmc", 60)),
        ("docker_token", token("dckr_pat_", 27)),
        ("hashicorp_token", token("hvs.", 24)),
        ("cloudflare_key", token("v1.0-", 24, HEX) + token("-", 146, HEX)),
        ("platform_token", token("dapi", 32, HEX)),
        ("platform_token", token("lin_api_", 40)),
        ("platform_token", token("ntn_", 46)),
        ("platform_token", token("sntryu_", 64, HEX)),
        ("sentry_dsn", token("https://", 32, HEX) + "@o123.ingest.sentry.io/456"),
        ("json_web_token", token("eyJ", 20) + token(".eyJ", 20) + token(".", 30)),
    ],
)
def test_keys_by_their_form(rule: str, value: str) -> None:
    assert (rule, value) in places(f"use {value} here")
    assert (rule, value) in places(f'"{value}".')


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('api_key = "q8Zt3Lw9Xk2Vb7Nm4Rp6"', "q8Zt3Lw9Xk2Vb7Nm4Rp6"),
        ("export SERVICE_API_KEY=q8Zt3Lw9Xk2Vb7Nm4Rp6", "q8Zt3Lw9Xk2Vb7Nm4Rp6"),
        ("Authorization: Bearer q8Zt3Lw9Xk2Vb7Nm4Rp6", "q8Zt3Lw9Xk2Vb7Nm4Rp6"),
        ('{"client_secret": "q8Zt3Lw9~Xk2Vb7Nm4Rp6Yc5Hd1Js"}', "q8Zt3Lw9~Xk2Vb7Nm4Rp6Yc5Hd1Js"),
        ("AccountKey=" + token("", 86) + "==;Endpoint", token("", 86) + "=="),
        ("the password is Tr0ub4dor!3x, ok", "Tr0ub4dor!3x"),
        ("password: Tr0ub4dor!3x.", "Tr0ub4dor!3x"),
        ("api_key: 9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
    ],
)
def test_values_of_names_that_say_secret(text: str, value: str) -> None:
    assert value in {found for _, found in places(text)}


@pytest.mark.parametrize(
    "text",
    [
        "api_key = YOUR_API_KEY_GOES_HERE",
        "token: <your-token-goes-here>",
        "password: ${DB_PASSWORD_FROM_ENV}",
        "api_key=os.environ['API_KEY']",
        "secret = get_secret_from_vault_v2(name)",
        "password = db.Column(db.String(60))",
        "the key is understanding what they want",
        "commit token: da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "session_key: 550e8400-e29b-41d4-a716-446655440000",
        "Bearer of bad news and authentication-middleware",
        "ghp_" + "x" * 36,
        "AKIA****************",
        "sk-folding-cube-container-inner",
        "@app.route, @pytest.fixture, @carla92 and user@",
        "ISBN 978-3-16-148410-0, v3.34.20, 3.552206375655093, 0.4111111111111111",
        "37.286632, -107.822655 at 2026-01-04T12:00:01Z, epoch 1737266538358",
        "ORD-2113-319563, 714 x 433 x 0862, 7.487128e-53",
        "96a615de5f501395d5f6e5060a8e6c7971847c49541c01645acc758ffb78ca32",
        "6c7bb56a-7d27-4142-ad45-ca08937c3246",
        "PL80335641026344753847877242",
        "192.168.0.1, 127.0.0.1 and 1.2.3",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert places(text) == []


class Meter:
    """Counts what checks are given."""

    def __init__(self) -> None:
        self.asked = 0
        self.characters = 0

    def over(self, spec: RuleSpec) -> RuleSpec:
        check = spec.check
        return (
            spec
            if check is None
            else RuleSpec(spec.pattern, spec.ignore_case, self._counted(check), spec.max_bytes, spec.outcome)
        )

    def _counted(self, check: Check) -> Check:
        def counted(candidate: Candidate) -> Span | None:
            self.asked += 1
            self.characters += len(candidate.text)
            return check(candidate)

        return counted


HARD = [
    "1 2 3 4 5 6 7 8 9 0 ",
    "01 02 03 04 05 06 07 ",
    "4111 1111 1111 1112 ",
    "+1 +44 (0) ",
    "GB82 WEST ",
    "GB82",
    "1.1.",
    "a:b:1:",
    "a@a.a",
    "key=",
    "_token_key=password: ",
    "password: Abc1",
    "call 1 number ",
    "(((((1",
    "sk-ghp_hf_1",
    "eyJaaaaaaaaaa.",
    "123-45-",
    "４１１１",
    "0",
    "7",
]


@pytest.mark.parametrize("hard", HARD)
def test_work_grows_with_the_text_and_not_faster(hard: str) -> None:
    """Everything in the text may begin something; counted is what checks have to look at."""

    def work(length: int) -> Meter:
        meter = Meter()
        text = (hard * (length // len(hard) + 1))[:length]
        Scanner(RuleSet([meter.over(spec) for spec in specs()])).feed(text, last=True)
        return meter

    short, long = work(3_000), work(24_000)
    assert long.asked <= 9 * short.asked + 20
    assert long.characters <= 9 * short.characters + 2_000
    assert long.characters <= 400 * 24_000


def test_a_check_may_take_a_part_or_say_where_to_go_on() -> None:
    def last_digit(candidate: Candidate) -> Span | None:
        return (
            (len(candidate.text) - 1, len(candidate.text))
            if candidate.text[-1].isdigit()
            else (len(candidate.text),) * 2
        )

    rule = RuleSpec(
        parse_pattern("a+[0-9é]"),
        ignore_case=False,
        check=last_digit,
        max_bytes=16,
        outcome=Outcome("c", "r", Action.REDACT, ""),
    )
    for text in ("xaaa1 aaé aa2", "aaé1aa3aaéa4"):
        whole = Scanner(RuleSet([rule])).feed(text, last=True)
        assert [(item.start, item.end) for item in whole] == [
            (at, at + 1) for at, sign in enumerate(text) if sign.isdigit() and at and text[at - 1] == "a"
        ]
        scanner = Scanner(RuleSet([rule]))
        assert [item for sign in text for item in scanner.feed(sign)] + scanner.feed("", last=True) == whole
