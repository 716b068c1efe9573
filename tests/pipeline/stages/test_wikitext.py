"""What a reader of a wiki page reads, markup by markup; and no markup, however broken, that stops or slows us."""

import bz2
import re
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.wikitext import MAX_DEPTH, to_text, wikitext_to_text

EXCERPTS = Path(__file__).resolve().parents[2] / "data" / "wikitext"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("", ""),
        ("Plain text.\n\nSecond paragraph.", "Plain text.\n\nSecond paragraph."),
        ("One  line \nand\tthe next.\n\n\n\nLast.  ", "One line\nand the next.\n\nLast."),
        # comments, references, formulas, tags
        ("seen<!-- not\nseen --> text", "seen text"),
        ("A fact.<ref>Source, p. 5</ref> Next<ref name=a /> one<ref name=a>x</ref>.", "A fact. Next one."),
        ("where <math>a<b</math>, <gallery>\nFile:A.jpg|A\n</gallery>end", "where, end"),
        ("<syntaxhighlight lang=c>int {{x}};</syntaxhighlight>after", "after"),
        ('<div class="a"><b>bold</b> and <span style="x">plain</span></div>', "bold and plain"),
        ("first<br />second<BR>\nthird", "first\nsecond\nthird"),
        ("10<sup>−5</sup> m<sup>2</sup>, H<sub>2</sub>O, 5<sup>th</sup>", "10⁻⁵ m², H2O, 5th"),
        ("a < b and c > d, <y>", "a < b and c > d, <y>"),
        ("<nowiki>[[not a link]] ''{{x}}''</nowiki> and <nowiki/>", "[[not a link]] ''{{x}}'' and"),
        ("<pre>\n# [[code]]\n== x ==</pre>", "# [[code]]\n== x =="),
        ("text<references><ref name=a>{{cite}}</ref></references>", "text"),
        ("<noinclude>shown</noinclude><includeonly>hidden</includeonly>", "shown"),
        # entities
        (
            "5&nbsp;km &ndash; R&amp;D &lt;b&gt; &#x4e2d;&#25991; &amp;amp; &nosuchthing;",
            "5 km – R&D <b> 中文 &amp; &nosuchthing;",
        ),
        ("&#91;&#91;not a link&#93;&#93;", "[[not a link]]"),
        # bold and italic
        ("'''bold''', ''italic'' and '''''both'''''; don't", "bold, italic and both; don't"),
        ("dans l'''Odyssée''", "dans l'Odyssée"),
        ("''''quoted bold''''", "'quoted bold'"),
        # headings, sections without text
        ("Intro\n== One ==\ntext\n=== Two ===\n\nmore", "Intro\n\nOne\ntext\n\nTwo\nmore"),
        ("Intro\n==References==\n{{reflist}}\n== External links ==\n[[Category:A]]", "Intro"),
        ("==A==\n===B===\ntext of b\n===C===\n{{x}}\n==D==", "A\n\nB\ntext of b"),
        ("==See also==\n* [[Other]]", "See also\nOther"),
        ("== ''Title'' <!-- c --> ==<ref>x</ref>\ntext", "Title\ntext"),
        # lists, rules, magic words
        ("* one\n** two\n# three\n: four\n;term:five\n*{{x}}\n----\n---- end", "one\ntwo\nthree\nfour\nterm:five\nend"),
        ("__NOTOC__\ntext __KEIN_INHALTSVERZEICHNIS__\n__无目录__", "text"),
        # tables
        ("before\n{| class=wikitable\n! a\n|-\n| b {{x|\n{|\n| c\n|}\n}}\n|}\nafter", "before\nafter"),
        ("before<table><tr><td>x<table><td>y</td></table></td></tr></table> after", "before after"),
        # links
        ("[[Berlin]], [[Berlin|the city]] and [[dog]]s", "Berlin, the city and dogs"),
        ("[[Foo (bar)|]], [[Paris, Texas|]], [[Help:A, B (c)|]]", "Foo, Paris, A, B"),
        ("[[:Category:Cities]], [[:de:Berlin|auf Deutsch]], [[w:Foo|foo]]", "Category:Cities, auf Deutsch, foo"),
        ("text\n[[Category:A| ]]\n[[de:Berlin]]\n[[zh-min-nan:Berlin]]", "text"),
        ("[[File:a.jpg|thumb|the [[city]], [http://x.org here] {{x}}]]Text", "Text"),
        ("[[Datei:A.jpg|mini]][[Fichier:A.jpg]][[ملف:A.jpg]][[ファイル:A.jpg]][[Tập tin:A.jpg]][[파일:A.jpg]]文", "文"),
        ("a [http://x.org label] b [https://x.org] c [//x.org [pdf] d]", "a label b c [pdf] d"),
        ("[mailto:a@x.org write], see http://x.org", "write, see http://x.org"),
    ],
)
def test_markup(markup: str, text: str) -> None:
    assert wikitext_to_text(markup) == text


