"""HTML to the text of its main content."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.charset import decode
from corpusmill.pipeline.stages.html import ExtractSettings, extract

SETTINGS = ExtractSettings()


def text_of(body: str, settings: ExtractSettings = SETTINGS) -> str | None:
    return one(f"<html><body>{body}</body></html>", settings)[0]


def one(page: str | None, settings: ExtractSettings = SETTINGS) -> tuple[str | None, str | None, str | None]:
    text, title, reason = extract(pa.array([page], pa.string()), settings)
    return text[0].as_py(), title[0].as_py(), reason[0].as_py()


ARTICLE = """<!DOCTYPE html><html lang=zh><head><title>
  第 1 章&nbsp; 老桥 </title><style>p { color: red }</style><script>var x = "<p>no</p>";</script></head><body>
<nav><ul><li><a href=/>首页</a></li><li><a href=/a>新闻</a></li></ul></nav>
<main><div><div><h1>老桥</h1><p>这座<a href=/bridge>老桥</a>从<b>春天</b>起<i>禁止</i>通行了。</p>
<ul><li>第一项</li><li>第二项<ol><li>甲</li><li>乙</li></ol></li></ul>
<pre>def f():
    return   1</pre>
<table><tr><th>名称</th><th>大小</th></tr><tr><td>桥</td><td>3</td></tr></table>
<p>用<code>apt</code>、<code>dpkg</code>和<code>snap</code>。<br>Don&rsquo;t say <em>a</em>&mdash;<em>b</em>!</p>
<img src=x alt="a bridge"></div></div></main><noscript>switch it on</noscript><form><input value=v><button>Go</button></form>
<div class="comments"><p>first!</p></div><footer><p>Copyright</p></footer></body></html>"""


def test_a_page() -> None:
    text, title, reason = one(ARTICLE)
    assert title == "第 1 章 老桥"
    assert reason is None
    assert text == (
        "老桥\n\n这座老桥从春天起禁止通行了。\n\n  • 第一项\n  • 第二项\n    1. 甲\n    2. 乙\n"
        "def f():\n    return   1\n名称\t\t大小\n桥\t\t3\n\n用apt、dpkg和snap。\nDon’t say a—b!"
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p><b>说</b>“<i>好</i>”</p>", "说“好”"),
        ("<p>用 <code>a</code>\n或\n<code>b</code></p>", "用 a 或 b"),
        ("<p>甲<br>乙</p>", "甲\n乙"),
        ("<p><i>a</i>&hellip;<i>b</i>&#8212;<i>c</i>&#x4E2D;<i>d</i></p>", "a…b—c中d"),
        ("<p>icon <i>\uf101</i><i>&#xf101;</i><i>&#61697;</i>gone</p>", "icon gone"),
        ("<h2>Title<a href=#t>¶</a><a href=#t>&para;</a></h2>", "Title"),
    ],
)
def test_single_characters_between_elements(body: str, expected: str) -> None:
    assert text_of(body) == expected


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["b", "i", "code", "span", "a"]),
            st.sampled_from(["的", "。", "、", "”", "か", "각", "é", "x", "字词", "\u0939", "—", "𠀀"]),
            st.sampled_from(["的", "。", "和", "“", "が", "ö", "y", "文字", "…", "", "\u0e01"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_inline_elements_lose_no_character(pieces: list[tuple[str, str, str]]) -> None:
    body = "".join(f"<{tag}>{inside}</{tag}>{between}" for tag, inside, between in pieces)
    assert text_of(f"<p>{body}</p>") == "".join(inside + between for _, inside, between in pieces)


def test_lists_of_a_page_without_structure_are_content_and_link_lists_are_not() -> None:
    assert text_of("<p>老桥：</p><ul><li>很老。</li><li>很长。</li></ul>") == "老桥：\n\n  • 很老。\n  • 很长。"
    assert text_of("<p>老桥。</p><ul><li><a href=/>首页</a></li><li><a href=/a>新闻</a></li></ul>") == "老桥。"


def test_a_page_that_the_rules_empty_keeps_its_visible_text() -> None:
    assert text_of("<div class='hidden'><p>这座老桥从春天起禁止通行了。</p></div>") == "这座老桥从春天起禁止通行了。"


@pytest.mark.parametrize("page", ["", " \n", "<html>", "<html><body><script>x</script><!-- y --></body></html>"])
def test_a_page_without_visible_text(page: str) -> None:
    assert one(page) == ("", None, None)


def test_null() -> None:
    assert one(None) == (None, None, None)


def test_the_budget_of_size() -> None:
    page = "<title>t</title><p>老桥</p>"
    assert one(page, ExtractSettings(max_chars=len(page))) == ("老桥", "t", None)
    assert one(page, ExtractSettings(max_chars=len(page) - 1)) == (None, None, "too_large")
    nested = "<title>t</title>" + "<ol><li>x" * 50 + "<li>y" * 50  # the indentation makes the text longer than the page
    assert one(nested, ExtractSettings(max_chars=len(nested))) == (None, "t", "too_large")


def test_the_budget_of_depth() -> None:
    page = "<html><head><title>t</title></head><body>" + "<div>" * 5 + "<p>老桥</p>"  # html, body, 3 of ours, 5 div, p
    assert one(page, ExtractSettings(max_depth=11)) == ("老桥", "t", None)
    assert one(page, ExtractSettings(max_depth=10)) == (None, "t", "too_deep")


BILLION_LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">{}]>
<html xmlns="http://www.w3.org/1999/xhtml"><body><p>老桥 &l9;</p></body></html>""".format(
    "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
)

