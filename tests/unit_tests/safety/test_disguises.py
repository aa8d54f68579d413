"""What is shown like something is found like it; what only looks like something to a pattern is left alone."""

from __future__ import annotations

import pytest

from langchain_qwen.safety.letters import fold_text
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.policy import Policy

PARSER = SafetyParser(
    Policy.parse(
        {
            "name": "t",
            "version": "1",
            "refusal": {"en": "No."},
            "rules": [
                {"id": name, "category": "pii", "detector": name, "action": "redact", "replacement": "[R]"}
                for name in (
                    "email",
                    "phone",
                    "credit_card",
                    "iban",
                    "national_id",
                    "ip_address",
                    "secret",
                    "url_credentials",
                )
            ],
        }
    )
)

EMAILS = {
    "blanks between letters": "k i m @ e x a m p l e . c o m",
    "two blanks between letters": "k  i  m  @  e  x  a  m  p  l  e  .  c  o  m",
    "small capitals": "ᴋɪᴍ@ᴇxᴀᴍᴘʟᴇ.ᴄᴏᴍ",
    "squared letters": "🅺🅸🅼@🅴🆇🅰🅼🅿🅻🅴.🅲🅾🅼",
    "regional letters": "🇰🇮🇲@🇪🇽🇦🇲🇵🇱🇪.🇨🇴🇲",
    "circled letters": "ⓚⓘⓜ@ⓔⓧⓐⓜⓟⓛⓔ.ⓒⓞⓜ",
    "letters in parentheses": "⒦⒤⒨@⒠⒳⒜⒨⒫⒧⒠.⒞⒪⒨",
    "strokes": "kɨm@examplɇ.com",
    "Braille blanks": "k⠀i⠀m⠀@⠀e⠀x⠀a⠀m⠀p⠀l⠀e⠀.⠀c⠀o⠀m",
    "Hangul fillers": "kim\u115f@exam\u1160ple.com",
    "combining marks": "k̴i̴m̴@e̴x̴a̴m̴p̴l̴e̴.com",
    "enclosing marks": "k⃝i⃝m⃝@example.com",
    "marks of other scripts": "kim\u0e31@exam\u05b0ple\u0651.com",
    "control characters": "ki\x00m@exa\x07mple\x7f.com",
    "private characters": "ki\ue000m@exa\U000f0000mple.com",
    "lone surrogates": "ki\ud800m@example.com",
    "replacement characters": "ki\ufffdm@example.com",
    "tag characters": "kim\U000e0041@example.com",
    "blanks around the signs": "kim @ example . com",
    "a blank before the at": "kim @example.com",
    "brackets": "kim [at] example [dot] com",
    "brackets around signs": "kim[@]example[.]com",
    "braces": "kim{at}example{dot}com",
    "words": "kim at example dot com",
    "mixed words": "kim at example [dot] com",
    "a decimal entity": "kim&#64;example.com",
    "a hexadecimal entity": "kim&#x40;example&#x2E;com",
    "a named entity": "kim&commat;example&period;com",
    "an entity of each letter": "".join(f"&#{ord(c)};" for c in "kim@example.com"),
    "percent escapes": "k%69m%40example%2Ecom",
    "percent escapes of UTF-8": "k%C3%ADm@example.com",
    "bold": "kim@**example**.com",
    "code": "kim`@`example.com",
    "struck": "kim@~~example~~.com",
    "a tag": "kim@<b>example</b>.com",
    "a tag with a class": 'kim@<span class="x">example</span>.com',
    "a comment": "kim<!-- no spam -->@example.com",
    "backslashes": "kim\\@example\\.com",
}
CARDS = {
    "lines": "4111\n1111\n1111\n1111",
    "a line break": "4111 1111\n1111 1111",
    "underscores": "4111_1111_1111_1111",
    "slashes": "4111/1111/1111/1111",
    "bars": "4111|1111|1111|1111",
    "tabs": "4111\t1111\t1111\t1111",
    "dots between all": "4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1",
    "mathematical digits": "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏",
    "circled digits": "④①①①①①①①①①①①①①①①",
    "dingbats": "❹❶❶❶❶❶❶❶❶❶❶❶❶❶❶❶",
    "keycaps": "4️⃣" + "1️⃣" * 14 + "1",
    "Devanagari": "४१११११११११११११११",
    "bold groups": "4111**1111**11111111",
    "tags": "4<b>111</b>111111111111",
    "percent escapes": "%34111111111111111",
}


