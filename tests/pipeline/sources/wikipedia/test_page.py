"""What becomes of a page: schemas 0.3 to 0.11, namespaces, redirects, revisions, limits."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from tests.pipeline.sources.rows import Rows, has_key, peak_megabytes, read_rows, reasons
from tests.pipeline.sources.wikipedia.wikipedia_dumps import FOOT, HEAD, facts, page, write_xml


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads pages below the usual head, or a whole export."""

    def read(xml: str, *, max_bytes: int = 1 << 20, **options: Any) -> Rows:
        whole = xml if xml.startswith("<mediawiki") else HEAD + xml + FOOT
        return read_rows(write_xml(tmp_path, whole), "wikipedia", max_bytes=max_bytes, options=options)

    return read


# Schemas (docs/export-0.*.xsd of MediaWiki)


def export(version: float) -> str:
    """Three pages and a redirect as the schema `0.{version}` has them."""
    name = f"0.{version}"
    case = ' case="first-letter"' if version >= 4 else ""
    head = (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{name}/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="http://www.mediawiki.org/xml/export-{name}/ '
        f'http://www.mediawiki.org/xml/export-{name}.xsd" version="{name}" xml:lang="de">\n'
        f"<siteinfo><sitename>Wikipedia</sitename>{'<dbname>dewiki</dbname>' if version >= 9 else ''}"
        "<base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base><generator>MediaWiki</generator>"
        f'<case>first-letter</case><namespaces><namespace key="-1"{case}>Spezial</namespace><namespace key="0"{case} />'
        f'<namespace key="1"{case}>Diskussion</namespace><namespace key="10"{case}>Vorlage</namespace></namespaces>'
        "</siteinfo>\n"
    )

    def one(number: int, namespace: int, title: str, text: str, target: str = "") -> str:
        ns = f"<ns>{namespace}</ns>" if version >= 6 else ""
        redirect = (
            "" if not target or version < 4 else f'<redirect title="{target}" />' if version >= 6 else "<redirect />"
        )
        parent = "<parentid>9</parentid>" if version >= 7 else ""
        origin = f"<origin>{number}0</origin>" if version >= 11 else ""
        model = "<model>wikitext</model><format>text/x-wiki</format>" if version >= 8 else ""
        size = f' bytes="{len(text.encode())}"' if version >= 5 else ""
        sha1 = ' sha1="x"' if version >= 11 else ""
        slot = (
            "<content><role>mediainfo</role><origin>1</origin><model>wikibase-mediainfo</model>"
            '<format>application/json</format><text bytes="2" sha1="y" xml:space="preserve">{}</text></content>'
            if version >= 11
            else ""
        )
        content = f'<text xml:space="preserve"{size}{sha1}>{escape(text)}</text>{slot}'
        return (
            f"  <page>\n    <title>{title}</title>\n    {ns}\n    <id>{number}</id>\n    {redirect}"
            f"<restrictions>edit=sysop</restrictions>\n    <revision>\n      <id>{number}0</id>{parent}"
            f"<timestamp>2006-05-0{number}T12:00:00Z</timestamp>"
            "<contributor><username>Wer?</username><id>77</id></contributor><minor/><comment>id text title</comment>"
            f"{origin}{model + content if version >= 10 else content + model}"
            f"{'<sha1>z</sha1>' if version >= 6 else ''}\n    </revision>\n  </page>\n"
        )

    return (
        head
        + one(1, 0, "Köln", "'''Köln''' & mehr")
        + one(2, 1, "Diskussion:Köln", "Gespräch")
        + one(3, 0, "Star Trek: Picard", "Eine Serie")
        + one(4, 0, "Cölln", "#WEITERLEITUNG [[Köln#Name|so]]", "Köln")
        + FOOT
    )