@pytest.mark.parametrize(
    ("language", "markup", "text"),
    [
        ("en", "{{Infobox city\n| name = [[Berlin]]\n| pop = {{val|3}}\n}}\nBerlin is", "Berlin is"),
        ("en", "{{convert|5|km|mi}}, {{Convert|5|to|6|C|F|abbr=on}}, {{cvt|2|m2}}", "5 km, 5 to 6 °C, 2 m²"),
        ("en", "{{lang|de|Haus}}, {{lang-de|Haus}}, {{langx|de|Haus}}", "Haus, Haus, Haus"),
        ("en", "{{transl|ja|Tōkyō}}, {{transl|ja|hepburn|Tōkyō}}, {{ill|A|de|B|lt=C}}", "Tōkyō, Tōkyō, C"),
        ("en", "{{nowrap|a {{small|b}}}} {{abbr|c|see}} {{Visible_anchor|d}}", "a b c d"),
        ("en", "{{formatnum:1234.5}} {{frac|1|2}} {{frac|3|1|2}} {{val|1.5|e=3|u=m}}", "1234.5 1/2 3 1/2 1.5×10³ m"),
        ("en", "{{circa|1900}}{{snd}}x{{nbsp}}y{{ndash}}z, {{'}}s {{=}} {{!}}", "c. 1900 – x y–z, 's = |"),
        ("en", "{{birth date|1960|4|5}} {{birth date|1960|04|05|df=yes}}", "April 5, 1960 5 April 1960"),
        ("fr", "{{birth date|1960|4|5}} {{start date|1960|4}} {{start date|1960}}", "1960-04-05 1960-04 1960"),
        ("en", "{{as of|2010|5}}, {{as of|2010|March|lc=y}}, {{As of|1999|1|2}}",
         "As of May 2010, as of March 2010, As of 2 January 1999"),
        ("en", "{{nihongo|Tokyo|東京|Tōkyō}} and {{nihongo|Tokyo|東京}} and {{nihongo|Tokyo}}",
         "Tokyo (東京, Tōkyō) and Tokyo (東京) and Tokyo"),
        ("en", "{{chem|H|2|O}} {{hlist|a|b}} {{angbr|c}} {{USS|Hornet|CV-8}}", "H2O a, b ⟨c⟩ USS Hornet"),
        ("en", "{{lang|de|2=a=b}} {{w|Title|shown}} {{quote|text=Said.|author=X}}", "a=b shown Said."),
        ("de", "{{Höhe|115|DE-NHN}}, {{Zitat|Wort}}", "115 m, „Wort“"),
        ("fr", "{{unité|350|km}} au {{XIXe siècle}}, {{date-|1|mars|1960}}", "350 km au XIXe siècle, 1 mars 1960"),
        ("ja", "{{仮リンク|ボン法|en|Bonn Act}}、{{読み仮名|東京|とうきょう}}、{{生年月日|1960|4|5}}",
         "ボン法、東京（とうきょう）、1960年4月5日"),
        ("ko", "{{llang|en|Seoul}} {{birth date|1960|4|5}}", "Seoul 1960년 4월 5일"),
        ("ru", "{{нп5|Имя|надпись|en|Name}} {{lang-en|Name}}", "надпись Name"),
        ("zh", "{{link-en|中文|English}}、{{le|中文|English|显示}}、{{tsl|en|English|中文}}", "中文、显示、中文"),
        ("zh", "某人{{bd|1900年|1月2日|1980年|3月4日}}", "某人（1900年1月2日－1980年3月4日）"),
        ("zh-Hant", "{{birth date|1960|4|5}}", "1960年4月5日"),
        ("en", "{{bd|1900年}}{{нп5|a}}{{unknown|text}}left", "left"),
    ],
)  # fmt: skip
def test_templates_of_a_sentence(language: str, markup: str, text: str) -> None:
    assert wikitext_to_text(markup, language=language) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''北京'''是[[中华人民共和国]]的[[首都]]。{{noteTA|G1=地名}}", "北京是中华人民共和国的首都。"),
        ("[[文件:a.jpg|thumb|图]][[圖像:a.jpg]][[分类:城市]][[分類:城市]]\n正文", "正文"),
        ("[[:Category:城市]]、[[维基 (消歧义)|]]", "Category:城市、维基"),
        ("-{zh-hans:计算机; zh-hant:電腦}-", "计算机"),
        ("-{zh-tw:電腦;zh-cn:计算机}-、-{zh:通用;zh-tw:繁}-、-{zh-tw:電腦;zh-hk:電腦2}-", "计算机、通用、電腦"),
        ("-{ZH-CN:a&nbsp;b; zh-tw:c}-", "a b"),
        ("-{原文}-，-{zh:;}-空", "原文，空"),
        ("-{R|原文}-，-{zh-hans;zh-hant|限定}-，-{A|zh-cn:宏;zh-tw:巨集}-", "原文，限定，宏"),
        ("-{H|zh-cn:宏;zh-tw:巨集}--{T|zh-cn:标题}--{-|zh-cn:规则}-文", "文"),
        ("-{H|巨集=>zh-cn:宏}-，-{巨集=>zh-cn:宏}-", "，宏"),
        ("[[宏|-{zh-hans:宏;zh-hant:巨集}-]]、{{lang|en|-{Macro}-}}、-{[[宏]]}-", "宏、Macro、宏"),
        ("柏林（{{lang-de|Berlin}}{{IPA-de|x}}）", "柏林（Berlin）"),
        ("柏林（{{IPA-de|x}}，{{audio|a.ogg}}）是", "柏林是"),
        ("柏林（{{IPA-de|x}}；旧称伯林）、东京（旧称江户，{{ja}}）", "柏林（旧称伯林）、东京（旧称江户）"),
        ("闻名<ref>{{cite web|url=x}}{{dead link}}</ref> <ref name=b/>。", "闻名。"),
        ("== 参考文献 ==\n{{reflist}}\n== 外部链接 ==\n* [http://x.cn 官网]\n== 参见 ==\n", "外部链接\n官网"),
    ],
)
def test_chinese(markup: str, text: str) -> None:
    assert wikitext_to_text(markup, language="zh") == text


def test_variants_of_other_languages_take_the_first() -> None:
    assert wikitext_to_text("-{sr-el:grad; sr-ec:град}- -{R|grad}-", language="sr") == "grad grad"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("used in {{x}} and {{y}}.", "used in and."),
        ("one {{x}} two, {{x}} three", "one two, three"),
        ("Berlin, {{x}}, Germany", "Berlin, Germany"),
        ("Berlin ({{x}}, {{y}}) is", "Berlin is"),
        ("Berlin ({{x}}; born 1950) ({{x}}/{{y}}), ((({{x}}))) end", "Berlin (born 1950), end"),
        ("Berlin (born 1950, {{x}}), f() and ( ) stay", "Berlin (born 1950), f() and ( ) stay"),
        ("mot<ref/> : suite ; mot <ref/>; fin", "mot : suite ; mot; fin"),
        ("a\n{{x}}\nb\n\n{{x}} {{y}}\n\nc", "a\nb\n\nc"),
        ("{{x}} · {{y}}\ntext", "text"),
        ("'''''{{x}}''''' is ''{{y}}''.", "is."),
    ],
)
def test_holes_are_closed(markup: str, text: str) -> None:
    assert wikitext_to_text(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("{{unclosed text\n\nand [[more]]", "unclosed text\n\nand more"),
        ("[[unclosed and [[link|label]] rest", "unclosed and label rest"),
        ("[[Thrissur]\n\nrest [[of]] page", "Thrissur]\n\nrest of page"),
        ("{{a|[[b}} after [[c]] and ]] }} left", "after c and ]] left"),
        ("text<ref>unclosed\n\nmore <ref>closed</ref> end", "textunclosed\n\nmore end"),
        ("text <!-- unclosed", "text unclosed"),
        ("<!-- unclosed", "unclosed"),
        ("<!-- unclosed <!-- closed --> text", "unclosed text"),
        ("{|\n| cell\n== Next section ==\ntext", "Next section\ntext"),
        ("{{a\n== Next ==\ntext}} more", "a\n\nNext\ntext more"),
        ("[[two\n\nparagraphs|kept]]", "two\n\nparagraphs|kept"),
        ("-{unclosed 中文", "unclosed 中文"),
        ("a''b'''c", "ab'c"),
        ("null \0 byte", "null byte"),
    ],
)
def test_broken_markup_loses_only_itself(markup: str, text: str) -> None:
    assert wikitext_to_text(markup) == text


