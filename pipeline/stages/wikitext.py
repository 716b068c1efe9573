"""Wikitext to plain text: what a reader of the page would read, without MediaWiki and without its templates.

The passes follow the order of MediaWiki's own parser (comments and extension tags, then braces and links
from the inside out, then links, HTML, quotes, lines). Sources: mediawiki.org, "Help:Formatting",
"Help:Links", "Writing systems/Syntax" (language conversion) and the preprocessor's grammar ("Preprocessor
ABNF"). Tables, files, categories, references, formulas and unknown templates go; a template family whose
text belongs to the sentence is rendered from a table. Whatever is removed leaves a mark until the end, so
that the hole can be closed without touching spaces and brackets that an author wrote.

Every pass is linear in the length of the page, whatever the markup.
"""

import html
import re
from collections.abc import Callable, Sequence

import pyarrow as pa

from corpusmill.pipeline.stages.wikitext_templates import MARK, render_template

__all__ = ["MAX_DEPTH", "STAGE_VERSION", "to_text", "wikitext_to_text"]

STAGE_VERSION = 1

MAX_DEPTH = 40
"""Braces and links nest this deep (MediaWiki's default template depth was 40); see `_nested` for deeper ones."""

# File and Category, and their aliases, in some ninety languages: links into these namespaces are not text.
_NAMESPACES = """
    file image category aafbeilding afbeelding archivo archivu arkivo arquivo attēls barkas beeld berkas
    bestand bild bilde billede bólkur cat catagóir categori categoria categorie categoría catégorie dataja
    datei datoteka delwedd dosiero dosya fail faili fasciculus fayl ficheiro ficheru fichier fichièr
    figura fil fitxategi fitxer fişier fișier flokkur fájl gambar grafika hình imagem imagen imagine imago
    imahen imajo imatge imaxe imaxen imej imàjine immagine irudi jamii kaarangay kat kategooria kategori
    kategoria kategorie kategorija kategorio kategoriya kategorya kategorî kategória kateqoriya kaurian
    klad kuva kép luokka lêer lūi-pia̍t magod mynd obrázok payl paypay picha pilt plaetje plik ragiv rang
    resim restr rummad sanat sary skeda skeudenn slika sokajy soubor swret súbor talaksan tasvir thể_loại
    tiedosto turkum tóng-àn tập_tin vaizdas wobraz wêne íomhá şəkil αρχείο εικόνα κατηγορία билэ выява
    датотека зображення изображение кадегар картинка категори категория категорија категорія катэгорыя
    ойуу податотека рисунок рәсем санат слика сурет сурт тоба төркөм файл хlум ӳкерчĕк կատեգորիա պատկեր
    בילד טעקע קאַטעגאָריע קאטעגאריע קובץ קטגוריה תמונה تصنيف تصویر رج رده زمرہ سانات سۋرەت صورة فائل
    ملف پرونده پۆل پەڕگە گٹھ किपा चित्र पुचः वर्ग श्रेणी চিত্র বিষয়শ্রেণী ਤਸਵੀਰ ਸ਼੍ਰੇਣੀ ચિત્ર શ્રેણી
    ଫାଇଲ ବିଭାଗ ଶ୍ରେଣୀ பகுப்பு படிமம் దస్త్రం ఫైలు బొమ్మ వర్గం ಚಿತ್ರ ವರ್ಗ ചിത്രം പ്രമാണം വിഭാഗം വർഗ്ഗം
    ගොනුව ප්‍රවර්ගය රූපය ภาพ หมวดหมู่ ไฟล์ ကဏ္ဍ ဖိုင် კატეგორია სურათი ფაილი መደብ ስዕል ចំណាត់ក្រុម
    ចំណាត់ថ្នាក់ក្រុម ចំនាត់ថ្នាក់ក្រុម រូបភាព ឯកសារ ファイル 画像 그림 분류 파일
    分类 分類 图像 图片 圖像 圖片 文件 档案 檔案
"""