@pytest.mark.parametrize("version", range(3, 12))
def test_every_schema_gives_the_same_rows(read: Any, version: int) -> None:
    rows = read(export(version))
    assert facts(rows) == [
        ("Köln", "'''Köln''' & mehr", None, None),
        ("Diskussion:Köln", None, "other_namespace", None),
        ("Star Trek: Picard", "Eine Serie", None, None),
        ("Cölln", None, "redirect", "Köln"),
    ]
    assert [has_key(row, key) for row, key in zip(rows, ("1:10", "2:20", "3:30", "4:40"), strict=True)] == [True] * 4
    assert (rows[0]["language"], rows[0]["url"]) == ("de", "https://de.wikipedia.org/wiki/K%C3%B6ln")
    assert rows[0]["date"].isoformat() == "2006-05-01T12:00:00+00:00"


@pytest.mark.parametrize("version", [3, 11])
def test_other_namespaces_may_be_wanted(read: Any, version: int) -> None:
    rows = read(export(version), namespaces=[1])
    assert reasons(rows) == ["other_namespace", None, "other_namespace", "other_namespace"]
    assert (rows[1]["content"], rows[3]["redirect"]) == ("Gespräch".encode(), None)
    assert reasons(read(export(version), namespaces=[0, 1])) == [None, None, None, "redirect"]


@pytest.mark.parametrize("number", ["", "--5", "1.5", "x", "9" * 4000])
def test_a_number_of_a_namespace_that_is_none(read: Any, number: str) -> None:
    expected = "other_namespace" if number.startswith("9") else None
    assert reasons(read(page(1, "页", "一").replace("<ns>0<", f"<ns>{number}<"))) == [expected]


@pytest.mark.parametrize("date", ["", "yesterday", "0001-01-01", "9999-12-31T23:59:59Z", "2026-13-01"])
def test_any_date_can_be_read(read: Any, date: str) -> None:
    assert reasons(read(page(1, "页", "一").replace("2026-10-01T00:00:00Z", date))) == [None]


def test_a_page_without_ids_is_told_by_its_place(read: Any) -> None:
    bare = "<page><title>甲</title><revision><text>一</text></revision></page>"
    rows = read(bare + bare)
    assert [has_key(row, f"zhwiki.xml:{row['offset']}:0") for row in rows] == [True, True]


def test_what_has_no_text(read: Any) -> None:
    texts = ['<text bytes="9" id="3" />', '<text deleted="deleted" />', "<text> \n\u3000</text>", ""]
    pages = [
        page(i, f"页{i}", "@").replace('<text xml:space="preserve">@</text>', text) for i, text in enumerate(texts)
    ]
    assert reasons(read("".join(pages))) == ["no_text"] * 4
    assert read("<page><title>无</title><id>1</id></page>") == []


def test_other_models_are_dropped(read: Any) -> None:
    models = ["wikitext", "Scribunto", "css", "json", "wikibase-item"]
    pages = [page(i, f"页{i}", "一").replace(">wikitext<", f">{model}<") for i, model in enumerate(models)]
    assert reasons(read("".join(pages))) == [None, *["other_model"] * 4]


# Redirects


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("#REDIRECT [[Berlin]]", "Berlin"),
        ("#redirect[[Berlin]] {{R from move}}", "Berlin"),
        ("\n #Redirect : [[:Category:Cities_in_Germany]]", "Category:Cities in Germany"),
        ("#REDIRECT\n[[Berlin#History|x]]", "Berlin"),
        ("#重定向 [[柏林]]", "柏林"),
        ("#重新導向 [[柏林]]", "柏林"),
        ("#WEITERLEITUNG [[Köln]]", "Köln"),
        ("#REDIRECTION [[Cologne]]", "Cologne"),
        ("#転送 [[ベルリン]]", "ベルリン"),
        ("#転送:[[ベルリン]]", "ベルリン"),
        ("＃リダイレクト[[ベルリン]]", "ベルリン"),
        ("#ПЕРЕНАПРАВЛЕНИЕ [[Берлин]]", "Берлин"),
        ("#перенаправление [[Берлин]]", "Берлин"),
        ("#REDIRECCIÓN [[Berlín]]", "Berlín"),
        ("#redirección [[Berlín]]", "Berlín"),
        ("#تحويل [[برلين]]", "برلين"),
        ("#넘겨주기 [[베를린]]", "베를린"),
        ("#PŘESMĚRUJ [[Berlín]]", "Berlín"),
        ("#AIL-CYFEIRIO [[Berlin]]", "Berlin"),
        ("#YÖNLENDİRME [[Berlin]]", "Berlin"),
        ("# [[Berlin]]\n# [[Köln]]", None),
        ("#Städte [[Berlin]]", None),
        ("#REDIRECT Berlin", None),
        ("#REDIRECTED [[Berlin]]", None),
        ("The word #REDIRECT [[Berlin]]", None),
    ],
)
def test_text_that_redirects(read: Any, text: str, target: str | None) -> None:
    [row] = read(page(1, "页", text))
    assert (row["reason"], row["redirect"]) == ("redirect" if target else None, target)


