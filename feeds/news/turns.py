"""What turns the meaning of a headline: gains that fade, losses that are erased, what came before or in spite of it.

A list of words weighs each for itself, and so reads `rally fades` as a rally. Here words are looked at with a few of
their neighbours, never more, so that the time grows with the length of a text alone. Pure; the weights are the
lexicon's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

REACH = 5
"""The number of words that may lie between a verb and what it turns."""
BETTER, WORSE = "turned_better", "turned_worse"
"""The words that replace something that was turned."""
MARKS = ".,;:!?\"'()[]“”‘’…"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FADES = _words(
    "fade fades faded fading evaporate evaporates evaporated stall stalls stalled cool cools cooled cooling "
    "wane wanes waned fizzle fizzles fizzled ease eases eased easing slow slows slowed slowing subside "
    "subsides subsided abate abates abated narrow narrows narrowed shrink shrinks shrank vanish vanishes "
    "vanished dim dims dimmed end ends ended falter falters faltered dissipate dissipates dissipated "
    "loses_steam pushed_back"
)
"""Verbs of a thing that ends: the opposite of what it was follows."""

UNDOES = _words(
    "pare pares pared trim trims trimmed erase erases erased snap snaps snapped end ends ended halt halts "
    "halted recoup recoups recouped reverse reverses reversed stem stems stemmed stop stops stopped avoid "
    "avoids avoided avert averts averted escape escapes escaped survive survives survived dodge dodges dodged "
    "patch patches patched fix fixes fixed overturn overturns overturned lift lifts lifted shakes_off "
    "gives_back takes_profit refuse refuses refused forfeit forfeits surrender surrenders surrendered "
    "relinquish relinquishes drop drops dropped dismiss dismisses dismissed reject rejects rejected deny "
    "denies denied block blocks blocked curb curbs curbed limit limits limited"
)
"""Verbs of a person who ends or prevents a thing."""

UNDONE_ONLY_IF_LEGAL = _words(
    "drop drops dropped dismiss dismisses dismissed lift lifts lifted reject rejects rejected deny denies "
    "denied block blocks blocked overturn overturns overturned curb curbs curbed limit limits limited"
)
"""Verbs that count only for what an authority does to an order or a claim: a price drops by itself."""
LEGAL = _words(
    "ban bans charges claims lawsuit lawsuits case suit fraud sanctions penalty fine probe investigation "
    "approval approvals restrictions allegations complaint withdrawals losses"
)

RESULTS = _words("in_the_green in_the_red turned_better turned_worse")
"""These are where something ends, not what is ended."""

CANNOT = _words("cannot can't cant couldn't couldnt fails_to unable_to never won't")
"""Before an undoing verb: it was not undone."""

FALLS = _words(
    "fall falls fell falling drop drops dropped dropping decline declines declined plunge plunges plunged "
    "retreat retreats retreated slide slides slid tumble tumbles tumbled cool cools cooled ease eases eased "
    "sink sinks sank halve halves halved shrink shrinks shrank slow slows slowed"
)
RISES = _words(
    "rise rises rose rising climb climbs climbed jump jumps jumped spike spikes spiked soar soars soared surge "
    "surges surged leap leaps leaped hit hits accelerate accelerates accelerated double doubles doubled triple "
    "triples tripled mount mounts mounted grow grows grew"
)
BURDENS = _words(
    "hacks hack thefts theft scams scam losses outflows liquidations fears worries concerns fees fee costs "
    "inflation volatility bears selling exploits attacks fraud unemployment defaults complaints delistings"
)
"""Less of these is better, more is worse."""
LOWS = _words("lowest lows low period_low all_time_low")
HIGHS = _words("highest highs high period_high all_time_high record")

CONCEDES = _words("despite although though even_as notwithstanding")
"""Words of concession: what comes in spite of something is the news."""
BACKGROUND = _words("after before following amid as while when since")
"""Words of circumstance: what the news came after, or with."""
CONTRASTS = _words("but yet however nevertheless")
CONCEDED, BEHIND, BEFORE_BUT, AFTER_BUT = 0.0, 0.35, 0.35, 1.4
"""The weight of such a clause."""
ALONE = 0.8
"""The weight of the background where the news itself is neither good nor bad."""

ASKS = _words("how why what which when who where whether can will is are could should would did does do has have")
EXPLAINS = _words("look_back explained explains explain explainer guide lessons recap explainers timeline faq")
ASKED, EXPLAINED = 0.12, 0.3
"""The weight of a text that asks or explains."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a text and how much of what it says counts."""

    weight: float
    words: Sequence[str]
    background: bool = False


def plain(word: str) -> str:
    """Return a word in lower case, without the marks around it."""
    return word.strip(MARKS).lower()