TOKENS = """
    {{ }} {{{ }}} [[ ]] -{ }- {| |} | = == === ' '' ''' ''''' <ref> </ref> <ref/> <nowiki> </nowiki> <pre>
    </pre> <math> </math> <table> </table> <br> <sup>1</sup> <!-- --> [http:// [//x ] __TOC__ ---- * # : ; &nbsp;
    &#91; &#0; &amp; ( ) （ ） , ， . 。 {{x}} {{lang|de {{convert|1|km {{frac|1 {{as {{birth {{nihongo|a|b}} [[File:
    [[Category:x]] [[:a [[de:b]] zh-hans: zh-cn:a; A| H| => word 汉字
"""
soup = st.lists(st.sampled_from([*TOKENS.split(), " ", "\n", "\n\n"]) | st.text(max_size=3), max_size=60).map("".join)


@settings(deadline=None, max_examples=200)
@given(markup=soup, language=st.sampled_from(["en", "zh", "fr"]))
def test_any_markup_gives_clean_lines(markup: str, language: str) -> None:
    text = wikitext_to_text(markup, language=language)
    assert "\0" not in text
    assert "\n\n\n" not in text
    assert text == text.strip()
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    text.encode()


openers = st.sampled_from(["{{", "[[", "-{", "<ref>", "<table>", "'''", "<!--", "<nowiki>", "{{nowrap|", "\n== ", " "])
words = st.from_regex(r"[a-z]{3}[0-9]{3}", fullmatch=True) | st.text("柏林是德国首都", min_size=3, max_size=5)