def test_a_redirect_that_only_its_flag_tells(read: Any) -> None:
    """Schemas 0.4 and 0.5 name no target, and we do not know every language's word."""
    [row] = read(page(1, "页", "#NASMERIKA [[Berlin]]", more="<redirect />"))
    assert (row["reason"], row["redirect"]) == ("redirect", "Berlin")
    [row] = read(page(1, "页", "?", more="<redirect />"))
    assert (row["reason"], row["redirect"]) == ("redirect", None)


# Revisions

HISTORY = page(1, "城", "一", "#重定向 [[甲]]", "三", "四")
KEYS = [f"1:10{i}" for i in range(4)]


def reverse(history: str) -> str:
    start, *revisions, end = history.replace("</page>", "<revision></page>").split("<revision>")
    return start + "".join("<revision>" + revision for revision in reversed(revisions)) + end


@pytest.mark.parametrize("history", [HISTORY, reverse(HISTORY)])
def test_the_newest_revision_is_the_document_unless_all_are(read: Any, history: str) -> None:
    rows = sorted(read(history), key=lambda row: row["date"])
    assert facts(rows) == [*[("城", None, "old_revision", None)] * 3, ("城", "四", None, None)]
    rows = sorted(read(history, revisions="all"), key=lambda row: row["date"])
    assert facts(rows) == [
        ("城", "一", None, None),
        ("城", None, "redirect", "甲"),
        ("城", "三", None, None),
        ("城", "四", None, None),
    ]
    assert [has_key(row, key) for row, key in zip(rows, KEYS, strict=True)] == [True] * 4
    assert sorted(row["record_index"] for row in rows) == [0, 1, 2, 3]


def test_of_revisions_of_one_second_the_greater_id_is_newer(read: Any) -> None:
    history = HISTORY.replace("2026-10-04", "2026-10-03").replace("<id>103<", "<id>99<")
    assert [row["content"] for row in read(history) if row["reason"] is None] == ["三".encode()]


def test_the_flag_of_a_redirect_is_about_the_newest_revision(read: Any) -> None:
    history = page(1, "城", "一", "#重定向 [[甲#节]]", more='<redirect title="甲" />')
    assert facts(read(history, revisions="all")) == [("城", "一", None, None), ("城", None, "redirect", "甲")]
    assert facts(read(history)) == [("城", None, "old_revision", None), ("城", None, "redirect", "甲")]


# Limits


def test_text_beyond_the_limit(read: Any) -> None:
    pages = page(1, "长", "好" * 400) + page(2, "正", "好" * 100) + page(3, "史", "好" * 400, "一")
    assert facts(read(pages, max_bytes=300, revisions="all")) == [
        ("长", None, "too_large", None),
        ("正", "好" * 100, None, None),
        ("史", None, "too_large", None),
        ("史", "一", None, None),
    ]


def test_a_history_needs_the_memory_of_one_revision(tmp_path: Path) -> None:
    start, revision = page(1, "城", "好" * 100_000).removesuffix("</page>\n").split("<revision>")
    revisions = ("<revision>" + revision.replace("<id>100<", f"<id>{i}<") for i in range(100))
    path = write_xml(tmp_path, HEAD + start + "".join(revisions) + "</page>" + FOOT)
    assert path.stat().st_size > 30_000_000
    assert peak_megabytes(path, "wikipedia") < 20