def turned(words: Sequence[str], valence_of: Callable[[str], float]) -> list[str]:
    """Return the words, with what is turned into its opposite replaced by BETTER or WORSE."""
    bare = [plain(word) for word in words]
    out = list(words)
    for place, word in enumerate(bare):
        if out[place] != words[place]:
            continue  # part of something that was turned already
        if word in BURDENS:
            _weigh_burden(bare, out, place)
        if out[place] == words[place] and word in UNDOES:
            _undo(bare, out, place, valence_of)
        if out[place] == words[place] and word in FADES:
            _fade(bare, out, place, valence_of)
    return out


def _weigh_burden(bare: Sequence[str], out: list[str], place: int) -> None:
    """Weigh burdens: `fees fall to their lowest` is good, `outflows jump` is bad."""
    for other in _after(bare, place):
        word = bare[other]
        if word in FALLS or word in RISES:
            out[place] = ""
            out[other] = BETTER if word in FALLS else WORSE
            extremes = LOWS if word in FALLS else HIGHS
            for further in _after(bare, other):
                if bare[further] in extremes:
                    out[further] = ""
            return


def _undo(bare: Sequence[str], out: list[str], place: int, valence_of: Callable[[str], float]) -> None:
    """Weigh what is undone: `erases losses` is good, `pares gains` is bad; `cannot shake off losses` is bad."""
    for other in _after(bare, place):
        if bare[place] in UNDONE_ONLY_IF_LEGAL and bare[other] not in LEGAL:
            continue
        valence = valence_of(bare[other]) if bare[other] not in RESULTS else 0.0
        if valence:
            vain = [before for before in range(max(0, place - 2), place) if bare[before] in CANNOT]
            for before in (place, *vain):
                out[before] = ""
            out[other] = BETTER if (valence < 0) != bool(vain) else WORSE
            return


def _fade(bare: Sequence[str], out: list[str], place: int, valence_of: Callable[[str], float]) -> None:
    """Weigh what fades: `rally fades` is bad, `selling eases` is good."""
    untouched = [other for other in _before(bare, place) if out[other] and out[other] not in (BETTER, WORSE)]
    strongest = max(untouched, key=lambda other: abs(valence_of(bare[other])), default=None)
    valence = valence_of(bare[strongest]) if strongest is not None else 0.0
    if strongest is not None and valence:
        out[strongest] = ""
        out[place] = BETTER if valence < 0 else WORSE


def _ends_clause(word: str) -> bool:
    return word in CONCEDES or word in BACKGROUND or word in CONTRASTS


def _after(bare: Sequence[str], place: int) -> Iterator[int]:
    for other in range(place + 1, min(len(bare), place + 1 + REACH)):
        if _ends_clause(bare[other]):
            return
        yield other


def _before(bare: Sequence[str], place: int) -> Iterator[int]:
    for other in range(place - 1, max(-1, place - 1 - REACH), -1):
        if _ends_clause(bare[other]):
            return
        yield other


def clauses(words: Sequence[str]) -> list[Clause]:
    """Return the parts of a text. What is conceded or lies behind the news counts less, what follows a `but` more.

    A clause that is conceded at the beginning ends with its comma.
    """
    found: list[Clause] = []
    weight, factor, background = 1.0, 1.0, False
    current: list[str] = []
    contrasted = 0

    def close() -> None:
        if current:
            found.append(Clause(weight * factor, tuple(current), background))
            current.clear()

    for word in words:
        bare = plain(word)
        if bare in CONTRASTS:
            close()
            contrasted = len(found)
            weight, factor, background = 1.0, AFTER_BUT, False
            continue
        if bare in CONCEDES or bare in BACKGROUND:
            close()
            weight, background = (CONCEDED if bare in CONCEDES else BEHIND), True
            continue
        current.append(word)
        if word.endswith((",", ";", ".", "!", ":")):
            close()
            weight, background = 1.0, False
            if word.endswith((".", "!")):
                factor = 1.0
    close()
    before = [replace(each, weight=each.weight * BEFORE_BUT) for each in found[:contrasted]]
    return before + found[contrasted:]


def total(found: Sequence[tuple[Clause, float]]) -> float:
    """Return the sum of what clauses say, each with its value.

    Background counts for more where the news says nothing.
    """
    news = sum(clause.weight * value for clause, value in found if not clause.background)
    behind = sum(clause.weight * value for clause, value in found if clause.background)
    return news + behind if news else behind * ALONE / BEHIND


def certainty(words: Sequence[str]) -> float:
    """Return how much of what a text says it means: little where it asks or explains."""
    if not words:
        return 1.0
    if words[-1].rstrip("\"'”’)").endswith("?") or plain(words[0]) in ASKS:
        return ASKED
    return EXPLAINED if any(plain(word) in EXPLAINS for word in words[:12]) else 1.0
