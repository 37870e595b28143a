"""The model that always answers: VADER's word list, with the words of this market put in and misleading ones taken out.

It asks nobody. VADER weighs words by a general list (valences from -4 to 4), with rules for negation, emphasis and
`but`; in headlines on money it misses most of what matters (`plunges`, `inflows`, `exploit`) and is misled by terms of
the trade (`interest`, `share`, `security`, `asset`, `block`).

Checked by the share of labels that agree with ours, a third each positive, neutral and negative. `headlines` are 180
usual ones; `turns` are 84 with negation, fading, `despite`, `after`, `but`, numbers and questions, which
`feeds.news.turns` reads. One half of each chose list and rules, the other only checks them; all were written by those
who wrote the list, so expect less of real headlines.

                      headlines                 turns
                    development  held out   development  held out
    plain VADER            0.60        0.68        0.33        0.36    (neutral within 0.05, as its authors advise)
    with this list         0.93        0.93        0.95        0.81    (neutral within 0.2, as for every model here)

Before the rules of `feeds.news.turns` the list agreed on 0.90, 0.93, 0.31 and 0.38 of them.

Source: Hutto and Gilbert 2014, "VADER"; vaderSentiment 3.3.2.
"""

import math
import re
from collections.abc import Sequence
from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from feeds.model import Sentiment
from feeds.news import turns
from feeds.news.scores import Texts, label_of
from orchestrator.provider import Steps

NAME = "lexicon"
READ_AT_MOST = 1000
"""Characters of a text that are read: more than title and summary of any article have."""
WORDS_AT_ONCE = 40
"""VADER looks at all words for each: so it is given few at once, and the whole takes time as its length."""
NORM = 15
"""VADER's own constant between the sum of all words and a score from -1 to 1."""
EMOJI_AT_MOST = 20
"""Maximum number of emoji too: the library spells out each in several words, and thousands would take seconds."""

MONEY = r"\$[\d.,]+ ?(?:thousand|million|billion|[kmb]\b)?"

