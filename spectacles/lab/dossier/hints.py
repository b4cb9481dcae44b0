"""What texts hint at: menus, questions and what to answer to them, names of shows, seat maps, usage messages.

Nothing here runs anything, and nothing here is believed: whoever asks tries what is hinted at, and looks at the effect.
The words are French, English, Italian, Spanish, Portuguese and German, as students write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from spectacles.lab.dossier import profile as words

CONSULT = r"consult|list|affich|voir|view|show|dispo|display|see\b|check|rest|search|cherch|avail|status|map\b|preview"
CONSULT += r"|mostra|visualizz|elenc|\bver\b|anzeig|libr|query|inquir|stat\b|info|places?\b|seats?\b|remain|get\b"
RESERVE = r"r[ée]s[ea]?r[vw]|\bres\b|book|buy|achet|achat|purchas|prenot|compr|buch|order|prendre|commander|acquist"
RESERVE += r"|\btake\b|\bresa\b"
QUIT = r"quit|exit|sort|esci|leave|salir|sair|ende|fin\b|bye|d[ée]connect|log ?out|terminer|fermer|stop|back|retour"
QUIT += r"|indietro|annuler et"
CANCEL = r"annul|cancel|delet|supprim|modif|cancell|updat|refund|rembours|return a|lib[ée]rer|disdi|elimin|unbook"
OTHERS = r"my |mes |mie |previous|hist|prec|existing|owner|backup|daily|income|total sum|sauveg|miei"
VIEWS = (
    r"voir|view|list|mes |consult|affich|show|display|check|search|visualizz|total|backup|\bmy\b|status|mostra|\bver\b"
)
SIGN_UP = r"sign ?up|regist|inscri|create|new (?:user|account)|nouveau|cr[ée]er|nuovo|iscri|cadastr"
SIGN_IN = r"log ?in|sign ?in|connex|connect|accedi|access|entrar|authentif|identif"
PERSON = r"user|client|normal|passenger|customer|usager|utente|voyageur|spectateur|cliente|acheteur"
STAFF = r"admin|agent|manager|staff|g[ée]rant|technic"
SEATS = r"place|seat|combien|quantit|how many|nombre|tickets?|billets?|posti|amount|count|qty|\bnb|couvert|biglietti"
SEATS += r"|plazas|lugares|anzahl|nposti|quanti|number of|num(?:ero)? di|persone|people|passenger"
ITEM = r"spectacle|show|num[ée]ro|\bid\b|film|movie|event|[ée]v[ée]nement|vol\b|flight|train|item|index|cat[ée]gor"
ITEM += r"|indice|spettacolo|concert|choix|choice|which|quel|orario|s[ée]ance|salle|sala|room|table|trajet|route|bus\b"
NAME = r"\bnom\b|name|login|user|pseudo|nome|identifiant|client|qui [êe]tes|who are|pr[ée]nom|surname|cognome"
SECRET = r"passe|password|\bpin\b|\bcode\b|passwd|mdp"
YES = r"\bok\b|accept|confirm|succ|valid|r[ée]serv|booked|effectu|enregistr|done|true|bravo|merci|riuscit|r[ée]ussi"
NO = r"nok|refus|impossible|erreur|[ée]chec|insuff|error|fail|not enough|pas assez|indispo|unavail|sorry|d[ée]j[àa]"
NO += r"|d[ée]sol|false|invalid|complet|already|occupat|not avail|non dispon"
# A question for one seat by its name, not for how many of them.
SEAT_NAME = r"(?:num[ée]ro|n°|no\b|number|which|quel\w*|num\b|name|nom|code|choisi\w*|choose|select|enter|scegli)"
SEAT_NAME += r".{0,20}\b(?:place|seat|si[èe]ge|fauteuil|posto|asiento|lugar|sitz)\b(?!s)"
SEAT_NAME += r"|\b(?:seat|place|si[èe]ge|posto)\s*(?:n°|no\b|num|number|id\b|\[?\d*\]?\s*[:>?])|\d+\s*° seat"
HOW_MANY = r"how many|combien|quant[iea]|nombre|number of (?:seat|ticket|place)|num(?:ero)? di posti|nb\b|quantit"
ROW = r"\brow|riga|rang[ée]?e?\b|fila\b|ligne|reihe"
COLUMN = r"\bcol|colonn|coluna|spalte"
AGAIN = r"retry|again|another|encore|autre|riprova|altr[oa]|nouvelle|ressay"
ENTER = r"(?:press|appuy|premi|pulse|dr[üu]ck|hit|tap).{0,30}(?:enter|entr[ée]e|invio|key|touche|return|tasto)"
COMMANDS = rf"{CONSULT}|{RESERVE}|{QUIT}|{CANCEL}|{SIGN_UP}|{SIGN_IN}|{STAFF}|usage|error|true|false"
HELP = r"help|aide|aiuto|commands?|commandes?|ayuda"

_OPTION = re.compile(
    r"^[\s\W]*?(?:\[?\(?)(\d{1,2}|[A-Za-z])\s*(?:[\])]?\s*[.):=\-–—>|,]+|[\])])\s*(\S.*)$", re.MULTILINE
)
_ESCAPES = re.compile(r"\x1b(?:\[[\d;?]*[A-Za-z]|[()][A-Z0-9]|[78=>])")
_PLACEHOLDER = r"(?:<[^<>\n]+>|\[[^\[\]\n]+\]|\{[^{}\n]+\}|[A-ZÀ-Ý][A-ZÀ-Ý_0-9]+\b)"
_USAGE = r"(?<![-\w])(?:usage|utilisation|uso\b|syntax|usar\b|verwendung|inser(?:isci|ire))"
MOST_TOKENS = 12
JOINT = "\N{ZERO WIDTH SPACE}"  # in what a client said: there, a line was typed


def plain(text: str) -> str:
    """Return a text without what moves a cursor or colours it."""
    return _ESCAPES.sub("", text).replace("\r", "")


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(plain(text).splitlines()) if line.strip()), "")


def shape(line: str) -> str:
    """Return a line without its numbers: what is the same in the same place of a dialogue."""
    bare = re.sub(r"\d+", "#", plain(line)).strip()
    return next((bare[:at].strip() for at, sign in enumerate(bare) if not sign.isprintable() and sign != "\t"), bare)


def has(pattern: str, text: str) -> bool:
    """Say whether a text holds words of a kind."""
    return re.search(pattern, text, re.IGNORECASE) is not None


# Menus


def options(text: str) -> list[tuple[str, str]]:
    """Return the options of the last menu of a text: what is typed, and what is said of it."""
    found: list[tuple[str, str]] = []
    for line in _menu_lines(plain(text)):
        option = _OPTION.match(line)
        if option and has(r"[^\W\d]{2}", option[2]):
            if any(key == option[1] for key, _ in found):
                found.clear()  # of an earlier menu, or a list of shows
            found.append((option[1], option[2].strip()))
    return found


def _menu_lines(text: str) -> Iterable[str]:
    """Return the lines of a text, those that hold several options cut between them: "1. List  2. Book  3. Quit"."""
    for line in text.splitlines():
        cuts = [
            cut.start()
            for cut in re.finditer(r"(?<![\w.,:/-])[\[(]?(?:\d{1,2}|[a-zA-Z])[\])]?\s*[.):=\-–]+\s*[^\W\d]", line)
        ]
        if len(cuts) > 1:
            yield from (line[start:end].strip(" ,;|/\t") for start, end in zip(cuts, [*cuts[1:], None], strict=True))
        else:
            yield line


def choose(menu: Sequence[tuple[str, str]], hint: str) -> list[str]:
    """Return the keys of the options that a hint fits, the likeliest first."""
    fits = [
        (key, label)
        for key, label in menu
        if has(hint, label) and not has(CANCEL, label) and not (hint is not QUIT and has(OTHERS, label))
    ]
    if hint is RESERVE:
        fits = [row for row in fits if not has(VIEWS, row[1])]
    if hint is CONSULT:
        fits = [row for row in fits if not has(QUIT, row[1])]
        fits.sort(key=lambda row: (has(RESERVE, row[1]), not has(r"dispo|rest|avail|libr|place|seat|consult", row[1])))
    return [key for key, _ in fits]


def doors(menu: Sequence[tuple[str, str]]) -> list[str]:
    """Return the keys of a menu that leads on to another, in the order in which they are worth a try."""

    def rank(row: tuple[str, str]) -> int:
        label = row[1]
        if has(CANCEL, label):
            return 8
        if has(QUIT, label) and not has(SIGN_IN, label):
            return 9
        return next(
            (at for at, hint in enumerate((SIGN_UP, SIGN_IN, PERSON)) if has(hint, label) and not has(STAFF, label)), 5
        ) + 2 * has(STAFF, label)

    return [key for key, _ in sorted(menu, key=rank) if rank((key, dict(menu)[key])) < 9]


# Questions


def answers(question: str, *, port: str = "", kind: str = "login", known: Sequence[str] = ()) -> list[str]:
    """Return what may be typed to a question that asks neither for a show nor for seats, the likeliest first.

    kind: "login" or "reserve". port: that of the server. known: words that the program's source compares with.
    """
    asked = plain(question)
    choice = re.search(
        r"[\[(]\s*(\w+)\s*[/|]\s*(\w+)\s*[\])]|\b(oui|yes|si|[yos])\s*/\s*(non?|[n])\b", asked, re.IGNORECASE
    )
    if choice:
        yes, no = [word for word in choice.groups() if word][:2]
        if no.lower()[:1] == "n":
            return [no, yes] if has(AGAIN, asked) else [yes, no]
        return [yes, no]
    if has(ENTER, asked):
        return [""]
    if has(r"e-?mail|courriel", asked):
        return ["{client}@exemple.fr", "{client}@mail.com"]
    if has(SECRET, asked):
        return ["1234", "Secret123"]
    if has(r"phone|t[ée]l[ée]|portable|cellulare|handy", asked):
        return ["0612345678"]
    if has(r"\bport\b", asked):
        return [port or "5000"]
    if has(r"\bip\b|adresse|address|\bhost|\bh[ôo]te\b|indirizzo|endere[cç]o|direcci", asked):
        return ["127.0.0.1"]
    dates = date(asked)
    if dates:
        return dates
    if has(r"heure|time\b|\bora\b|hora\b", asked):
        return ["20:00", "1"]
    if has(r"\bage\b|[âa]ge|et[àa]\b", asked):
        return ["30"]
    if has(r"prix|price|montant|argent|solde|balance|budget|deposit|d[ée]p[ôo]t|money|saldo|crédit", asked):
        return ["1000"]
    if has(NAME, asked) and not has(r"num[ée]ro|number|numero|\bid\b", asked):
        return ["{client}", "1"]
    if has(r"\bid\b|identifiant|uid|num[ée]ro|number|compte|account", asked) and kind == "login":
        return ["{read}", "1", "{client}"]
    if has(r"source|from\b|d[ée]part|origine|destin|\bto\b|arriv|ville|city|citt", asked):
        return [*known[:6], "{client}", "1"]
    if has(r"\bmax|\bmin|type|choix|choice|scelta|\d\s*[-.]+\s*\d", asked):
        return ["1", "2"]
    return ["1", *known[:2], "{client}", "y", ""]


def date(asked: str) -> list[str]:
    """Return dates as a question wants them, () if it asks for none."""
    form = re.search(r"\b(dd|jj|gg|tt|yyyy|aaaa|aa|yy|mm)\s*([-/. ])\s*(\w+)\s*\2\s*(\w+)", asked, re.IGNORECASE)
    if form:
        parts = {"d": "20", "j": "20", "g": "20", "t": "20", "m": "03", "y": "2027", "a": "2027"}
        return [form[2].join(parts.get(part[0].lower(), "20") for part in (form[1], form[3], form[4]))]
    if has(r"\bdates?\b|\bjour\b|\bdata\b|\bfecha\b", asked):
        return ["20/03/2027", "2027-03-20", "20.03.2027", "20.03.2018", "1"]
    return []


def role(question: str, seats: bool, item: bool, kind: str) -> str:
    """Return what a question asks for: "{item}", "{seats}", "{seat}", "{seat1}", "{seat2}", "" if something else.

    seats, item: whether they were asked for already. kind: "consult" or "reserve".
    """
    asked = last_line(question)
    if has(ENTER, asked) or re.search(r"[\[(]\s*[yosj]\s*/\s*n", asked, re.IGNORECASE):
        return ""
    if kind == "reserve" and has(rf"{SEAT_NAME}|{ROW}", asked) and re.search(r"\b[A-Z]-?\d{1,2}\b", asked):
        return "{seat}"
    if kind == "reserve" and has(ROW, asked):
        return "{seat1} {seat2}" if has(COLUMN, asked) else "{seat1}"
    if kind == "reserve" and has(COLUMN, asked):
        return "{seat2}"
    if kind == "reserve" and has(SEAT_NAME, asked) and not has(HOW_MANY, asked):
        return "{seat}"
    hits = [
        (found.start(), name)
        for name, hint in (("{seats}", SEATS), ("{item}", ITEM))
        if (found := re.search(hint, asked, re.IGNORECASE))
    ]
    order = [name for _, name in sorted(hits)]
    if has(HOW_MANY, asked) and kind == "reserve":
        order = ["{seats}", *order]
    personal = has(rf"{NAME}|e-?mail|t[ée]l[ée]|phone|{SECRET}|\bdate\b", asked) and not has(HOW_MANY, asked)
    titled = has(rf"(?:name|nom|nome)\b.{{0,12}}(?:{ITEM})|titre|title|num[ée]ro", asked)
    if personal and not titled and "{seats}" not in order[:1]:
        return ""
    for name in order:
        if (name == "{seats}" and not seats and kind == "reserve") or (name == "{item}" and not item):
            return name
    return ""


# What shows are called


def tokens(text: str) -> list[str]:
    """Return what shows are called in a list of them: the number, or the word, that a line begins with."""
    found: dict[str, int] = {}
    for line in plain(text).splitlines():
        head = re.match(
            r"[\s\W]*?(?:[^\W\d]+\s*(?:n°|no|id|ID)?\s*[:#]?\s*)?\[?(\d{1,4})\]?\s*[\])|:.\-–—,]*\s*\S", line
        )
        if head and len(re.findall(r"\d+", line)) >= 2 and head[1] not in found:
            found[head[1]] = len(found)
    if len(found) < 2:  # all of them on one line: "[0] Carmen : 12, [1] Aïda : 30"
        inline = re.findall(r"\[(\d{1,3})\]\s*[^\W\d][^\[\]\n]*\d", plain(text))
        found = dict.fromkeys(inline, 0) if len(inline) > 1 else found
    order = list(found)
    order = [*order[1:], *order[:1]] if len(order) > 1 else order  # not the first: 0 is what an error looks like
    return order[:MOST_TOKENS] or named(text)


def named(text: str) -> list[str]:
    """Return the words that lines of a list begin with, each with its number: "Carmen : 12 places"."""
    lines = [re.match(r"\W*([^\W\d]\w{2,20})\s*[:|=\-–(].*?\d", line) for line in plain(text).splitlines()]
    found = list(dict.fromkeys(line[1] for line in lines if line and not has(rf"{SEATS}|{YES}|{NO}|port", line[1])))
    return found[:MOST_TOKENS] if len(found) > 1 else []


# Patterns of answers


def escape(text: str) -> str:
    """Escape what a regular expression would take for more than itself, for people to read."""
    return re.sub(r"[\\.^$*+?()\[\]{}|]", r"\\\g<0>", text)


def left_pattern(answers_: Sequence[str], taken: Sequence[int], item: str) -> tuple[str, str]:
    """Return patterns whose number goes down in answers as `taken` goes up: left, and free where it is counted.

    ("", "") if there are none. JOINT in an answer is where a line was typed: what follows it may stand at the end of a
    question. Patterns are made of what follows it alone, and must do in both cases.
    """
    texts = [text.replace(JOINT, "\n") for text in answers_]
    joined = [text.replace(JOINT, "") for text in answers_]
    first = texts[0].splitlines()
    for line in reversed(first):  # what answers comes last: before it, a list may be the client's own
        for number in re.finditer(r"-?\d+", line):
            start, end = number.span()
            for with_item in (True, False):
                for left in _patterns(line, start, end, item, with_item):
                    if _falls(left, "", texts, taken, item, int(number[0])) and _falls(left, "", joined, taken, item):
                        return left, ""
    if len(set(taken)) > 1:
        for left, free in (*_listed(texts[0]), *_maps(texts)):
            if _falls(left, free, texts, taken, item) and _falls(left, free, joined, taken, item):
                return left, free
    return "", ""


def _spaced(text: str) -> str:
    """Escape a text, several spaces for any number of them: columns are padded."""
    return re.sub(r"\s{2,}", r"\\s*", escape(text))


def seats_left(left: str, free: str, item: str, text: str) -> int | None:
    """Return the seats left that a text tells by two patterns of a profile, None if it does not."""
    text = text.replace(JOINT, "\n")
    found = words.pattern(left, item).search(text) if left else None
    if found is None:
        return None
    if free:
        return len(words.pattern(free, item).findall(found[1]))
    return int(found[1]) if re.fullmatch(r"\s*[-+]?\d+\s*", found[1]) else None


def _falls(
    left: str, free: str, texts: Sequence[str], taken: Sequence[int], item: str, begin: int | None = None
) -> bool:
    """Say whether what patterns find goes down as it should."""
    seen = [seats_left(left, free, item, said) for said in texts]
    if seen[0] is None or (begin is not None and seen[0] != begin):
        return False
    return all(value is not None and value + less == seen[0] for value, less in zip(seen, taken, strict=True))


def _patterns(line: str, start: int, end: int, item: str, with_item: bool) -> Iterable[str]:
    """Return patterns for the number at start..end of a line, with what stands around it, those that say more first."""
    before, after = line[:start], line[end:]
    tail = re.match(r"\D{0,12}?(?:[^\W\d]+|[^\w\s]|$)", after)
    behind = _spaced(tail[0]) if tail and tail[0].strip() else ""
    lead = re.search(r"(?:[^\W\d][^\d]{0,15}|[^\w\s]\s*)$", before)
    front = _spaced(lead[0]) if lead and lead[0].strip() else ""
    number = r"(-?\d+)"
    if with_item:
        inside = before.rfind(f"[{item}]")
        if inside > 0 and "[" not in before[inside + 1 :]:
            yield rf"\[{{item}}\][^\[\]\n]*?{number}(?!\d){behind}"
        head = re.match(rf"(\W*(?:[^\W\d]+\s+)?){escape(item)}(?!\d)", line)
        if head and head.end() <= start:
            open_ = escape(head[1].strip())
            close = escape(line[head.end() :].strip()[:1])
            close = "" if close.isalnum() else close
            between = rf"^\W*?{open_}\s*{{item}}(?!\d)\s*{close}.*?"
            if re.search(r"[^\W\d]", head[1]):
                named = rf"\b{open_}\s*{{item}}(?!\d)\s*{close}[^\d\n]*?" + rf"(?<!\d)(?<!\d-){number}(?!\d)"
                yield from (named + behind, named)
            for tail_ in (behind, ""):
                for head_ in ("", front):
                    yield between + head_ + rf"(?<!\d)(?<!\d-){number}(?!\d)" + tail_
            yield rf"^\W*?{open_}\s*{{item}}(?!\d)\s*{close}.*\D{number}\D*$"
    else:
        for head_ in (front, ""):
            for tail_ in (behind, ""):
                if head_ or tail_:
                    yield head_ + (r"(?<![\d-])" if not head_ else "") + number + r"(?!\d)" + tail_


def _listed(text: str) -> Iterable[tuple[str, str]]:
    """Return patterns for a line that lists what is free: "Places libres : 1 2 5 7"."""
    for line in text.splitlines():
        listed = re.match(r"(.*?[^\W\d]{3}[^\d:]*[:=>]?\s*)((?:\[?\b[A-Z]?\d{1,4}\b\]?[\s,;|]*){3,})\W*$", line)
        if listed:
            yield escape(listed[1].strip()) + r"(.*)$", r"[A-Z]?\d+"


def _maps(texts: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Return patterns for a map of seats, one sign for each: its rows, and what stands in them for a free one."""
    rows, row = _grid(texts[0])
    if not rows or any(len(_grid(text)[0]) != len(rows) for text in texts):
        return
    left = rf"((?:{row}\n?){{{len(rows)},}})"
    coloured = re.findall(r"\x1b\[[\d;]*m(?=\[?\w)", "".join(rows))
    cells = [cell for one in rows for cell in re.findall(r"\[[^\]\n]*\]|[^\s\[\]|]+", plain(one))]
    signs = [r"\[ *\d+ *\]", r"\[ *[A-Z]\d+ *\]", r"\b\d+\b", *(escape(colour) for colour in dict.fromkeys(coloured))]
    signs += [escape(cell) for cell in dict.fromkeys(cells)]
    signs += [escape(sign) for sign in dict.fromkeys("".join(cells)) if sign.isprintable() and not sign.isspace()]
    for sign in dict.fromkeys(signs):
        if any(re.search(sign, one) for one in rows):
            yield left, sign


