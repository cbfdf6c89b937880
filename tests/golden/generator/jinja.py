"""Writes tests/golden/jinja.json: templates with what jinja2 prints for them, in the environment that transformers gives chat
templates. Run with transformers 5.24 and jinja2 3.1.6 installed, from the repository's root:

    python tests/golden/generator/jinja.py            the cases that the repository keeps
    python tests/golden/generator/jinja.py all FILE   all some 17,000 of them, for `LAPIDARY_JINJA=FILE cargo test --test jinja`

Hand-written templates come from jinja_templates.txt (with lines of --- between them); the rest is every method, filter, test and
operator on values of every kind. Where jinja2 raises an error, the case says so; where it prints an address in memory, it is left out.
"""
import copy
import datetime
import json
import os
import sys
import time
from pathlib import Path

os.environ["TZ"] = "UTC"
time.tzset()

import jinja2
import transformers
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
NOW = 1764003723
# The repository keeps one in so many of the generated cases.
EVERY = 13


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW)


chat_template_utils.datetime = Fixed

MESSAGES = [{"role": "user", "content": "Q é"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "Q2"}]
VARIABLES = {
    "n": None, "t": True, "f": False, "i": 7, "x": 2.0, "y": 1e-07, "z": 1e22, "w": 0.1, "big": 12345678901234567890,
    "huge": 123456789012345678901234567890, "s": "héllo Wörld", "e": "", "l": [1, 2.5, "a", None, True],
    "d": {"b": 1, "a": [1, {"c": None}], "é": "ü"}, "ld": [{"k": "x", "v": 3}, {"k": "y", "v": 1}, {"k": "x", "v": 2}],
    "multi": "one\ntwo\r\nthree\n", "html": "<a href=\"x\">&'</a>", "neg": -7, "sp": "  a  b\t\n",
    "words": "the quick brown fox jumps over", "num": "42", "fl": "3.75", "u": "é\u200b \ufb01", "sig": "ΑΣ ΌΣΟΣ",
    "emo": "a😀b", "li": [3, 1, 2], "ls": ["b", "A", "c"], "dd": {"z": {"y": [1, 2]}, "k": None}, "q": "it's \"q\"",
}

STRINGS = ["s", "sp", "multi", "words", "html", "num", "u", "sig", "emo", "e", "q", "html|e", "'ab'|safe"]
STRING_METHODS = """upper() lower() title() capitalize() swapcase() casefold() strip() lstrip() rstrip() split() rsplit()
splitlines() splitlines(true) splitlines(keepends=true) split('l',1) rsplit('l',1) split(none,1) rsplit(none,1) split(maxsplit=2)
rsplit(maxsplit=1) split(sep='o') rsplit(sep='o',maxsplit=1) isdigit() isalpha() isalnum() isupper() islower() isspace() isnumeric()
isdecimal() istitle() isidentifier() isprintable() isascii() center(20) ljust(15,'*') rjust(15,'-') center(15,'é') zfill(14)
expandtabs() expandtabs(4) count('l') count('') find('l') rfind('l') index('o') find('l',3) find('l',3,5) find('',99)
replace('l','L') replace('l','L',1) replace('','-') replace('<','&lt;') partition('l') rpartition('l') startswith('h')
endswith(('d','b')) startswith('l',2) endswith('o',0,5) removeprefix('h') removesuffix('d') join(['1','2']) join('<b') encode()
strip('hd') translate({104:'J',108:none}) strip(chars='x') __len__() nope() format(1) replace(old='a',new='b')""".split()
STRING_FILTERS = """upper lower title capitalize trim trim('h') length wordcount list first last reverse truncate(9) truncate(9,true)
truncate(9,false,'…') truncate(9,leeway=0) truncate(length=5,end='<',leeway=0) wordwrap(6) wordwrap(6,false)
wordwrap(10,wrapstring='|') indent indent(2,true) indent('>',blank=true) indent(first=true) center(20) replace('l','x')
replace('l','<',1) e escape forceescape safe striptags urlencode string int float int(5) int(base=16) float(1.5) tojson
tojson(ensure_ascii=true) pprint join('-') unique|list sort|join sort(reverse=true)|join sort(case_sensitive=true)|join max min
batch(3)|list slice(3)|list select('in','aeiou')|list map('upper')|list abs round filesizeformat xmlattr default('z') d('z',true)
format(1,2) items|list dictsort groupby(0) sum attr('upper') xmlattr""".split()
STRING_OPERATORS = ["{} + 'x'", "{} + html", "{} + (html|e)", "{} * 2", "{} * 0", "{} * -1", "2 * {}", "{} % 1", "{} ~ 1", "{} ~ html",
                    "{}[0]", "{}[-1]", "{}[99]", "{}[1:4]", "{}[::-1]", "{}[::2]", "{}[-3:]", "{}[5:1:-2]", "{} == 'x'", "{} < 'm'",
                    "{} in 'abc'", "'l' in {}", "{} is string", "{} is lower", "{} is upper", "{} is iterable", "{} is sequence",
                    "{} is mapping", "{} is escaped"]