PHRASES: tuple[tuple[str, float, str], ...] = (
    # What takes the holders' money.
    ("rug_pull", -3.2, r"rug[- ]?pull(?:s|ed)?|rugged"),
    ("exit_scam", -3.1, r"exit[- ]scams?"),
    ("pump_and_dump", -2.6, r"pump[- ]and[- ]dumps?"),
    ("flash_loan_attack", -2.6, r"flash[- ]loan (?:attack|exploit)s?"),
    ("withdrawals_halted", -2.6, r"(?:halt|suspend|freez|paus|block)(?:s|es|e|ed|ing)? (?:\w+ ){0,2}withdrawals?"),
    ("peg_lost", -2.5, r"(?:loses?|lost|slips? from|breaks?) (?:its |the )?(?:\w+ )?peg"),
    ("bank_run", -2.4, r"bank run|run on (?:the )?(?:bank|exchange)"),
    ("money_laundering", -2.3, r"money[- ]launder\w*"),
    # What gives it back; said together with the theft, which it must outweigh.
    (
        "funds_returned",
        3.6,
        r"(?:recover|return|refund|reimburse|repay)(?:s|ed|ing)?(?: all| most)? "
        r"(?:(?:the )?(?:stolen |lost |hacked |user |customer )+(?:funds|assets|crypto|money)|customers|users"
        rf"|{MONEY})",
    ),
    # Courts and authorities. A case that is dropped is good news with bad words in it.
    (
        "case_dropped",
        2.4,
        r"(?:drop|dismiss|toss|throw|withdraw)(?:s|es|ed|ing)?(?: out)? (?:\w+[- ]){0,3}"
        r"(?:lawsuit|case|charges|complaint|probe|investigation)",
    ),
    ("sec_lawsuit", -2.2, r"SEC (?:lawsuit|sues|charges|complaint)(?: against)?"),
    ("etf_approved", 2.3, r"ETFs? approv(?:al|ed)|(?:approv|clear)(?:e?s|ed|ing) (?:[\w-]+ ){0,4}(?:ETF|fund)s?"),
    ("etf_rejected", -2.2, r"ETFs? (?:reject|deni)\w+|(?:reject|den[iy])(?:e?s|ed) (?:[\w-]+ ){0,4}(?:ETF|fund)s?"),
    ("green_light", 1.9, r"green[- ]?light(?:s|ed)?|go-ahead"),
    ("strategic_reserve", 1.2, r"strategic (?:\w+ )?reserves?"),
    # Prices.
    ("all_time_high", 2.4, r"all[- ]time highs?|new (?:highs?|peaks?)|record (?:highs?|peaks?|inflows?)"),
    ("all_time_low", -2.2, r"all[- ]time lows?|new lows?|record (?:lows?|outflows?)"),
    ("period_high", 1.9, r"\w+-(?:week|month|year) highs?|(?:best|highest) level"),
    ("period_low", -1.9, r"\w+-(?:week|month|year) lows?|(?:worst|lowest) level"),
    ("worst_on_record", -2.2, r"(?:worst|biggest loss|largest loss)(?: \w+){0,2} on record"),
    ("up_percent", 1.8, r"\bup (?:by )?\d[\d.,]*(?:%| percent)|(?<!\w)\+\d[\d.,]*%"),
    ("down_percent", -1.8, r"\bdown (?:by )?\d[\d.,]*(?:%| percent)|(?<![\w.])[-−]\d[\d.,]*%"),
    ("sell_off", -2.0, r"sell(?:s|ing)?[- ]?offs?|sold off"),
    ("wipes_out", -2.0, r"wip(?:es?|ed|ing) out|gives? (?:back|up) (?:all )?(?:its |the )?gains"),
    ("winning_streak", 1.9, r"winning streak"),
    ("losing_streak", -1.9, r"losing streak"),
    ("bull_run", 2.2, r"bull (?:run|market)s?"),
    ("bear_market", -2.0, r"bear markets?"),
    ("alt_season", 1.7, r"alt(?:coin)? ?season"),
    ("crypto_winter", -2.0, r"crypto winter"),
    ("golden_cross", 2.0, r"golden cross"),
    ("death_cross", -2.1, r"death cross"),
    ("dead_cat_bounce", -1.8, r"dead[- ]cat bounce"),
    # Those who bet on a fall must buy.
    ("short_squeeze", 1.6, r"short squeeze|shorts (?:\S+ ){0,4}(?:cover|liquidated|squeezed)"),
    ("shrugs_off", 1.6, r"shrug(?:s|ged)? off"),
    ("holds_firm", 1.3, r"(?:holds?|stands?) (?:firm|strong)"),
    # What a text turns on; `feeds.news.turns` reads these.
    ("even_as", 0.0, r"even (?:as|though|if|after)"),
    (
        "loses_steam",
        0.0,
        r"(?:runs?|ran) out of (?:steam|puff)|los(?:es?|ing) (?:steam|momentum|its shine)"
        r"|dr(?:y|ies|ied) up|hits? a wall",
    ),
    ("shakes_off", 0.0, r"sh(?:ake|akes|ook|aking) off"),
    ("gives_back", 0.0, r"g(?:ive|ives|ave) (?:back|up)"),
    ("takes_profit", -1.2, r"tak(?:es?|ing) (?:some )?(?:gains|profits?)|profit[- ]taking"),
    ("gave_it_back", -2.2, r"g(?:ive|ives|ave) (?:it|them) (?:all )?back"),
    ("fails_to", -2.0, r"fail(?:s|ed|ing)? to (?:hold|rally|recover|break|reclaim|gain|rise|keep|win)"),
    ("unable_to", -1.6, r"unable to|struggl(?:es?|ed|ing) to"),
    ("no_longer", -1.6, r"no longer(?: an?| the)? \w+"),
    ("look_back", 0.0, r"look(?:s|ing)? back"),
    ("backs_down", 1.4, r"backs? down|backed down"),
    ("pushed_back", -1.4, r"pushe[sd] back|put off|put on hold"),
    ("holds_above", 1.3, r"(?:holds?|held|stays?|stayed) (?:above|up|onto)"),
    ("regains_peg", 2.0, r"(?:regains?|restores?|returns? to) (?:its |the )?peg"),
    ("target_raised", 1.7, r"rais(?:es|ed|ing|e) (?:\w+ )?(?:price )?target"),
    ("target_cut", -1.7, r"(?:cut|cuts|lower|lowers|slash|slashes) (?:\w+ )?(?:price )?target"),
    ("in_the_green", 1.3, r"in the green|in positive territory"),
    ("in_the_red", -1.3, r"in the red|in negative territory"),
    ("down_overnight", -1.2, r"(?:is|was|were) (?:up|down) \d[\d.,]*%"),
    # Business.
    ("raises_money", 1.4, rf"rais(?:es?|ed|ing) {MONEY}"),
    (
        "raises_worry",
        -1.8,
        r"(?:rais|spark|stok|fuel|stir)(?:es?|s|ed|ing) (?:\w+ )?(?:concern|fear|doubt|worr|alarm)\w*",
    ),
    ("lower_costs", 1.0, r"(?:rate|fee|cost|tax) cuts?|(?:cut|slash|lower)(?:s|es|ed|ting)? (?:\w+ )?(?:fees?|costs?)"),
    (
        "job_cuts",
        -1.8,
        r"la(?:y|ys|id|ying)[- ]?offs?|(?:cut|slash)(?:s|es|ed|ting)? (?:\w+ ){0,3}(?:staff|jobs|workforce|headcount)",
    ),
    ("goes_down", -1.8, r"(?:goes|went|going) (?:down|offline|dark)|shut(?:s|ting)? (?:down|its doors)"),
    # Here the parts mislead; together they say nothing.
    ("fear_and_greed", 0.0, r"fear (?:and|&) greed(?: index)?"),
    ("proof_of_work", 0.0, r"proof[- ]of[- ]\w+"),
    ("risk_terms", 0.0, r"risk[- ](?:management|weighted|free)|risk assets?"),
    ("market_cap", 0.0, r"market (?:cap|share)"),
    ("justice_department", 0.0, r"(?:department|ministry) of justice|justice department"),
    ("no_change", 0.0, r"no change|little (?:moved|changed)"),
)
"""Several words that mean something else than their parts: a name, its valence, a pattern. The first that fits at a
place is taken, and put in the text as one word."""