# The Wikipedias: a link that begins with one of these codes is an interlanguage link of the sidebar.
_WIKIPEDIAS = """
    aa ab ace ady af als alt am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba ban
    bar bat-smg bbc bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bol bpy br bs btm bug bxr
    ca cbk-zam cdo ce ceb ch cho chr chy ckb co cr crh cs csb cu cv cy cz da dag de dga din diq dk dsb dtp
    dty dv dz ee el eml en eo es et eu ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr
    gd gl glk gn gom gor got gpe gsw gu guc gur guw gv ha hak haw he hi hif ho hr hsb ht hu hy hyw hz ia
    iba id ie ig igl ii ik ilo inh io is isv it iu ja jam jbo jp jv ka kaa kab kai kaj kbd kbp kcg kg kge
    ki kj kk kl km kn knc ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe lez lfn lg li lij lld lmo ln
    lo lrc lt ltg lv lzh mad mag mai map-bms mdf mg mh mhr mi min mk ml mn mni mnw mo mos mr mrj ms mt mus
    mwl my myv mzn nah nan nap nb nds nds-nl ne new ng nia nl nn no nov nqo nr nrm nso nup nv ny oc olo om
    or os pa pag pam pap pcd pcm pdc pfl pi pl pms pnb pnt ppl ps pt pwn qu rki rm rmy rn ro roa-rup
    roa-tara rsk ru rue rw sa sah sat sc scn sco sd se sg sgs sh shi shn si simple sk skr sl sm smn sn so
    sq sr srn ss st stq su sv sw syl szl szy ta tay tcy tdd te tet tg th ti tig tk tl tly tn to tok tpi tr
    trv ts tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo vro wa war wo wuu xal xh xmf yi yo yue za
    zea zgh zh zh-classical zh-cn zh-min-nan zh-tw zh-yue zu
"""
_HIDDEN_PREFIXES = frozenset((_NAMESPACES + _WIKIPEDIAS).split())

_LONGEST_TITLE = 256  # bytes in MediaWiki
_PIPE_TRICK = re.compile(r"^[^:]*:|(?:\s*[(（][^()（）]*[)）]|[,，] [^(（]*)$")


def _link(content: str, language: str) -> str:
    """Label of the link [[content]]; a mark for files, categories and interlanguage links."""
    target, bar, label = content.partition("|")
    target = target.strip()
    if "\n" in target:
        return content
    prefix, colon, _ = target.partition(":")
    if colon and not prefix:
        target = target[1:]
    elif colon and prefix.rstrip().replace(" ", "_").lower() in _HIDDEN_PREFIXES:
        return MARK
    return label or (_PIPE_TRICK.sub("", target) if bar and len(target) < _LONGEST_TITLE else target)


_CODE = r"(?i:(?:zh|sr|kk|ku|uz|tg|iu|shi|gan|crh|tly)(?:-[a-z]+)?)"
_FLAG = re.compile(rf"[A-Z-]?|{_CODE}")
_RULES = re.compile(rf";\s*+(?=(?:[^;:=]*=>\s*)?{_CODE}\s*:|$)")
_RULE = re.compile(rf"(?s)\s*+(?:[^;:=]*=>\s*)?({_CODE})\s*:(.*)")


def _variant(content: str, language: str) -> str:
    """Chosen text of -{content}-: the first of zh-hans, zh-cn, zh for Chinese, else the first variant given.

    The flags H, T and - only declare a conversion and show nothing; all others show the text.
    """
    before, bar, text = content.partition("|")
    flags = {flag.strip() for flag in before.split(";")}
    if not (bar and all(map(_FLAG.fullmatch, flags))):
        flags, text = set(), content
    if flags & {"H", "T", "-"}:
        return MARK
    variants: dict[str, str] = {}
    for rule in _RULES.split(text):
        if found := _RULE.match(rule):
            variants.setdefault(found[1].lower(), found[2].strip())
    if not variants:
        return text
    preferred = ("zh-hans", "zh-cn", "zh") if language == "zh" else ()
    return next((variants[code] for code in preferred if code in variants), next(iter(variants.values())))


