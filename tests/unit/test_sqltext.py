"""Which tables a statement writes to, which functions it calls."""

import pytest

from pytest_jobs.probes.sqltext import ANY, LOCK, SCRIPT, Statements

CASES = {
    "SELECT 1 FROM a": ("SELECT", []),
    "SELECT id FROM a WHERE note = 'DELETE FROM b'": ("SELECT", []),
    "SELECT id FROM a FOR UPDATE": (LOCK, []),
    "INSERT INTO a VALUES (1); DELETE FROM b": ("INSERT", ["INSERT a", "DELETE b"]),
    "SET x = 1; UPDATE a SET n = 1": ("SET", ["UPDATE a"]),
    "SELECT 1; UPDATE a SET n = 1;": ("SELECT", ["UPDATE a"]),
    "BEGIN; INSERT INTO a VALUES (';'); COMMIT": (SCRIPT, ["INSERT a"]),
    "CREATE TABLE a (id int); INSERT INTO a VALUES (1)": ("CREATE", ["INSERT a"]),
    "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE b SET n = 1; DELETE FROM c; END": ("CREATE", []),
    "COMMIT;": ("COMMIT", []),
    "WITH x AS (DELETE FROM a RETURNING id) INSERT INTO b SELECT id FROM x": ("WITH", ["DELETE a", "INSERT b"]),
    "UPDATE a JOIN b ON a.id = b.id SET b.n = 1": ("UPDATE", ["UPDATE b", "UPDATE a"]),
    "UPDATE a, b AS c SET a.n = 1, c.n = 2 WHERE a.id IN (SELECT d.id FROM d, e)": ("UPDATE", ["UPDATE b", "UPDATE a"]),
    "UPDATE a SET n = b.n FROM b WHERE a.id = b.id": ("UPDATE", ["UPDATE a"]),
    "DELETE a, b FROM a INNER JOIN b ON a.id = b.id WHERE a.n = 1": ("DELETE", ["DELETE b", "DELETE a"]),
    "DELETE FROM a USING b WHERE a.id = b.id": ("DELETE", ["DELETE a"]),
    "TRUNCATE TABLE a, s.b RESTART IDENTITY CASCADE": ("TRUNCATE", ["TRUNCATE s.b", "TRUNCATE a"]),
    "DROP TABLE IF EXISTS a, b": ("DROP", ["DROP b", "DROP a"]),
    "ALTER TABLE ONLY a ADD COLUMN n int": ("ALTER", ["ALTER a"]),
    "CALL shop.pay(7)": ("CALL", ["CALL shop.pay"]),
    "EXECUTE pay(7)": ("EXECUTE", ["EXECUTE pay"]),
    "DO $$ BEGIN UPDATE a SET n = 1; END $$": ("DO", ["DO"]),
    "DO pay(7)": ("DO", []),
    "LOAD DATA INFILE 'a.txt' INTO TABLE a": ("LOAD", ["LOAD"]),
    "COPY a (n) FROM STDIN": ("COPY", ["COPY a"]),
    "COPY a TO STDOUT": ("COPY", []),
}
CALLS = {
    "SELECT pay(7), count(*), shop.refund (8) FROM a WHERE b.id IN (1)": {"pay", "refund"},
    "INSERT INTO a (n) VALUES (next_number('x'))": {"next_number"},
    "SELECT coalesce(max(n), 0) FROM a": set(),
    "DO pay(7)": {"pay"},
}


@pytest.mark.parametrize("statement", CASES)
def test_what_a_statement_writes_to(statement):
    """In its own words; the table that it is named after comes last."""
    first, labels = CASES[statement]
    read = Statements().read(statement)
    assert (read.first, [write.label(write.table) for write in read.writes]) == (first, labels)


@pytest.mark.parametrize("statement", CALLS)
def test_what_a_statement_calls(statement):
    """Functions that a project may have written itself."""
    assert Statements().read(statement).calls == CALLS[statement]


def test_what_may_write_anywhere():
    """It has no table's name."""
    (write,) = Statements().read("CALL pay(7)").writes
    assert write.table == ANY