MONSTERS = {
    "b'<p>word ' * 12_500_000": "too_large",  # 100 MB in one line
    "b'<' * (64 << 20)": "too_large",
    "b'x' * (64 << 20)": "too_large",
    "b'\\xff' * (64 << 20)": "too_large",
    "b'\\0' * (64 << 20)": "too_large",
    "b'<div>' * 1_000_000": "too_large",
    "b'<div>' * 100_000": "too_deep",
    "b'<div>' * 20_000": "too_deep",
    "b'<div>text ' * 100_000 + b'</div>' * 100_000": "too_deep",
    "b'<table><tr><td>' * 80_000": "too_deep",
    "b'<span>' * 16_000 + b'</x>' * 16_000": "too_deep",
    "b'<a><div>' * 20_000": "too_deep",
    "b''.join(b'<font size=%d>x<p>' % i for i in range(20_000))": "too_large",
    "b'<b>x<p>' * 20_000": None,
    "b'<a href=x>y<p>' * 20_000": None,
    "b'<div ' + b''.join(b'a%d=1 ' % i for i in range(1_000_000)) + b'>x'": "too_large",
    "b'<div ' + b''.join(b'%x ' % i for i in range(1_000_000)) + b'>x'": "too_large",
    "b''.join(b'<body a%d=1>' % i for i in range(100_000))": "too_large",
    "b'<td a=1>xyz' * 100_000": "too_large",
    "b'<td a=1>xyz' * 10_000": None,
    "b'<select>' + b'<option>x' * 100_000": "too_large",
    "b'<select>' + b'<option>x' * 10_000": None,
    "b''.join(b'<x%d>' % i for i in range(100_000))": "too_large",
    "b'<meta ' * 1_000_000": "too_large",
    "b'<meta a>' * 200_000": None,
    "b'<body' * 200_000": None,
    "b'<p>x<!--' + b'y' * 8_000_000": None,
    "b'<p>x<!--' * 100_000": None,
    "b'<p>x' + b'<![CDATA[' * 200_000": None,
    "b'<p>x' + b'<script>' * 100_000": "too_deep",
    "b'<p>x' + b'<script>x</script>' * 100_000": None,
    "b'<p>x</p>' + b'</br>' * 200_000": None,
    "b'<p>' + b'&lt' * 2_000_000": None,
    "b'<p>&#' + b'9' * 8_000_000": None,
    "b'<p>&' + b'a' * 8_000_000": None,
    "b'<title>' + b'x ' * 4_000_000 + b'</title><p>y'": None,
    "b'<p class=\\'' + b'x ' * 4_000_000 + b'\\'>y'": None,
    "b'<p>\\0x' * 200_000": None,
    "b'<div>' * 240 + b'<p>x' * 20_000": None,
    "b'>' + b' ' * 8_000_000": None,
}