_NESTED = re.compile(
    r"(\{\{|\}\}|\[\[|\]\]|-\{(?!\{[^{])|\}-|\n[ :*]*\{\|[^\n]*|\n *\|\}(?!\})|\n(?===)|<table\b[^<>]*>|</table>)",
    re.IGNORECASE,
)
_OPENERS = {"{{": "}}", "[[": "]]", "-{": "}-", "{|": "|}"}
_TABLE_TOKENS = {"{|": "{|", "<t": "{|", "|}": "|}", "</": "|}", "": ""}  # "" is a heading
_CLOSERS: dict[str, Callable[[str, str], str]] = {
    "}}": render_template,
    "]]": _link,
    "}-": _variant,
    "|}": lambda content, language: MARK,
}


def _nested(text: str, language: str) -> str:
    """Replace templates, links, conversions and tables, from the inside out.

    `out` is the text so far and `opened` holds (closer, where its content begins in `out`), so an opener that is
    never closed costs nothing and loses only its own characters. A closer ends what was opened inside it.
    At a heading, and at an opener that is nested too deep, everything open is given up as never closed.
    """
    pieces = _NESTED.split(text)
    out = [pieces[0]]
    opened: list[tuple[str, int]] = []
    waiting = dict.fromkeys(_CLOSERS, 0)
    for token, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if len(token) != 2:
            if token[0] == "\n":
                out.append("\n")
            token = _TABLE_TOKENS[token.strip(" :*\n")[:2].lower()]
        closer = _OPENERS.get(token, "")
        if not token or (closer and len(opened) == MAX_DEPTH):
            opened.clear()
            waiting = dict.fromkeys(_CLOSERS, 0)
        if closer:
            opened.append((closer, len(out)))
            waiting[closer] += 1
        elif waiting.get(token):
            while closer != token:
                closer, start = opened.pop()
                waiting[closer] -= 1
            out[start:] = [_CLOSERS[token]("".join(out[start:]), language)]
        elif token in ("]]", "}-"):
            out.append(token)
        out.append(piece)
    return "".join(out)


# A comment or tag is taken as never closed if another one opens before it is closed.
# Groups repeat as (?>(?:…)*), not (?:…)*+: the latter does not match what it should before Python 3.11.5.
_COMMENTS = re.compile(r"<!--[^<-]*+(?>(?:(?!<!--|-->)[<-][^<-]*+)*)-->")
_EXTENSIONS = re.compile(
    r"<(nowiki|pre|ref|references|math|chem|ce|gallery|timeline|syntaxhighlight|source|score|hiero|imagemap|graph"
    r"|mapframe|maplink|templatedata|templatestyles|inputbox|categorytree|indicator|includeonly|style|phonos)"
    r"(?=[\s/>])[^<>]*(?:/>|(?<!/)>([^<]*+(?>(?:<(?!/?\1\b)[^<]*+)*))</\1\s*>)",
    re.IGNORECASE,
)
MARKUP = frozenset("<>[]{}|'=*#:;-_~&")
_AS_ENTITIES = {ord(char): f"&#{ord(char)};" for char in MARKUP - {"&"}}
_PLAIN_LINKS = re.compile(r"\[\[(?:[^\[\]{}|:\n]+\|)?([^\[\]{}|:\n]+)\]\]")
_EXTERNAL = re.compile(
    r"\[(?:(?:https?|ftps?|gopher|ircs?|git|svn|nntp|telnet):)?(?://|(?<=\[)mailto:)[^\s\[\]<>]*+[ \t]*+"
    r"((?>(?:[^\[\]\n]++|\[[^\[\]\n]*+\])*))\]",
    re.IGNORECASE,
)
_POWERS = re.compile(r"<sup>([0-9+−-]{1,9})</sup>", re.IGNORECASE)
_SUPERSCRIPTS = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_BREAKS = re.compile(
    r"<br\b[^<>]*>\n?|</?(?:p|div|li|ul|ol|dl|dt|dd|table|caption|tr|td|th|blockquote|center|poem|hr|h[1-6])\b[^<>]*>",
    re.IGNORECASE,
)
_TAGS = re.compile(
    r"</?(?:a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|includeonly|ins|kbd|mark|noinclude|nowiki"
    r"|onlyinclude|pre|q|rb|ref|references|rp|rt|rtc|ruby|s|samp|section|small|span|strike|strong|sub|sup|time|tt|u"
    r"|var|wbr|math|chem|ce|gallery|timeline|syntaxhighlight|source|score|hiero|imagemap|graph|mapframe|maplink"
    r"|templatestyles|indicator|langconvert|translate|tvar)\b[^<>]*>",
    re.IGNORECASE,
)
_MAGIC_WORDS = re.compile(r"__[A-Z_\u0080-\U0010ffff]{2,40}?__")
_QUOTES = re.compile("('{2,})")
_ENTITIES = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LIST_ITEM = re.compile(r"(?:[*#:;]+|-{4,})\s*")
_SPACES = re.compile("  +")
_WORD = re.compile(r"\w")