_CELL = r"\[[^\]\n]*\]"
_DENSE = r"[01OXox#.\-_*LR]"
_COLOUR = r"(?:\x1b\[[\d;]*m)"


def _grid(text: str) -> tuple[list[str], str]:
    """Return the rows of the largest map in a text, and a pattern for one: lines after each other, of as many cells."""
    best: list[str] = []
    best_row = row = ""
    rows: list[str] = []
    for line in [*text.splitlines(), ""]:
        shaped = _row(line)
        if shaped and shaped == row:
            rows.append(line)
            continue
        if len(rows) > len(best):
            best, best_row = rows, row
        rows, row = ([line], shaped) if shaped else ([], "")
    return (best, best_row) if len(best) >= 2 else ([], "")


def _row(line: str) -> str:
    """Return a pattern for a line of a map, "" if it is none: cells in brackets, signs side by side, or apart."""
    bare = plain(line)
    cells = re.sub(r"\x1b\[[\d;]*m", "", line)
    framed = len(re.findall(_CELL, cells))
    if framed > 1:
        return (
            rf"^(?:[^\[\n]*?(?:{_COLOUR}[^\[\n]*?)*{_CELL}){{{framed}}}.*"
            if "\x1b" in line
            else rf"^(?:[^\[\n]*{_CELL}){{{framed}}}.*"
        )
    dense = re.fullmatch(rf"\W*(?:\w{{1,2}}\W+)?({_DENSE}{{3,}})\W*", bare)
    if dense and len(set(dense[1])) <= 3:
        return rf"^.*?{_DENSE}{{{len(dense[1])}}}\W*$"
    signs = bare.split()
    if len(signs) > 1 and all(len(sign.strip("|:")) <= 3 for sign in signs):
        return rf"^[ \t]*(?:\S+[ \t]+){{{len(signs) - 1}}}\S+[ \t]*$"
    return ""


