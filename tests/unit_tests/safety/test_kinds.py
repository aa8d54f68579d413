"""Kinds of personal data and secrets, one by one and on the set of the benchmark."""

from __future__ import annotations

import pytest

from benchmarks.pii_kinds import EACH, KINDS, cases, measure_kinds
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.policy import Policy


def scan(detector, text):
    rule = {"id": "r", "category": "pii", "detector": detector, "action": "redact"}
    return SafetyParser(Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": [rule]})).scan(
        text
    )[0]


FOUND = [
    ("ip_address", "::ffff:192.0.2.128"),
    ("ip_address", "192[.]168[.]1[.]1"),
    ("credit_card", "3782 822463 10005"),
    ("national_id", "846-15-5715"),
    ("national_id", "AB 12 34 56 C"),
    ("national_id", "AB123456C"),
    ("national_id", "2341 2341 2346"),
    ("national_id", "756.9217.0769.85"),
    ("phone", "0049 30 901820"),
    ("phone", "0044 20 7946 0958"),
    ("phone", "+49 30\n901820 12"),
    ("phone", "0151 2345 6789"),
    ("phone", "011 44 20 7946 0958"),
    ("phone", "(030) 901820-12"),
    ("phone", "1.415.555.2671"),
    ("phone", "8 (916) 123-45-67"),
    ("phone", "13812345678"),
    ("phone", "854-275-2772x0405"),
    ("phone", "+1-212-555-0173 ext. 12"),
    ("phone", "06-1/629 9864"),
    ("phone", "001-837-358-5847"),
    ("credit_card", "180083848372619"),
    ("secret", "Bearer abcDEF1234567890abcdef"),
    ("secret", "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"),
    ("secret", "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"),
    ("secret", "password=hunter2go"),
    ("secret", "password is hunter2"),
    ("secret", 'password is "correct horse"'.replace(" horse", "")),
    ("secret", "glpat-abcdefghij0123456789"),
    ("secret", "sk-ant-api03-" + "aB3_" * 23),
    ("secret", "npm_" + "aB3d" * 9),
    ("secret", "token: Bearer abcDEF1234567890abcdef"),
    ("secret", "lsv2_pt_" + "0a1b" * 8 + "_0123456789"),
    ("secret", "tvly-dev-" + "aB3d" * 8),
    ("secret", "pcsk_aB3dE_" + "aB3d" * 15),
    ("secret", "nvapi-" + "aB3_" * 16),
    ("secret", "tskey-auth-" + "aB3d" * 4 + "-" + "aB3d" * 8),
    ("secret", "sb_secret_" + "aB3_" * 8),
    ("secret", "bot123456789:AA" + "aB3" * 11),
    ("secret", "LTAI" + "aB3d" * 5),
    ("secret", "Private-Lines: 2\n" + ("aB3d" * 16 + "\n") * 2 + "aB3=="),
    (
        "secret",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n" + "aB3d" * 16 + "\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    ),
    ("secret", "AccountKey=" + "aB3d" * 21 + "ab=="),
    ("email", '"kim lee"@example.com'),
    ("email", "почта@пример.рф"),
    ("email", "jörg.müller@straße.de"),
    ("email", "用户@例子.公司"),
    ("url_credentials", "redis://:s3cret@cache.io/0"),
]
LEFT = [
    ("national_id", "846155715 and 000-12-3456, 666-12-3456, 846-00-5715, 846-15-0000"),
    ("national_id", "BG123456A, QQ123456C, AB123456E, ab123456c"),
    ("national_id", "2341 2341 2347 and 234123412346"),
    ("national_id", "123.456.789-00"),
    ("phone", "address 179.177.214.91, zip 02110-1301, 1_000_000_000, 2406.04334"),
    ("phone", "898755178.73, 1/3 = 0.333333333"),
    ("phone", "Chrome/120.0.6099.109, Chrome/39.0.2171.95, GCC 12.2.0 20220819, 10.1145/324133.324140"),
    ("phone", "ISBN 0-306-40615-2, order 302-1234567-1234567, no. 2023-10-4711-0815, 3375 2008-02-13"),
    ("phone", "6-3 6-7 (7-4) 6-3; 1 0 0 0 1 0 0 0 1; 1 234 567 890; 10 000 000 000"),
    ("credit_card", "6069.397933300514 and 1234 5678 9012 3452"),
    ("credit_card", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; 3, 0, 0, 0, 0, 0, 0,  2, 0, 0,  2,  5, 0, 0, 0, 0, 0"),
    ("ip_address", "1.2.3.4.5 is an OID, 2.5.4.3.1.9 another; ::c10::metal, a::b::c"),
    ("secret", "sk-learn-contrib, hf_hub, ghp_ and AKIA"),
    ("secret", '{"shop_api_key": "SHOP_API_KEY"}, token: SecretStr = "", password: required|min:8'),
    ("secret", "asiaabcdefghijklmnop"),
    ("email", "a @ b.T, look at example dot com, me @ home. Then"),
]


@pytest.mark.parametrize(("detector", "text"), FOUND)
def test_people_expect_this_to_be_found(detector, text):
    assert scan(detector, f"it: {text}, ok").startswith("it: [R]")
    assert scan(detector, f"it: {text}, ok").endswith(", ok")


@pytest.mark.parametrize(("detector", "text"), LEFT)
def test_this_only_looks_like_it(detector, text):
    assert scan(detector, text) == text


@pytest.mark.parametrize(
    ("words", "number", "wrong"),
    [
        ("Fødselsnummer:", "15108695088", "15108695098"),
        ("RUT", "76.086.428-5", "76.086.428-4"),
        ("RFC:", "GODE561231GR8", "GODE569931GR8"),
        ("ИНН", "500100732259", "500100732269"),
        ("T.C. Kimlik No:", "17291716060", "17291716070"),
        ("Teudat zehut", "39337423", "39337433"),
        ("NRIC", "770305-02-1234", "771305-02-1234"),
        ("CNP", "1630615123457", "1630615123467"),
        ("ЕГН", "7523169263", "7523169273"),
        ("Rodné číslo:", "710319/2745", "710319/2755"),
        ("OIB", "33392005961", "33392005971"),
        ("Isikukood", "36805280109", "36805280119"),
        ("PPS number", "6433435F", "6433436F"),
        ("РНОКПП", "1759013776", "1759013786"),
        ("ΑΜΚΑ", "01013099997", "01013099907"),
        ("CUIT", "20-05536168-2", "20-05536168-3"),
        ("SA ID number:", "7503305044089", "7503305044099"),
        ("SVNR", "1237 010180", "1237 010190"),
        ("NIF", "501964843", "501964853"),
        ("EMŠO", "0101006500006", "0101006500016"),
        ("NIK", "3171011708450001", "3171011799450001"),
        ("マイナンバー", "6214 9832 0257", "6214 9832 0267"),
        ("cédula", "1714307103", "1714307113"),
        ("IRD number", "49-091-850", "49-091-860"),
        ("kennitala", "450401-3150", "450401-3160"),
    ],
)
def test_ids_of_further_countries_behind_their_names(words, number, wrong):
    assert scan("national_id", f"{words} {number}, ok") == f"{words} [R], ok"
    assert scan("national_id", f"{words} {wrong}, ok") == f"{words} {wrong}, ok"


def test_nine_digits_are_a_social_security_number_only_behind_its_name():
    assert scan("national_id", "My SSN is 846155715.") == "My SSN is [R]."
    assert scan("national_id", "Order 846155715.") == "Order 846155715."


@pytest.mark.parametrize(
    "words", ["Call me at", "phone:", '"phone": "', "My phone number is", "Telefon:", "Ring meg på", "mi número es"]
)
@pytest.mark.parametrize("number", ["44580730", "457-3681", "3642 6212"])
def test_a_short_number_is_one_of_a_phone_behind_a_word_that_says_so(words, number):
    assert scan("phone", f"{words} {number}, ok") == f"{words} [R], ok"
    assert scan("phone", f"It is {number}, ok") == f"It is {number}, ok"


@pytest.mark.parametrize("text", ["Call me on 2023-11-07.", "call f 123456", "Ring 12 of 1234", "He phones: 20231107"])
def test_behind_such_a_word_not_all_is_a_number_of_a_phone(text):
    assert scan("phone", text) == text


def test_the_secret_key_beside_its_id_is_found():
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert secret not in scan("secret", f"AKIAIOSFODNN7EXAMPLE {secret} ok")
    assert secret not in scan("secret", f"aws_access_key_id=AKIAIOSFODNN7EXAMPLE\naws_secret_access_key={secret}\n")


def test_passports_are_found_on_request_only():
    assert scan("passport", "Passport no. C12345678, ok") == "Passport no. [R], ok"
    assert "C12345678" in SafetyParser("strict").scan("Passport no. C12345678, ok")[0]


def test_a_phone_number_behind_a_date_is_found():
    assert scan("phone", "2024-05-17 650-253-0000") == "2024-05-17 [R]"


def test_the_set_has_thirty_kinds_and_twenty_of_each_sort():
    rows = list(cases())
    assert len(KINDS) >= 30
    for kind in KINDS:
        mine = [row for row in rows if row.kind is kind]
        assert [sum(row.span is None for row in mine), sum(row.span is not None for row in mine)] == [EACH, EACH]
        assert len({row.text for row in mine}) == 2 * EACH
    assert [row.text for row in cases()] == [row.text for row in rows]


def test_precision_and_recall_of_each_kind():
    low = {name: figures for name, figures in measure_kinds().items() if min(figures.precision, figures.recall) < 0.95}
    assert not low