@settings(deadline=None, max_examples=100)
@given(parts=st.lists(st.tuples(openers, words), max_size=40))
def test_nothing_that_is_never_closed_takes_text_with_it(parts: list[tuple[str, str]]) -> None:
    text = wikitext_to_text("".join(f"{opener}{word} " for opener, word in parts), language="zh")
    found = iter(re.findall(r"[a-z]{3}[0-9]{3}|[柏林是德国首都]{3,5}", text))
    assert all(word in found for _, word in parts)


prose = st.lists(
    st.lists(st.text("abcz 柏林ñЖא", min_size=1).map(str.split).map(" ".join).filter(bool), min_size=1).map("\n".join)
).map("\n\n".join)


@settings(deadline=None, max_examples=50)
@given(text=prose)
def test_plain_text_is_kept_to_the_letter(text: str) -> None:
    assert wikitext_to_text(text) == text


@settings(deadline=None, max_examples=50)
@given(
    text=prose, places=st.lists(st.integers(0, 200)), hidden=st.sampled_from(["<ref>x</ref>", "<!--x-->", "{{x|y}}"])
)
def test_hidden_markup_inside_words_changes_nothing(text: str, places: list[int], hidden: str) -> None:
    letters = [place for place in places if text[place - 1 : place + 1].isalpha() and 0 < place < len(text)]
    markup = text
    for place in sorted(letters, reverse=True):
        markup = markup[:place] + hidden + markup[place:]
    assert wikitext_to_text(markup) == text


