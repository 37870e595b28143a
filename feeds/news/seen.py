"""Which articles are new: the same one may come again from its outlet, changed, or from another outlet."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import StrEnum

from feeds.model import Article
from feeds.news.articles import article_id, by_itself


class Novelty(StrEnum):
    """Whether an article is new, rewritten or known to a reader of the ones before."""

    NEW = "new"
    UPDATED = "updated"
    KNOWN = "known"


@dataclass(slots=True)
class _Versions:
    titles: set[str]
    published_at: int
    keys: dict[str, str] = field(default_factory=dict)
    """The names of the article, by source."""


MAX_TITLES = 16
"""Titles remembered for one article; one that is rewritten more often is published again."""
LATER_MS = 10 * 60_000
"""Two sources date the same article some minutes apart; beyond that it was published again."""


class SeenArticles:
    """Remembers the last `size` articles, and judges which are new, rewritten or known.

    An article of the same id is updated, not new, when it has a title it has never had or a publication date well
    after its last. Every title it has had is remembered, so that two sources wording it differently do not take turns
    in updating it.
    """

    def __init__(self, size: int = 5000) -> None:
        self.size = size
        self.versions: OrderedDict[str, _Versions] = OrderedDict()

    def named(self, each: Article) -> Article:
        """Return the article under the id that it has among those that were there before.

        One that has shared its link since its first time keeps the id of the link. One that came alone, but under
        another key and title than the last one of its link, is another article.
        """
        if each.url is None:
            return each
        link_id = article_id(each.url, None, "", None)
        seen = self.versions.get(link_id)
        if seen is None:
            return each
        source, name = each.key or ("", "")
        known = seen.keys.get(source)
        is_known = known == name if known is not None else each.title in seen.titles
        if each.id != link_id:
            return replace(each, id=link_id) if is_known else each
        is_another = known is not None and not is_known and each.title not in seen.titles
        return by_itself(each) if is_another else each

    def judge(self, each: Article) -> Novelty:
        """Return whether an article is new, changed or known, and remember it."""
        novelty = self._judged(each)
        if each.key is not None:
            self.versions[each.id].keys.setdefault(*each.key)
        return novelty

    def _judged(self, each: Article) -> Novelty:
        seen = self.versions.get(each.id)
        if seen is None:
            self.versions[each.id] = _Versions({each.title}, 0 if each.published_estimated else each.published_at)
            while len(self.versions) > self.size:
                self.versions.popitem(last=False)
            return Novelty.NEW
        self.versions.move_to_end(each.id)
        changed = each.title not in seen.titles
        if changed:
            if len(seen.titles) >= MAX_TITLES:
                seen.titles.clear()
            seen.titles.add(each.title)
        if not each.published_estimated:
            changed |= 0 < seen.published_at < each.published_at - LATER_MS
            seen.published_at = max(seen.published_at, each.published_at)
        return Novelty.UPDATED if changed else Novelty.KNOWN