def _literal(match: re.Match[str]) -> str:
    """Content of <nowiki> and <pre>, as entities that no later pass takes for markup; a mark for other tags."""
    if match[2] and match[1].lower() in ("nowiki", "pre"):
        return match[2].translate(_AS_ENTITIES)
    return MARK


def _plain_quotes(line: str) -> str:
    """Drop the quotes of bold and italic, keep apostrophes.

    Runs are read as in MediaWiki's Parser::doQuotes: of four quotes one is an apostrophe, of more than five all but
    five are; where bold and italic are both left open, one bold is an apostrophe and an italic: the first after
    a word of one letter (l'''amour''), else after a longer word, else after a space.
    """
    pieces = _QUOTES.split(line)
    runs = [len(run) for run in pieces[1::2]]
    literal = [1 if n == 4 else max(0, n - 5) for n in runs]
    marks = [n - extra for n, extra in zip(runs, literal, strict=True)]
    bold, italic = sum(n in (3, 5) for n in marks), sum(n in (2, 5) for n in marks)
    if bold % 2 and italic % 2:

        def rank(index: int) -> int:
            before = " " + pieces[2 * index]
            return 2 if before[-1] == " " else 0 if before[-2] == " " else 1

        candidates = [index for index, n in enumerate(marks) if n == 3]
        if candidates:
            literal[min(candidates, key=rank)] += 1
    pieces[1::2] = ["'" * n for n in literal]
    return "".join(pieces)


_HOLES = re.compile(r"(\0[ \0]*+|[()（）])")
_COMMAS = ",;:،؛，；、："
_STOPS = _COMMAS + ".!?؟。．！？"
_SEPARATORS = _COMMAS + " /\u200e\u200f"


def _trim(out: list[str], characters: str) -> None:
    """Strip `characters` from the end of the text whose pieces are `out`."""
    tail = ""
    while out and not (tail := out[-1].rstrip(characters)):
        out.pop()
    if out:
        out[-1] = tail


def _closed(out: list[str], hole: str, token: str) -> str:
    """Append `token`, which comes after a hole; returns the hole if it is still open because nothing was appended.

    `hole` is the removed markup as marks, with the spaces around and in it.
    """
    if token[0] == " ":
        hole, token = hole + " ", token.lstrip(" ")
    bracketed = bool(out) and out[-1] in ("(", "（")
    if bracketed:
        token = token.lstrip(_SEPARATORS)
    elif token in (")", "）"):
        _trim(out, _SEPARATORS)
        bracketed = bool(out) and out[-1] in ("(", "（")
    elif token[:1] in tuple(_STOPS):
        _trim(out, _COMMAS)
    if bracketed and token in (")", "）"):
        out.pop()
        token = ""
    if not token:
        return _detached(out, hole)
    if not out or out[-1].endswith("\n"):
        token = token.removeprefix("\n")  # the line held nothing but removed markup
    elif not bracketed and token[0] not in "\n)）":
        if token[0] in _STOPS:  # French has a space of its own before some stops
            hole = "" if hole[0] == " " else hole[-1]
        out.append(" " * (" " in hole))
    if token:
        out.append(token)
    return ""


