"""The tests of exports and archives: moto answers, and only the marker says what is compared."""

import pytest
from moto import mock_aws
from shop import (
    BUCKET,
    REGION,
    announce,
    announce_once,
    archive,
    archive_once,
    client,
    count,
    count_once,
    export,
    export_once,
    note,
    note_once,
    upload,
    upload_once,
)


@pytest.fixture(autouse=True)
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3 = client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=BUCKET, Key="log.txt", Body=b"begun\n")
        s3.put_object(Bucket=BUCKET, Key="old.csv", Body=b"1;2")
        yield


@pytest.fixture
def queue():
    client("sqs").create_queue(QueueName="days")
    client("sqs").create_queue(QueueName="days.fifo", Attributes={"FifoQueue": "true"})


@pytest.fixture
def table():
    client("dynamodb").create_table(
        TableName="days", KeySchema=[{"AttributeName": "day", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "day", "AttributeType": "S"}],
    )  # fmt: skip


@pytest.fixture
def path(tmp_path):
    (tmp_path / "today.csv").write_text("500")
    return str(tmp_path / "today.csv")


@pytest.mark.idempotent("twice")
def test_broken_object():
    export.delay("monday")


@pytest.mark.idempotent("twice", "reply-lost")
def test_repaired_object():
    export_once.delay("monday")


@pytest.mark.idempotent("twice")
def test_broken_append():
    note.delay("ended")


@pytest.mark.idempotent("twice", "reply-lost")
def test_repaired_append():
    note_once.delay("ended")


@pytest.mark.idempotent("crash")
def test_broken_move():
    archive.delay("old.csv")


@pytest.mark.idempotent("twice", "crash")
def test_repaired_move():
    archive_once.delay("old.csv")


@pytest.mark.idempotent("twice")
def test_broken_message(queue):
    announce.delay("monday")


@pytest.mark.idempotent("twice", "reply-lost")
def test_repaired_message(queue):
    announce_once.delay("monday")


@pytest.mark.idempotent("twice")
def test_broken_item(table):
    count.delay("monday")


@pytest.mark.idempotent("twice")
def test_repaired_item(table):
    count_once.delay("monday")


@pytest.mark.idempotent("twice")
def test_broken_file(path):
    upload.delay(path)


@pytest.mark.idempotent("twice")
def test_repaired_file(path):
    upload_once.delay(path)