WORDS: tuple[tuple[float, str, str], ...] = (
    (2.6, "a price that leaps", "skyrocket skyrockets skyrocketed moon moons mooning mooned parabolic"),
    (2.4, "the same, or who expects it", "soar soars soared soaring surge surges surged surging ath bullish"),
    (
        2.0,
        "a price that rises fast",
        "rally rallies rallied rallying leap leaps leaped leapt bull bulls rocket rockets rebound rebounds rebounded",
    ),
    (
        1.8,
        "a price that rises, or does so again",
        "jump jumps jumped climb climbs climbed reclaim reclaims reclaimed outperform outperforms outperformed breakout"
        " recover recovers recovered recovery pump pumps pumping",
    ),
    (
        1.6,
        "money comes in, or is allowed to",
        "gain gains gained inflow inflows approve approves approved approval milestone legalize legalise legalizes"
        " legalises breakthrough upside adopt adopts adoption bounce bounces bounced",
    ),
    (
        1.3,
        "it grows, and others take part",
        "rise rises rose rising advance advances advanced accumulate accumulates accumulated accumulation beats tops"
        " surpass surpasses surpassed partners partnered partnership integrates expands highest doubles triples"
        " licence license seamless",
    ),
    (0.9, "good more often than not", "record spike spikes spiked hodl undervalued oversold buyback"),
    (
        0.5,
        "expected by all and in the price: it tips the scales, no more",
        "halving upgrade institutional institutions launches adds backs backing",
    ),
    (
        2.7,
        "averts what stands beside it in the worst words",
        "prevents prevented thwarts thwarted averts averted foils foiled",
    ),
    (
        -2.6,
        "a price in free fall",
        "crash crashes crashed crashing plummet plummets plummeted nosedive nosedives bloodbath",
    ),
    (
        -2.4,
        "the same, or who expects it",
        "plunge plunges plunged plunging collapse collapses collapsed bearish capitulation capitulate capitulates",
    ),
    (
        -2.0,
        "a price that falls fast",
        "tumble tumbles tumbled slump slumps slumped sink sinks sank tank tanks tanked rout turmoil",
    ),
    (
        -1.8,
        "a price that falls, and who makes it",
        "slide slides slid dump dumps dumped dumping bleed bleeds bled bleeding underperform underperforms bear bears",
    ),
    (
        -1.6,
        "money goes out",
        "fall falls fell falling drop drops dropped dropping outflow outflows lowest lose loses lost losing loss losses"
        " decline declines declined erase erases erased retreat retreats retreated downside downturn",
    ),
    (
        -1.2,
        "it weakens",
        "dip dips dipped weaken weakens weakened weak struggle struggles struggled correction pullback fades slips"
        " slipped overbought overvalued volatility",
    ),
    (
        -2.7,
        "theft",
        "hack hacks hacked hacker hackers ponzi scam scams scammer scammers fraud fraudulent phishing theft thefts"
        " heist stolen steal steals stole embezzled rekt",
    ),
    (
        -2.5,
        "theft by a flaw, and ruin",
        "exploit exploits exploited exploiter drain drains drained insolvent insolvency bankrupt bankruptcy depeg"
        " depegs depegged malware ransomware contagion",
    ),
    (
        -2.2,
        "a person in court or worse",
        "arrested arrest arrests indicted indictment guilty convicted jailed sentenced sanctions sanctioned crackdown",
    ),
    (
        -1.9,
        "forced out, shut out, or open to theft",
        "liquidated liquidation liquidations vulnerability breach breached leak leaked compromised outage frozen"
        " freezing slashed sue sues sued suing lawsuit lawsuits fined ban bans banned banning subpoena subpoenas reject"
        " rejects rejected rejection delist delists delisted delisting halts halted conspiracy",
    ),
    (
        -1.3,
        "what may become worse",
        "warn warns warned warning probe probes investigation investigates investigated prosecutors cascade fud"
        " scrutiny layoffs panic fears uncertainty unregistered setback setbacks",
    ),
    (-0.5, "a wait", "delay delays delayed postpones postponed"),
)
"""Valences on VADER's scale, why, and the words: by what the news does to who holds the coin."""