def _detached(out: list[str], hole: str) -> str:
    """The hole with the space before it, which leaves `out`."""
    if out and out[-1].endswith(" "):
        out[-1] = out[-1][:-1]
        return " " + hole
    return hole


def _mended(text: str) -> str:
    """Close the holes at the marks: no double space, no space before a stop, no brackets without content."""
    out: list[str] = []
    hole = ""
    for token in filter(None, _HOLES.split(text)):
        if MARK in token:
            hole = _detached(out, hole[:1] + token)
        elif hole:
            hole = _closed(out, hole, token)
        else:
            out.append(token)
    return "".join(out)


def _lines(text: str) -> str:
    """Plain lines: headings of empty sections, list prefixes, rules and leftovers of tables are dropped."""
    out: list[str] = []
    headings: list[tuple[int, str]] = []  # level and title, of sections that have no text yet
    blank = False
    for line in text.split("\n"):
        line = line.strip()
        if not line:
            blank = True
            continue
        if line[0] == "=" and line[-1] == "=":
            level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")))
            while headings and headings[-1][0] >= level:
                headings.pop()
            headings.append((level, line.strip("= ")))
            continue
        if line[0] in "*#:;-":
            line = _LIST_ITEM.sub("", line, count=1)
        if not _WORD.search(line) or line[0] == "|":
            continue
        if headings:
            out += [f"\n{title}" for _, title in headings if title]
            headings.clear()
        elif blank and out:
            out.append("")
        blank = False
        out.append(line)
    return "\n".join(out).lstrip("\n")


def _decoded(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _decoded_unless_markup(match: re.Match[str]) -> str:
    text = html.unescape(match[0])
    return " " if text.isspace() else match[0] if text in MARKUP else text


def wikitext_to_text(markup: str, *, language: str = "en") -> str:
    """Plain text of a wiki page.

    Args:
        markup: wikitext of one page, of any length; redirects are the reader's business.
        language: language of the wiki (BCP 47; only the first subtag counts). It picks the templates of that
            wiki, the form of dates and, for `zh`, the variant of `-{zh-hans:…;zh-hant:…}-`.

    Returns:
        Lines without trailing spaces, at most one blank line between them; "" if nothing remains. Malformed
        markup loses at most its own characters, never the text around it.
    """
    language = language.partition("-")[0].lower()
    text = "\n" + markup.replace(MARK, "")
    if "<" in text:
        text = _COMMENTS.sub(MARK, text).replace("<!--", "")
        text = _EXTENSIONS.sub(_literal, text)
    if "&" in text:
        text = _ENTITIES.sub(_decoded_unless_markup, text.replace("&nbsp;", " "))
    text = _PLAIN_LINKS.sub(r"\1", text)
    text = _nested(text, language)
    text = _EXTERNAL.sub(lambda match: match[1] or MARK, text)
    if "<" in text:
        text = _POWERS.sub(lambda match: match[1].translate(_SUPERSCRIPTS), text)
        text = _TAGS.sub("", _BREAKS.sub("\n", text))
    text = _MAGIC_WORDS.sub(MARK, text)
    if "''" in text:
        text = "\n".join([_plain_quotes(line) if "''" in line else line for line in text.split("\n")])
    text = _SPACES.sub(" ", text.replace("\u00a0", " ").replace("\t", " "))
    return _ENTITIES.sub(_decoded, _lines(_mended(text)))


def to_text(markups: pa.Array, languages: Sequence[str] | str) -> pa.Array:
    """Plain text of a batch of wiki pages.

    Args:
        markups: wikitext (string), one page a row.
        languages: language of all pages, or of each.

    Returns:
        string array of the same length; a null stays null.

    Raises:
        ValueError: `languages` is a sequence of another length.
    """
    if isinstance(languages, str):
        languages = [languages] * len(markups)
    texts = [
        None if markup is None else wikitext_to_text(markup, language=language)
        for markup, language in zip(markups.to_pylist(), languages, strict=True)
    ]
    return pa.array(texts, pa.string())
