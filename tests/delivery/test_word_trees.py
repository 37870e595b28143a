"""The trees of patterns and topics find what `topics.matches` says, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from feeds import topics
from stream_server.delivery.word_trees import PatternTree, TopicTree

WORDS = ("a", "b", "price")
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(".".join)
patterns = st.tuples(st.lists(st.sampled_from([*WORDS, "*"]), max_size=3), st.booleans()).map(
    lambda drawn: ".".join([*drawn[0], ">"] if drawn[1] or not drawn[0] else drawn[0])
)


@given(put=st.lists(patterns, max_size=12), removed=st.sets(patterns), topic=names)
def test_a_topic_finds_the_patterns_that_match_it(put: list[str], removed: set[str], topic: str) -> None:
    tree: PatternTree[str] = PatternTree()
    for pattern in put:
        tree.put(pattern, pattern)
    for pattern in removed & set(put):
        tree.remove(pattern)
    kept = set(put) - removed
    assert sorted(tree.matching(topic)) == sorted(pattern for pattern in kept if topics.matches(pattern, topic))
    assert all(tree.get(pattern) == (pattern if pattern in kept else None) for pattern in [*put, *removed])


@given(put=st.sets(patterns))
def test_a_tree_without_patterns_has_no_branches(put: set[str]) -> None:
    tree: PatternTree[str] = PatternTree()
    for pattern in put:
        tree.put(pattern, pattern)
    for pattern in put:
        tree.remove(pattern)
    assert not tree.root.children


@given(added=st.lists(names, max_size=12), pattern=patterns)
def test_a_pattern_finds_the_topics_that_it_matches(added: list[str], pattern: str) -> None:
    tree = TopicTree()
    for topic in added:
        tree.add(topic)
    assert sorted(tree.matching(pattern)) == sorted(topic for topic in set(added) if topics.matches(pattern, topic))


def test_no_pattern_means_the_topic_of_the_probe() -> None:
    patterns_of, spoken = PatternTree[str](), TopicTree()
    spoken.add(topics.PROBE)
    for pattern in ("*", ">"):
        patterns_of.put(pattern, pattern)
        assert spoken.matching(pattern) == []
    assert patterns_of.matching(topics.PROBE) == []