@pytest.fixture(scope="module")
def monsters() -> dict[str, str]:
    """What became of each, in a process of its own that may take 60 s of CPU (6 s where this was written)."""
    code = f"""
import pathlib, re, resource, time, pyarrow as pa
from corpusmill.pipeline.stages.charset import decode
from corpusmill.pipeline.stages.html import ExtractSettings, extract
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for source in {list(MONSTERS)!r}:
    content = pa.array([eval(source)], pa.large_binary())
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is used now
    start = time.process_time()
    text, _ = decode(content, pa.nulls(1, pa.string()))
    _, _, reason = extract(text, ExtractSettings())
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
    print(source, reason[0].as_py(), time.process_time() - start, int(peak[1]) // 1024, sep="\\t", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return {line.split("\t")[0]: line for line in done.stdout.splitlines()} | {"stderr": done.stderr}


@pytest.mark.parametrize("source", MONSTERS)
def test_a_monster_ends_as_text_or_as_a_reason(source: str, monsters: dict[str, str]) -> None:
    """In seconds, and in less than 1 GB."""
    assert source in monsters, monsters["stderr"]
    _, reason, seconds, peak = monsters[source].split("\t")
    assert reason == str(MONSTERS[source])
    assert float(seconds) < 10
    assert int(peak) < 1000


def test_entities_that_a_page_defines_are_not_expanded() -> None:
    assert one(BILLION_LAUGHS)[0] == "]>\n\n老桥 &l9;"  # as a browser shows it


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.none() | st.sampled_from(["", ARTICLE, "<p>x", "<" * 9]) | st.text(max_size=40), min_size=2, max_size=5)
)
def test_a_slice_gives_the_same_rows(pages: list[str | None]) -> None:
    whole = extract(pa.array(pages, pa.large_string()), SETTINGS)
    part = extract(pa.array(pages, pa.string())[1:], SETTINGS)
    assert all(column.type == pa.string() for column in whole)
    assert [column.to_pylist() for column in part] == [column[1:].to_pylist() for column in whole]


@pytest.mark.parametrize(
    ("uri", "title", "passages"),
    [
        (
            "http://docs.debian-handbook-zh.example/debian-handbook/html/zh-TW/sect.apt-get.html",
            "6.2. aptitude、apt-get、與 apt 命令",
            ["6.2. aptitude、apt-get、與 apt 命令", "# apt install spamassassin/unstable", "6.2.2. 安裝與移除"],
        ),
        (
            "http://docs.installation-guide-amd64.example/installation-guide-amd64/ja/ch02s02.html",
            "2.2. ファームウェアが必要なデバイス",
            ["いわゆる ファームウェア や マイクロコード を、", "(特にワイヤレス NIC)"],
        ),
        (
            "http://docs.postgresql-doc-15.example/postgresql-doc-15/html/dynamic-trace.html",
            "28.5. Dynamic Tracing",
            ["transaction-start\t\t(LocalTransactionId)\t\tProbe that fires at the start of a new transaction."],
        ),
    ],
)
def test_real_pages(shared_data: Path, uri: str, title: str, passages: list[str]) -> None:
    (body,) = (
        record.reader.read()
        for path in sorted((shared_data / "crawl").glob("*.warc.gz"))
        for record in ArchiveIterator(
            str(path),
            record_types=WarcRecordType.response,
            auto_decode="all",
            func_filter=lambda record: record.headers["WARC-Target-URI"] == uri,
        )
    )
    page, _ = decode(pa.array([body]), pa.nulls(1, pa.string()))
    text, found, _ = extract(page, SETTINGS)
    assert found[0].as_py() == title
    assert [passage for passage in passages if passage not in text[0].as_py()] == []