def answer_patterns(accepted: Sequence[str], refused: str, menu: set[str]) -> tuple[str, str]:
    """Return patterns for yes and no: lines, or what lines begin with, that come with the ones, not with the other."""
    accepted, refused = [text.replace(JOINT, "\n") for text in accepted], refused.replace(JOINT, "\n")
    every = [shapes(text) - menu for text in accepted]
    bad = shapes(refused) - menu
    common = set.intersection(*every) | _beginnings(every)
    yes = _best(common - bad, YES, [refused], accepted)
    no = _best(bad - set().union(*every), NO, accepted, [refused]) if refused else ""
    kind = re.match(r"[^:]{4,40}:(?!\\d)", no)  # "refusé : pas assez de places" is one of several reasons
    if kind and has(NO, kind[0]) and not any(re.search(kind[0], text) for text in accepted):
        no = kind[0]
    return yes, no


def _beginnings(every: Sequence[set[str]]) -> set[str]:
    """Return what a line of each of some texts begins with, where it goes on in different ways: with a name, a code."""
    found = set()
    for line in every[0]:
        start = line
        for lines in every[1:]:
            start = max((_common(start, other) for other in lines), key=len, default="")
        cut = start if start == line else re.sub(r"[^\W_]*$", "", start).rstrip()
        if len(re.findall(r"[^\W\d_]", cut)) > 4:
            found.add(cut)
    return found


