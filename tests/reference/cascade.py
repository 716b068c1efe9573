"""The cascade in plain Python: what `corpusmill.pipeline.dedup.cascade` computes, one component at a time."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from operator import eq
from typing import Any

Member = dict[str, Any]
END_OF_TIME = datetime.max


def total_order(member: Member) -> tuple:
    """Smaller is better."""
    quality = float("-inf") if member["quality"] is None else member["quality"]
    date = member["date"] or END_OF_TIME
    return (-quality, -member["n_chars"], member["priority"], date, member["id"], member["doc"])


def url_order(member: Member, policy: str) -> tuple:
    date = member["date"]
    if policy == "longest":
        return (-member["n_chars"], total_order(member))
    if date is None:
        return (1, 0.0, total_order(member))
    age = (END_OF_TIME - date).total_seconds()
    return (0, age if policy == "newest" else -age, total_order(member))


class Cascade:
    """`beaten_by` holds the document that dropped each one, the kind, and the similarity."""

    def __init__(self) -> None:
        self.beaten_by: dict[int, tuple[int, str, float | None]] = {}

    def remaining(self, component: list[Member], column: str) -> list[Member]:
        return [member for member in component if member["doc"] not in self.beaten_by and member[column]]

    def same_key(self, component: list[Member], column: str, kind: str, order: Callable[[Member], Any]) -> None:
        groups = defaultdict(list)
        for member in self.remaining(component, column):
            groups[member[column]].append(member)
        for group in groups.values():
            first, *rest = sorted(group, key=order)
            for member in rest:
                self.beaten_by[member["doc"]] = (first["doc"], kind, None)

    def near(self, component: list[Member], threshold: float) -> None:
        leaders: list[Member] = []
        for member in sorted(self.remaining(component, "sig8"), key=total_order):
            similarity, best = -1.0, member
            for leader in leaders:
                share = sum(map(eq, member["sig8"], leader["sig8"])) / len(member["sig8"])
                if share > similarity:
                    similarity, best = share, leader
            if leaders and round(similarity, 6) >= threshold:
                self.beaten_by[member["doc"]] = (best["doc"], "near", round(similarity, 6))
            else:
                leaders.append(member)

    def survivor(self, doc: int) -> int:
        return self.survivor(self.beaten_by[doc][0]) if doc in self.beaten_by else doc


def resolve(members: list[Member], url: str, exact: bool, near: float | None) -> list[Member]:
    """The rows that `cascade.resolve` returns, by document number."""
    cascade = Cascade()
    components = defaultdict(list)
    for member in members:
        components[member["component"]].append(member)
    for component in components.values():
        cascade.same_key(component, "id", "record", lambda member: member["doc"])
        if url != "none":
            cascade.same_key(component, "url_key", "url", lambda member: url_order(member, url))
        if exact:
            cascade.same_key(component, "text_key", "exact", total_order)
        if near is not None:
            cascade.near(component, near)

    docs = sorted(member["doc"] for member in members)
    ends = [cascade.survivor(doc) for doc in docs]
    rows = []
    for doc, end in zip(docs, ends, strict=True):
        winner, kind, jaccard = cascade.beaten_by.get(doc, (None, None, None))
        rows.append(
            {
                "doc": doc,
                "duplicate_of": winner,
                "kind": kind,
                "jaccard": jaccard,
                "survivor": end,
                "cluster_size": ends.count(doc) if winner is None else None,
            }
        )
    return rows


def raw_components(members: list[Member], columns: list[str]) -> dict[int, int]:
    """The smallest document reachable through equal values, of each document that shares any but None.

    Args:
        members: `doc`, and the columns.
        columns: of keys; a list of values is as many columns.
    """
    sharing = defaultdict(list)
    for member in members:
        for column in columns:
            values = member[column] if isinstance(member[column], list) else [member[column]]
            for position, value in enumerate(values):
                if value is not None:
                    sharing[column, position, value].append(member["doc"])
    root = {doc: doc for docs in sharing.values() if len(docs) > 1 for doc in docs}
    changed = True
    while changed:
        changed = False
        for docs in sharing.values():
            least = min(root.get(doc, doc) for doc in docs)
            for doc in docs:
                if len(docs) > 1 and root[doc] != least:
                    root[doc], changed = least, True
    return root