@pytest.mark.parametrize("kind", EMAILS)
def test_an_address_is_not_hidden_by(kind):
    assert PARSER.scan(f"to: {EMAILS[kind]}, ok")[0] == "to: [R], ok"


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_is_not_hidden_by(kind):
    assert PARSER.scan(f"on: {CARDS[kind]}; ok")[0] == "on: [R]; ok"


@pytest.mark.parametrize("text", ["s<b>h</b>it", "s**hi**t", "s&#104;it", "ꜱʜɪᴛ", "🅂🄷🄸🅃", "s\ue000hit", "s h i t"])
def test_a_word_is_not_hidden_by_markup_or_style(text):
    rule = {"id": "r", "category": "profanity", "detector": {"lexicon": "profanity"}, "action": "redact"}
    parser = SafetyParser(Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": [rule]}))
    assert parser.scan(f"oh {text}, well")[0] == "oh [R], well"


def test_the_neighbors_of_what_is_found_stay():
    assert PARSER.scan("**Mail:** `kim@example.com`, <b>x</b>")[0] == "**Mail:** `[R]`, <b>x</b>"
    assert PARSER.scan("<td>Card</td><td>4111111111111111</td>")[0] == "<td>Card</td><td>[R]</td>"
    assert PARSER.scan("x*4111111111111111")[0] == "x*[R]"
    assert PARSER.scan("请联系kim@example.com谢谢")[0] == "请联系[R]谢谢"
    assert PARSER.scan('<a href="mailto:kim@example.com">')[0] == '<a href="mailto:[R]">'


def test_what_a_pattern_of_the_users_says_is_folded_like_the_text():
    for pattern in ("Müller", "секрет", "[é]t[à]"):
        rule = {"id": "r", "category": "pii", "detector": {"pattern": pattern}, "action": "redact"}
        parser = SafetyParser(Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": [rule]}))
        assert parser.scan(f"x {pattern.replace('[', '').replace(']', '')} y")[0] == "x [R] y"


ORDINARY = [
    "I met a friend at the market; dot by dot we drew a map. Then, at noon, we left at 12. See you @ 8!",
    "Plan B: a b c d e f g. I, II, III. Options A / B / C, 1 2 3 4 5 6 7 8, and so on.",
    "The rate is 3.5 % of 1,250,000 (50%20 is no escape here); R&D & Q&A; a < b > c; AT&T; x &lt; y.",
    "On 2024-05-17 10:30:45 and 17.05.2024, from 1990-2020, pages 120-135, ISBN 978-3-16-148410-0.",
    "Ich komme am 12. um 9 Uhr an. Die Nummer 4711 ist bekannt, der Preis 1.234.567,89 Euro.",
    "Le 3 mai 2024, à 14 h 30, il a payé 12 345,67 euros. L'adresse est au 12 bis, rue du Port.",
    "El 60 % de los 1.250 casos de 2023 (tabla 3.4) se vio en Madrid. Nos vemos a las 9.",
    "В 2024 году было 2 345 678 человек, на 3,5 % больше. Версия 1.2.3 вышла 17.05.2024.",
    "2024年5月17日，北京有2189万人口。会议室301，电话请查内部通讯录。第3.4节。",
    "संविधान 1950 में लागू हुआ। जनसंख्या 1,21,08,54,977 थी।",
    "في عام 2024 كان العدد 12345 شخصا. الصفحة 120.",
    "for i in range(10):\n    x[i] = a @ b.T + c * d ** 2  # 1e-05, 0x7fff5fbf\n    assert x == 3.14159265358979",
    "@dataclass\nclass A:\n    password: str\n    token = tokenizer(text)\n    api_key=os.environ['API_KEY']",
    "| a | b | c |\n|---|---|---|\n| 1 | 20 | 300 |\n| 2 | 40 | 600 |\n\n1. one\n2. two\n3. three",
    "const re = /^[^@]+@[^@]+$/; git log HEAD@{2}; npm i react@18.2.0; sha256:9f86d081884c7d659a2feaa0c55ad015",
    "0.1 0.25 0.5 0.75 1.0\n10.5 20.25 30.125 40.0625\n1 2 4 8 16 32 64 128 256 512 1024",
    "uuid 123e4567-e89b-12d3-a456-426614174000, commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "The password is incorrect. Your secret is safe. Passwort: bitte eingeben. The bearer of good news.",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert PARSER.scan(text)[0] == text


def test_marks_stay_where_a_script_needs_them():
    assert fold_text("สวัสดี") == "สวัสดี"
    assert fold_text("हिन्दी") == "हिन्दी"
    assert fold_text("q\u0e31") == "q"
