"""What stands for a database in the planted bugs: each call is one statement, whole or not at all."""

from collections import Counter
from itertools import count, takewhile


class Depot:
    """Ships items; an item below zero is poison."""

    def __init__(self):
        self.shipped = Counter()
        self.keys = set()

    def ship(self, item, key=None):
        """Ship an item, with a key only once."""
        if item < 0:
            raise ValueError(f"item {item} is poison")
        if key is None or key not in self.keys:
            self.keys.add(key)
            self.shipped[item] += 1


class Books:
    """Rows under unique keys, and totals."""

    def __init__(self):
        self.rows = {}
        self.total = 0

    def insert(self, key, value=True):
        """Insert a row unless its key is there."""
        self.rows.setdefault(key, value)

    def row(self, key):
        """Read a whole row; a word that nobody gave is False there."""
        return {**{f"{kind} {word}": False for kind in ("tag", "note") for word in range(6)}, **self.rows.get(key, {})}

    def update(self, key, **columns):
        """Set columns of a row."""
        self.rows[key] = {**self.rows.get(key, {}), **columns}

    def post(self, slot, number, units):
        """Add units unless the slot holds this number already."""
        if self.rows.get(slot) != number:
            self.rows[slot] = number
            self.total += units


class Desk:
    """A document whose edits arrive in any order."""

    def __init__(self):
        self.lines = []
        self.next = 1
        self.held = {}

    def hold(self, version, text):
        """Keep an edit until its turn."""
        if version >= self.next:
            self.held[version] = text

    def ready(self):
        """Return the edits whose turn it is, in order."""
        numbers = takewhile(self.held.__contains__, count(self.next))
        return [(number, self.held[number]) for number in numbers]

    def take(self):
        """Return them and keep them no longer."""
        edits = self.ready()
        for number, _ in edits:
            del self.held[number]
        return edits

    def write(self, version, text):
        """Write an edit, once, and let the next one have its turn."""
        if version == self.next:
            self.lines += [text] if text else []
            self.held.pop(version, None)
            self.next += 1