@pytest.mark.parametrize(
    "token",
    ["{{", "[[", "-{", "<ref>", "\n{|", "'''", "<!--", "<nowiki>", "[http://a ", "{{nowrap|", "-{zh-hans:", "\n==a==",
     "(<ref/>)", "(", "{{x}} ,", " ", "&", "[[a|", "}}", "<b"],
)  # fmt: skip
def test_a_megabyte_of_one_token_takes_less_than_a_second(token: str) -> None:
    markup = (token * (1_000_000 // len(token) + 1))[:1_000_000]
    start = time.process_time()
    assert isinstance(wikitext_to_text(markup, language="zh"), str)
    assert time.process_time() - start < 1


def test_nesting_beyond_the_depth_keeps_the_text() -> None:
    def nested(depth: int) -> str:
        return wikitext_to_text("{{nowrap|" * depth + "core" + "}}" * depth)

    assert nested(MAX_DEPTH) == "core"
    assert nested(MAX_DEPTH + 1).endswith("core")
    assert nested(10_000).endswith("core")


@pytest.mark.parametrize("name", ["en-angola", "fr-meillet", "zh-berlin"])
def test_real_excerpts(name: str) -> None:
    markup = (EXCERPTS / f"{name}.wikitext").read_text(encoding="utf-8")
    expected = (EXCERPTS / f"{name}.txt").read_text(encoding="utf-8")
    assert wikitext_to_text(markup, language=name[:2]) + "\n" == expected


def pages(dump: Path) -> Iterator[str]:
    with bz2.open(dump) as stream:
        for _, element in ET.iterparse(stream):
            if element.tag.endswith("}text") and not (element.text or "").lstrip().upper().startswith("#REDIRECT"):
                yield element.text or ""


def test_no_residue_in_the_dumps_of_sixty_languages(shared_data: Path) -> None:
    residue: Counter[str] = Counter()
    dumps = sorted((shared_data / "wiki" / "minidumps").glob("*.bz2"))
    assert len(dumps) > 60
    for dump in dumps:
        for markup in pages(dump):
            text = wikitext_to_text(markup, language=dump.name.partition("wiki")[0])
            residue.update(re.findall(r"\{\{|\}\}|\[\[|<ref|==|\|thumb|-\{|\n\||''|Category:|__[A-Z]", text))
    assert residue == {"Category:": 1}  # a link that is shown: [[:Category:Video games set in Berlin]]


def test_a_batch_keeps_rows_and_nulls() -> None:
    markups = pa.array(["[[a]]", None, "-{zh-tw:電腦;zh-cn:计算机}-"])
    assert to_text(markups, ["en", "en", "zh"]).equals(pa.array(["a", None, "计算机"]))
    assert to_text(markups, "en").to_pylist() == ["a", None, "電腦"]
    assert to_text(pa.array([], pa.string()), "zh").equals(pa.array([], pa.string()))
    with pytest.raises(ValueError, match="zip"):
        to_text(markups, ["en"])
