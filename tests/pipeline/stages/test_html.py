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


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("'<div>' * 100_000", "too_deep"),
        ("'<div>text ' * 100_000 + '</div>' * 100_000", "too_deep"),
        ("'<table><tr><td>' * 100_000", "too_deep"),
        ("''.join(f'<font size={i}>x<p>' for i in range(20_000))", "too_large"),
        ("'<b>x<p>' * 20_000", None),
        ("'<a href=x>y<p>' * 20_000", None),
    ],
)
def test_monsters_neither_crash_nor_stall(page: str, reason: str | None) -> None:
    """In a process of its own, with limits far above what it needs (below 1 s and 300 MB)."""
    code = f"""
import pathlib, re, resource, pyarrow as pa
from corpusmill.pipeline.stages.html import ExtractSettings, extract
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
print(extract(pa.array([{page}]), ExtractSettings())[2][0].as_py())
# getrusage counts what the process was before it became this program: a copy of the tests' own
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
assert int(peak[1]) < 1_000_000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{reason}\n"), done.stderr


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