def _common(one: str, other: str) -> str:
    """Return what two lines both begin with."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]


def shapes(text: str) -> set[str]:
    """Return the shapes of the lines of a text."""
    return {shape(line) for line in plain(text).splitlines() if shape(line)}


def _best(found: set[str], hint: str, without: Sequence[str], within: Sequence[str]) -> str:
    """Return a pattern for the most telling of some lines, which is in all of `within` and none of `without`."""
    for one in sorted(found, key=lambda one: (not has(hint, one), -len(one), one)):
        if not re.search(r"[^\W\d_]{2}", one):
            continue
        text = escape(one).replace("#", r"\d+")
        compiled = words.pattern(text)
        if all(compiled.search(said) for said in within) and not any(compiled.search(said) for said in without):
            return text
    return ""


# Arguments


def usage(text: str) -> list[str]:
    """Return the words that a usage message asks for after the name of the program, [] if it asks for none."""
    for line in plain(text).splitlines():
        at = re.search(_USAGE, line, re.IGNORECASE)
        if not at:
            continue
        rest = line[at.end() :].partition(":")[2] or line[at.end() :]
        rest = re.sub(r"<([^<>]*)>", lambda one: "<" + one[1].replace(" ", "_") + ">", rest)
        found = rest.split()
        if found and not re.fullmatch(rf"{_PLACEHOLDER}|-.*", found[0]):
            found = found[1:]  # the program itself
        return [word for word in found if re.fullmatch(r"[-<\[{(]?[\w<\[{].*", word)][:10]
    bare = re.search(r"\b[a-z][\w./-]*((?:\s+(?:<[^<>\n]+>|\[?[A-Z][A-Z_]{2,}\]?))+)\s*$", plain(text), re.MULTILINE)
    return bare[1].split() if bare else []


def argument(word: str, side: str, *, port: str = "", files: Sequence[str] = ()) -> str:
    """Return what may stand for a word of a usage message, or where a line of source uses an argument.

    side: "server" or "client". port: of the server. files: text files that there are.
    """
    if has(r"\bport|_port|htons|porta\b", word):
        return port or "5000"
    if has(r"addr|host\b|hostname|\bip\b|\bh[ôo]te\b|inet_|indirizzo|serveur\b|server\b", word):
        return "127.0.0.1"
    if has(r"pid", word):
        return "{pid}"
    if has(r"file|fichier|fopen|\bopen\b|path|chemin|\.txt|\.csv", word):
        return next(iter(files), "donnees.txt")
    if has(r"time|sec|dur[ée]e|temps|timeout", word):
        return "600" if side == "server" else "10"
    if has(r"thread|worker|office|guichet|process|agents?\b|caisse", word):
        return "2"
    if has(r"row|col|lig|riga|righe|file\b|rang", word):
        return "5"
    if side == "client" and has(NAME, word):
        return "{client}"
    if has(SEATS, word):
        return "50" if side == "server" else "{seats}"
    return "10" if side == "server" else "{item}" if has(ITEM, word) else "1"


def verbs(text: str) -> dict[str, list[str]]:
    """Return the requests of a usage message or a list of commands: verb -> what it takes, as it is written."""
    found: dict[str, list[str]] = {}
    for line in plain(text).splitlines():
        for verb, rest in re.findall(
            rf"(?<![\w<\[/.-])([A-Za-z][A-Za-z_-]{{1,14}})((?:\s+(?:{_PLACEHOLDER}|\"[^\"\n]*\"))*)", line
        ):
            if verb.lower() in _NO_VERBS:
                continue
            takes = re.findall(rf"{_PLACEHOLDER}|\"[^\"\n]*\"", rest)
            if verb not in found or len(takes) > len(found[verb]):
                found[verb] = takes
    return found


_NO_VERBS = {"usage", "commande", "commandes", "commands", "command", "and", "or", "ou", "et", "the", "pour", "to"}


def filled(takes: Sequence[str]) -> str:
    """Return the words of a request, with what it is to hold in the place of what its usage says."""
    said: list[str] = []
    for word in takes:
        seats = has(SEATS, word) and not has(r"id\b", word)
        if has(r"\w+[|/]\w+", word) and not has(ITEM, word):
            said.append(re.split(r"[|/]", re.sub(r"^.*:|[<>\[\]{}]", "", word))[0])
        elif has(SEAT_NAME, word) or has(r"num_?place|no_?place|seat_?(?:no|num|id)|siege", word):
            said.append("{seat}")
        elif has(ROW, word):
            said.append("{seat1}")
        elif has(COLUMN, word):
            said.append("{seat2}")
        elif seats and "{seats}" not in said:
            said.append("{seats}")
        elif has(NAME, word) and not has(ITEM, word):
            said.append("{client}")
        elif "{item}" not in said:
            said.append("{item}")
        elif "{seats}" not in said:
            said.append("{seats}")
        else:
            said.append("1")
    return " ".join(said)


# Sources


def compared(text: str) -> list[str]:
    """Return the words that a source compares with what it was sent, those first that are no usual words of C."""
    found = re.findall(r'(?:strcmp|strncmp|strcasecmp|strncasecmp)\s*\([^;]*?"([^"\n]{1,30})"', text)
    found += re.findall(r"==\s*[\"']([^\"'\n]{2,30})[\"']|startswith\(\s*[\"']([^\"'\n]{2,30})[\"']", text) and [
        one or two
        for one, two in re.findall(r"==\s*[\"']([^\"'\n]{2,30})[\"']|startswith\(\s*[\"']([^\"'\n]{2,30})[\"']", text)
    ]
    return list(dict.fromkeys(word.strip() for word in found if word.strip() and not word.startswith("%")))


def stocked(text: str) -> list[str]:
    """Return the names that stand beside a number in the tables of a source: {"apple": 40}, {"Carmen", 120}."""
    found = re.findall(r"[\"']([^\W\d][\w -]{1,20})[\"']\s*[:,=]\s*[\[({]?\s*(?:[\"'][^\"'\n]*[\"']\s*,\s*)?\d+", text)
    return list(dict.fromkeys(name for name in found if not re.search(r"^%|\.", name)))[:8]


def taken_arguments(text: str) -> list[str]:
    """Return for each argument that a main() uses, in order, the lines of source that use it."""
    found: dict[int, list[str]] = {}
    for line in text.splitlines():
        for number in re.findall(r"(?:argv|args?)\s*\[\s*(\d)\s*\]", line):
            if int(number) > 0 and not re.search(r"usage|printf|print\(", line, re.IGNORECASE):
                found.setdefault(int(number), []).append(line.strip())
    counts = [int(number) for number in re.findall(r"argc\s*(?:!=|<)\s*(\d)", text)]
    wanted = max([*found, max(counts, default=1) - 1, 0])
    return [" ".join(found.get(number, [])) for number in range(1, min(wanted, 6) + 1)]


def switches(text: str) -> list[tuple[str, str]]:
    """Return the options of getopt() that take a value: letter, and the lines of source that use it."""
    found = re.search(r'getopt(?:_long)?\s*\([^;"]*"([^"]*)"', text)
    if not found:
        return []
    letters = re.findall(r"([A-Za-z]):(?!:)", found[1])
    uses = []
    for letter in letters:
        case = re.search(rf"case\s*'{letter}'\s*:(.{{0,300}}?)break", text, re.DOTALL)
        uses.append((letter, case[1] if case else ""))
    return uses
