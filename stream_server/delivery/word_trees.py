"""Find the patterns that match a topic, and the topics that match a pattern, without comparing each with each.

Both are trees of the words that `topics.words_of` gives, three at most, so that a search takes some fifteen steps
however many patterns there are. `topics.matches` defines what a match is; a property test compares the trees with it.
"""

from typing import Generic, TypeVar

from feeds import topics

V = TypeVar("V")


class _Node(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] = {}
        self.value: V | None = None

    def reach(self, text: str) -> "_Node[V]":
        """Return the node of a dotted text below this one; add the nodes that are missing."""
        node = self
        for word in topics.words_of(text):
            child = node.children.get(word)
            if child is None:
                child = node.children[word] = _Node()
            node = child
        return node

    def cut(self, text: str) -> None:
        """Remove the value of a dotted text, and the branches that only it needed."""
        path = [self]
        words = topics.words_of(text)
        for word in words:
            path.append(path[-1].children[word])
        path[-1].value = None
        for parent, word, node in zip(reversed(path[:-1]), reversed(words), reversed(path[1:]), strict=True):
            if node.children or node.value is not None:
                return
            del parent.children[word]


class PatternTree(Generic[V]):
    """A map from patterns to values."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root: _Node[V] = _Node()

    def put(self, pattern: str, value: V) -> None:
        """Set the value of a pattern."""
        self.root.reach(pattern).value = value

    def get(self, pattern: str) -> V | None:
        """Return the value of exactly this pattern; None if there is none."""
        node: _Node[V] | None = self.root
        for word in topics.words_of(pattern):
            node = None if node is None else node.children.get(word)
        return None if node is None else node.value

    def remove(self, pattern: str) -> None:
        """Remove a pattern."""
        self.root.cut(pattern)

    def matching(self, topic: str) -> list[V]:
        """Return the values of all patterns that match a topic."""
        found: list[V] = []
        if topic == topics.PROBE:
            return found
        nodes = [self.root]
        for word in topics.words_of(topic):
            following: list[_Node[V]] = []
            for node in nodes:
                rest = node.children.get(">")
                if rest is not None and rest.value is not None:
                    found.append(rest.value)
                for key in (word, "*"):
                    child = node.children.get(key)
                    if child is not None:
                        following.append(child)
            nodes = following
        found += [node.value for node in nodes if node.value is not None]
        return found


class TopicTree:
    """A set of topics."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root: _Node[str] = _Node()

    def add(self, topic: str) -> None:
        """Add a topic."""
        self.root.reach(topic).value = topic

    def remove(self, topic: str) -> None:
        """Remove a topic."""
        self.root.cut(topic)

    def matching(self, pattern: str) -> list[str]:
        """Return the topics that a pattern matches."""
        nodes = [self.root]
        for word in topics.words_of(pattern):
            if word == ">":
                nodes = _below(nodes)
                break
            if word == "*":
                nodes = [child for node in nodes for child in node.children.values()]
            else:
                nodes = [child for node in nodes if (child := node.children.get(word)) is not None]
        return [node.value for node in nodes if node.value is not None and node.value != topics.PROBE]


def _below(nodes: list[_Node[str]]) -> list[_Node[str]]:
    found: list[_Node[str]] = []
    while nodes:
        nodes = [child for node in nodes for child in node.children.values()]
        found += nodes
    return found