VALUES = ["n", "t", "f", "i", "x", "y", "z", "w", "big", "huge", "neg", "s", "e", "l", "d", "()", "(1,)", "(1, 'a')", "[]", "{}", "undef",
          "range(3)", "html|safe", "li", "-0.0", "1.5e300", "5e-324"]
VALUE_FILTERS = """string tojson list length int float abs round round(1) round(-1) round(2,'ceil') round(0,'floor') sum first last max
min sort|list reverse|list join(',') default('z') d('z',true) upper e safe trim unique|list batch(2)|list slice(2)|list
batch(2,'f')|list slice(2,'f')|list map('string')|list select|list reject|list select('number')|list map(attribute='k')|list
items|list dictsort urlencode filesizeformat filesizeformat(true) pprint wordcount indent xmlattr tojson(indent=1) truncate(3)
format(1) replace('a',1) center(9) attr('real') tojson(separators=(',',':'))""".split()
TESTS = ["defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping", "sequence",
         "iterable", "callable", "escaped", "odd", "even", "divisibleby 3", "lower", "upper", "in [1, 2.0, none]", "eq 1", "ne 1",
         "lt 3", "ge 1", "sameas none", "sameas true"]
VALUE_FORMS = ["{}", "[{0}, ({0},)]", "-{}", "+{}", "not {}", "'y' if {} else 'n'", "'a' ~ {}", "{}.foo", "{}['foo']", "{}.foo.bar", "{}[0]",
               "{}[1:]", "{{{}: 1}}", "'%s %r %d' % ({0}, {0}, 1)", "'%s' % {}", "'%d' % {}", "'%.3f' % {}", "'%g' % {}", "'%x' % {}",
               "'%5s|%-5s|' % ({0}, {0})", "'{{}} {{!r}}'.format({0}, {0})", "'{{:>8}}'.format({})", "'{{:.2f}}'.format({})",
               "'{{:,}}'.format({})", "'{{:08}}'.format({})", "'{{:e}}'.format({})", "'{{:x}}'.format({})", "'{{:.3}}'.format({})",
               "'{{:+}}'.format({})", "'{{:%}}'.format({})", "'{{:^+12_}}'.format({})", "'{{:g}}'.format({})"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "==", "<", ">=", "in", "~", "and", "or", "!="]
SEQUENCES = {"s", "e", "l", "()", "(1,)", "(1, 'a')", "[]", "li", "html|safe"}


def generated():
    for string in STRINGS:
        yield from (f"({string}).{method}" for method in STRING_METHODS)
        yield from (f"({string})|{name}" for name in STRING_FILTERS)
        yield from (form.format(f"({string})") for form in STRING_OPERATORS)
    for a in VALUES:
        yield from (f"({a})|{name}" for name in VALUE_FILTERS)
        yield from (f"({a}) is {test}" for test in TESTS)
        yield from (form.format(f"({a})") for form in VALUE_FORMS)
        for b in VALUES:
            for operator in OPERATORS:
                # Powers and repetitions that would not fit into memory.
                endless = operator == "**" and b in ("big", "huge")
                endless |= operator == "*" and bool({a, b} & {"big", "huge"}) and bool({a, b} & SEQUENCES)
                if not endless:
                    yield f"({a}) {operator} ({b})"
    for code in "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%":
        yield f"strftime_now('%{code}')"
        yield f"strftime_now('[%-{code}|%_{code}|%0{code}|%^{code}|%#{code}|%8{code}]')"


def case(template: str) -> dict | None:
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
        text = compiled.render(messages=copy.deepcopy(MESSAGES), **copy.deepcopy(VARIABLES))
        text.encode()
    except Exception:
        return {"template": template, "error": True}
    unstable = any(sign in text for sign in (" at 0x", "<function", "<class", "built-in method"))
    return None if unstable else {"template": template, "text": text}


def main() -> None:
    everything = sys.argv[1:2] == ["all"]
    templates = (HERE / "jinja_templates.txt").read_text().removesuffix("\n").split("\n---\n")
    templates += ["{{ " + e + " }}" for i, e in enumerate(generated()) if everything or i % EVERY == 0]
    cases = [c for c in map(case, dict.fromkeys(templates)) if c is not None]
    made = f"jinja2 {jinja2.__version__} in the environment of transformers {transformers.__version__}, Python {sys.version.split()[0]}, time zone UTC"
    head = {"made with": made, "now": NOW, "messages": MESSAGES, "variables": VARIABLES}
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    path = Path(sys.argv[2]) if everything else HERE.parent / "jinja.json"
    path.write_text(json.dumps(head, ensure_ascii=False)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
