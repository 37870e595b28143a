"""The order in which providers are tried: smooth weighted round-robin inside a tier, then the next tier."""

from collections.abc import Callable, Sequence


class Rotation:
    """`tiers` holds the members' weights. Members are numbered from 0 through all tiers, in the order given.

    Smooth: weights 3 and 1 give a, a, b, a, not a, a, a, b. Raises ValueError for a weight below 1.
    """

    def __init__(self, tiers: Sequence[Sequence[int]]) -> None:
        self.weights = [weight for tier in tiers for weight in tier]
        if any(weight < 1 for weight in self.weights):
            raise ValueError("a weight is at least 1")
        self.credit = [0] * len(self.weights)
        """What each member is owed, in units of choices times the weight of the members that took part."""
        self.tiers: list[range] = []
        start = 0
        for tier in tiers:
            self.tiers.append(range(start, start + len(tier)))
            start += len(tier)

    def order(self, may: Callable[[int], bool]) -> list[int]:
        """Return the members to try, best first. `may` is called once for each; those that may not are left out.

        The first of each tier spends its turn. The others of its tier follow as their own turns would come.
        """
        return [place for tier in self.tiers for place in self._in_turn([place for place in tier if may(place)])]

    def _in_turn(self, places: list[int]) -> list[int]:
        for place in places:
            self.credit[place] += self.weights[place]
        places.sort(key=lambda place: -self.credit[place])  # stable: of equals, the one that stands first
        if places:
            self.credit[places[0]] -= sum(self.weights[place] for place in places)
        return places
