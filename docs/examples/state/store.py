"""Conversations that outlive the agent which holds them: an SQLite file that all bundles of an agent share.

Each row belongs to the bundle that wrote it, so that two releases never write over each other. A conversation that has
left its bundle (by a rollback, or by `colorfast migrate`) is taken over by the one that it comes to: what this has not of
it is copied, column by column that it knows.

The layout changes by expand and contract. While bundles of both layouts run, the file has the columns of both: the new
bundle fills the old column, too, and the old one names its own columns and leaves alone what it does not know. So each
reads what the other wrote, and a rollback loses nothing. The old column goes when no slot runs a bundle that reads it.
"""

import contextlib
import json
import sqlite3

CREATE = """
CREATE TABLE IF NOT EXISTS turns (
    bundle TEXT NOT NULL, conversation TEXT NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (bundle, conversation, number)
) WITHOUT ROWID
"""


class First:
    """A turn is a text."""

    columns = ["text"]
    needs = ["text"]

    @staticmethod
    def write(text):
        return {"text": text}

    @staticmethod
    def read(turn):
        return turn["text"]


class Second:
    """A turn has parts, of which some are text. It stands in the old column as well, for as long as there is one."""

    columns = ["text", "parts"]
    needs = ["parts"]

    @staticmethod
    def write(text):
        return {"text": text, "parts": as_parts(text)}

    @staticmethod
    def read(turn):
        if turn.get("parts") is None:  # written by the bundle before
            return turn["text"]
        return "".join(part["text"] for part in json.loads(turn["parts"]) if part["type"] == "text")


LAYOUTS = {"first": First, "second": Second}


def as_parts(text):
    """The parts of what is nothing but text."""
    return json.dumps([{"type": "text", "text": text}])


@contextlib.contextmanager
def transaction(path):
    """One transaction that writes: all of it, or nothing."""
    with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def columns(database):
    """The columns that there are at this moment."""
    return [row[1] for row in database.execute("PRAGMA table_info(turns)")]


class Store:
    """The conversations of one bundle."""

    def __init__(self, path, bundle, layout):
        self._path, self._bundle, self._layout = path, bundle, LAYOUTS[layout]
        with transaction(path) as database:
            database.execute(CREATE)
            there = columns(database)
        if missing := [column for column in self._layout.needs if column not in there]:
            raise SystemExit(f"{path} has no {', '.join(missing)}, as `{layout}` needs: python3 schema.py expand {path}")

    def say(self, conversation, text):
        """Adds a turn to a conversation, and answers all that was said in it."""
        with transaction(self._path) as database:
            there = columns(database)
            known = [column for column in self._layout.columns if column in there]
            self._take_over(database, conversation, known)
            turns = self._turns(database, conversation, known)
            written = self._layout.write(text)
            values = [self._bundle, conversation, len(turns) + 1, *(written[column] for column in known)]
            names, marks = ", ".join(known), ", ".join("?" * len(values))
            database.execute(f"INSERT INTO turns (bundle, conversation, number, {names}) VALUES ({marks})", values)
        return [*map(self._layout.read, turns), text]

    def _turns(self, database, conversation, known):
        rows = database.execute(
            f"SELECT {', '.join(known)} FROM turns WHERE bundle = ? AND conversation = ? ORDER BY number",
            [self._bundle, conversation],
        )
        return [dict(zip(known, row)) for row in rows]

    def _take_over(self, database, conversation, known):
        """Copies what another bundle has of a conversation, and this one has not."""
        copied = ", ".join(known)
        database.execute(
            f"""
            INSERT INTO turns (bundle, conversation, number, {copied})
            SELECT :bundle, conversation, number, {copied} FROM turns
            WHERE conversation = :conversation
              AND bundle = (
                SELECT bundle FROM turns WHERE conversation = :conversation
                GROUP BY bundle ORDER BY max(number) DESC, bundle = :bundle DESC LIMIT 1)
              AND number > (
                SELECT coalesce(max(number), 0) FROM turns
                WHERE bundle = :bundle AND conversation = :conversation)
            """,
            {"bundle": self._bundle, "conversation": conversation},
        )
