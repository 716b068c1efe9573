"""Templates whose text belongs to the sentence: what a reader sees of them. All others are removed.

Tables, not code, decide; a few families compute their text (dates, quantities, fractions).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MARK", "render_template"]

MARK = "\0"
"""Stands where markup was removed; XML cannot carry it, so no dump contains it."""

# Templates that are part of a sentence: what is shown -> the names. {3|1} is the first of the arguments 3
# and 1 that is not empty, {0} the name; an argument that is missing is closed up like any removed markup.
_TEMPLATES = {
    "{1}": """nowrap|nobr|no break|small|smaller|big|bigger|large|larger|abbr|abbrv|tooltip|sic|not a typo|em
        |strong|var|mvar|math|code|mono|kbd|tt|keypress|key press|sc|smallcaps|small caps|sub|nobold|noitalic
        |normal|visible anchor|vanchor|nts|number|format price|flag|flagu|flagcountry|chem2|nihongo2|nastaliq
        |center|plainlist|flatlist|script/cyrillic|longitem|nq|lj|railgauge""",
    "{2}": "lang|langx|script|rtl-lang|color|font color|colour|native name|native phrase",
    "{2|1}": "ipa|w|resize|columns-list|columns list|fontsize",
    "{3|2}": "transl|transliteration",
    "{lt|1}": "ill|interlanguage link",
    "{text|quote|1}": "quote|blockquote|quotation|bquote|cquote|quote box|quote frame",
    "{1} ({2}, {3}) {4}": "nihongo|nihongo krt",
    "{3} ({2}, {1}) {4}": "nihongo3|nihongo foot",
    "{t|s|c|1}, {p}": "zh|zh-full",
    "{hangul|1}, {hanja|2}, {rr}": "korean",
    "c. {1}": "circa|c.|ca.|ca",
    "fl. {1}": "floruit|fl.",
    "r. {1}–{2}": "reign|r.",
    "USS {1}": "uss",
    "HMS {1}": "hms",
    "SS {1}": "ss",
    "⟨{1}⟩": "angbr|angle bracket",
    "[{1}]": "ipa link|ipablink",
    "/{1}/": "ipaslink",
    "<sup>{1}</sup>": "sup|^",
    "×10<sup>{1}</sup>": "e|x10^",
    "₹{1}": "inr|indian rupee",
    "£{1}": "gbp|pound sterling",
    "€{1}": "euro|eur",
    "US${1}": "us$|usd",
    "–": "ndash|en dash|endash",
    "—": "mdash|em dash|mdashb",
    " – ": "snd|snds|spnd|spaced ndash|spaced en dash|sndash",
    " — ": "spaced mdash|spaced em dash|smd",
    " ": "nbsp|space|spaces|thinsp|thin space|hair space",
    "·": "·|•|middot|dot|bull",
    "'": "'|apos|`",
    "'s": "'s",
    "' \"": "' \"",
    "\" '": "\" '",
    "=": "=",
    "|": "!|pipe",
    "½": "half",
}
_CENTURIES = "ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx xxi"
_TEMPLATES_OF = {
    "ar": {"({1})": "إنج|إنجليزية|ألمانية|فرنسية|فرن|لاتينية|إسبانية|روسية|إيطالية|تركية|فارسية"},
    "de": {"{1} m": "höhe", "„{1|text}“": "zitat", "„{1}“": '"'},
    "es": {"{1}": "esd|versalita", "siglo {1}": "siglo", "«{1}»": "cita", "{1} {2}": "unidad"},
    "fr": {
        "{1}": "nombre|citation étrangère|terme défini|souligner|petit",
        "{texte|2}": "langue",
        "– {1} –": "incise",
        "{texte|fr|trad|1}": "lien",
        "{1} {2} {3}": "date|date-|date de naissance|date de décès",
        "{1} {2}": "unité|tmp",
        "{1} h {2}": "heure",
        "« {1} »": "citation|citation bloc",
        "{0}": "1re|2e|3e|4e|5e|6e|7e|8e|9e|10e|ier siècle|" + "e siècle|".join([*_CENTURIES.split(), ""]),
        "{1}e siècle": "s|siècle",
        "{1}e": "s-",
        "e": "e",
        "Ier": "ier|1er",
        "Ire": "ire|1re",
        "av. J.-C.": "av jc|av. j.-c.|-jc",
        "apr. J.-C.": "ap jc",
        "no": "n°|numéro",
    },
    "hu": {"{1}": "szám"},
    "it": {"{1} {u|ul|2}": "m", "{1}": "ta", "«{1}»": "citazione"},
    "ja": {
        "{label|1}": "仮リンク",
        "{1}": "要出典範囲|補助漢字フォント|jis2004フォント|sname|snamei",
        "{1}（{2}）": "ルビ|読み仮名|読み仮名 ruby不使用|ruby",
    },
    "ko": {"{2}": "llang", "{1}": "한자|작게"},
    "pt": {"{1}": "fmtn", "século {1}": "séc|século", "{1} {2}": "unit"},
    "ru": {
        "{2|1}": "нп|нп3|нп4|нп5|не переведено 3|не переведено 5|iw",
        "{текст|надо|1}": "не переведено|не переведено 2",
        "{1}": "число|s|comment|подсказка",
        "«{1}»": "цитата",
    },
    "uk": {"{2|1}": "нп|нп5|iw", "{треба|1}": "не перекладено", "{1}": "число|s"},
    "zh": {
        "{d|3|1}": "le|internal link helper|ilh|illm",
        "{4|3|2}": "tsl|translink",
        "（{1}{2}－{3}{4}）": "bd",
        "{1}": "僻字|補字|补字|專名|专名|書名|书名",
        "{1}（{2}）": "ruby|rubyh",
    },
}
_FAMILIES = {"lang-": "{1}", "link-": "{d|3|1}", "internal link helper/": "{d|3|1}"}  # name prefixes

_DATES = {  # by language, for a day, a month and a year; anything else is ISO 8601
    "en": ("{month} {d}, {y}", "{month} {y}", "{y}"),
    "ja": ("{y}年{m}月{d}日", "{y}年{m}月", "{y}年"),
    "ko": ("{y}년 {m}월 {d}일", "{y}년 {m}월", "{y}년"),
    "zh": ("{y}年{m}月{d}日", "{y}年{m}月", "{y}年"),
}
_MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
_RANGES = {"to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "-": "–", "–": "–"}
_UNITS = {"sqmi": "sq mi", "sqft": "sq ft", "cuft": "cu ft", "sqkm": "km²", "sqm": "m²", "C": "°C", "F": "°F"}

Arguments = dict[str, str]  # of a template call: positions are the keys "1", "2", …; "0" is its name


def _convert(arguments: Arguments, language: str) -> str:
    """Quantity and unit as given ({{convert|5|to|6|km|mi}}); the conversion itself is not part of the text."""
    text, position = arguments.get("1", ""), 2
    if (word := arguments.get("2", "")) in _RANGES:
        text += _RANGES[word] + arguments.get("3", "")
        position = 4
    unit = arguments.get(str(position), "")
    unit = _UNITS.get(unit, re.sub(r"(?<=[a-z])[23]$", lambda power: "²³"[int(power[0]) - 2], unit))
    return f"{text} {unit}".strip()


def _date(arguments: Arguments, language: str) -> str:
    """Date of {{birth date|1960|4|5}} and its kind, as the language writes it."""
    year, month, day = (arguments.get(key, "") for key in "123")
    month = str(_MONTHS.index(month) + 1) if month in _MONTHS else month
    if not re.fullmatch(r"[0-9]{1,4},(?:(?:0?[1-9]|1[0-2]),(?:[0-9]{1,2})?|,)", f"{year},{month},{day}"):
        return " ".join(filter(None, (year, month, day)))
    y, m, d = (int(number or 0) for number in (year, month, day))
    formats = _DATES.get(language, ("{y}-{m:02}-{d:02}", "{y}-{m:02}", "{y}"))
    if language == "en" and arguments.get("df", "n")[:1] == "y":
        formats = ("{d} {month} {y}", *formats[1:])
    return formats[(not d) + (not m)].format(y=y, m=m, d=d, month=_MONTHS[m - 1])


def _as_of(arguments: Arguments, language: str) -> str:
    """{{as of|2010|5}} -> As of May 2010."""
    words = "since" if arguments.get("since") else "as of"
    words = words if arguments.get("lc") else words.capitalize()
    return arguments.get("alt") or f"{words} {_date(arguments | {'df': 'y'}, language)}"


def _fraction(arguments: Arguments, language: str) -> str:
    """{{frac|2}}, {{frac|1|2}}, {{frac|3|1|2}} -> 1/2, 1/2, 3 1/2."""
    one, two, three = (arguments.get(key, "") for key in "123")
    return f"{one} {two}/{three}" if three else f"{one}/{two}" if two else f"1/{one}"


def _value(arguments: Arguments, language: str) -> str:
    """{{val|1.5|e=3|u=km}} -> 1.5×10<sup>3</sup> km."""
    power = f"×10<sup>{arguments['e']}</sup>" if "e" in arguments else ""
    return f"{arguments.get('1', '')}{power} {arguments.get('u') or arguments.get('ul', '')}".strip()


def _listed(arguments: Arguments, language: str, separator: str = ", ") -> str:
    """{{hlist|a|b}} -> a, b."""
    return separator.join(value for key, value in arguments.items() if value and key.isdecimal() and key != "0")


def _glued(arguments: Arguments, language: str) -> str:
    """{{chem|H|2|O}} -> H2O."""
    return _listed(arguments, language, "")


Render = str | Callable[[Arguments, str], str]
_COMPUTED: dict[Callable[[Arguments, str], str], str] = {
    _convert: "convert|cvt",
    _date: """birth date|birth date and age|death date|death date and age|bda|dob|start date|start date and age
        |end date|dts|film date|生年月日|生年月日と年齢|出生日期|出生日期及年齡|생년월일""",
    _as_of: "as of",
    _fraction: "frac|sfrac|fraction",
    _value: "val",
    _listed: "hlist|ubl|unbulleted list|vunblist",
    _glued: "chem|gaps|linktext",
}


def _by_name(table: Mapping[Any, str]) -> dict[str, Render]:
    return {name.strip(): shown for shown, names in table.items() for name in names.split("|")}


_COMMON = _by_name(_TEMPLATES) | _by_name(_COMPUTED)
_RENDERS = {language: _COMMON | _by_name(table) for language, table in _TEMPLATES_OF.items()}
_PLACE = re.compile(r"\{(.+?)\}")


def render_template(content: str, language: str) -> str:
    """Text of the template call {{content}}, whose inner markup is already text; a mark if it shows none."""
    head, *fields = content.split("|")
    name = head.strip().replace("_", " ").lower()
    if name.startswith("formatnum:"):
        return head.partition(":")[2].strip()
    render = _RENDERS.get(language, _COMMON).get(name)
    if render is None:
        render = next((shown for prefix, shown in _FAMILIES.items() if name.startswith(prefix)), None)
        if render is None:
            return MARK
    arguments: Arguments = {"0": head.strip()}
    position = 0
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            position += 1
            key, value = str(position), field
        arguments[key.strip().lower()] = value.strip()
    if callable(render):
        return render(arguments, language) or MARK
    return _PLACE.sub(lambda place: next(filter(None, map(arguments.get, place[1].split("|"))), None) or MARK, render)