MISLEADING = """
    share shares shared sharing interest interests security securities secure asset assets treasury value values credit
    gross debt liability trust bond grant grants agreement agreements stable demand demands support supports supporters
    united top like number original novel play join joins joined fan fun energy kind free freedom natural please thanks
    help helps helped challenge certain clear clears
    block blocks blocked blocking difficulty dominance dominant fork pay pays paid accept accepts fresh await awaits cut
    cuts cutting low empties reaches chance dead stop stops leave leaves miss greed
"""
"""Words of VADER's list that say nothing here: terms of finance and law first, then those of chains and newsrooms."""

PHRASE = re.compile("|".join(rf"(?P<{name}>(?<!\w)(?:{pattern})(?!\w))" for name, _, pattern in PHRASES), re.IGNORECASE)


def serves(query: Texts) -> bool:
    """Whether it is asked for, or any model would do."""
    return query.model in (None, NAME)


def score(query: Texts) -> Steps[list[Sentiment]]:
    """Ask what the list reads in each text, in their order. There is no request in this conversation."""
    yield from ()
    return [sentiment(each) for each in query.texts]


def sentiment(raw: str) -> Sentiment:
    """Return what the list reads in a text. Safe to call from several threads."""
    score = compound(raw[:READ_AT_MOST])
    return Sentiment(label_of(score), score, NAME)


def compound(text: str) -> float:
    """Return a score from -1 to 1. The time grows with the length of the text, whatever is in it."""
    words = PHRASE.sub(lambda found: f" {found.lastgroup} ", text).split()
    said = [(clause, _sum_of(clause.words)) for clause in turns.clauses(turns.turned(words, _valence_of))]
    total = turns.total(said) * turns.certainty(words)
    return round(total / math.sqrt(total * total + NORM), 4)


def _valence_of(word: str) -> float:
    return float(_analyzer().lexicon.get(word, 0.0))


def _sum_of(words: Sequence[str]) -> float:
    """Return what the words of a clause weigh together, read a few at a time."""
    parts = (
        " ".join(filter(None, words[first : first + WORDS_AT_ONCE])) for first in range(0, len(words), WORDS_AT_ONCE)
    )
    return sum(float(_analyzer().polarity_scores(_few_emoji(part))["compound"]) for part in parts)


def _few_emoji(words: str) -> str:
    if words.isascii():
        return words
    known = _analyzer().emojis
    left = EMOJI_AT_MOST
    kept = []
    for character in words:
        if character in known:
            left -= 1
            if left < 0:
                continue
        kept.append(character)
    return "".join(kept)


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]
    """VADER, which gives the sum of what words weigh instead of one that is squeezed between -1 and 1."""

    def score_valence(self, sentiments: Sequence[float], text: str) -> dict[str, float]:
        total = float(sum(sentiments))
        emphasis = self._punctuation_emphasis(text)
        return {"compound": total + math.copysign(emphasis, total) if total else 0.0}


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    analyzer = _Analyzer()
    for word in MISLEADING.split():
        analyzer.lexicon.pop(word, None)
    for valence, _, words in WORDS:
        analyzer.lexicon.update(dict.fromkeys(words.split(), valence))
    analyzer.lexicon.update({name: valence for name, valence, _ in PHRASES})
    analyzer.lexicon.update({turns.BETTER: 2.2, turns.WORSE: -2.2})
    return analyzer
