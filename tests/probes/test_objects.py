import io
import os
from unittest import mock

import boto3
import boto3.s3.inject
import boto3.s3.transfer
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from pytest_jobs.probes.base import DELETED, Recorder
from pytest_jobs.probes.objects import ObjectsProbe, available

REGION = "eu-west-1"


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, at="never", error=None):
        self.at = at
        self.error = error
        self.effects = []

    def before(self, effect, error):
        self.strike("before", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", error)

    def strike(self, place, error):
        if self.at == place:
            raise self.error or error()

    @property
    def labels(self):
        return [effect.label for effect in self.effects]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def aws():
    with mock.patch.dict(os.environ, AWS_DEFAULT_REGION=REGION), mock_aws():
        yield


@pytest.fixture
def s3():
    client = boto3.client("s3")
    client.create_bucket(Bucket="bkt", CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = ObjectsProbe()
    probe.install(recorder)
    yield probe
    probe.remove()


def put(s3, tmp_path):
    s3.put_object(Bucket="bkt", Key="out/a.txt", Body=b"7 cents")


def put_stream(s3, tmp_path):
    s3.put_object(Bucket="bkt", Key="out/a.txt", Body=io.BytesIO(b"7 cents"))


def upload_file(s3, tmp_path):
    (tmp_path / "a").write_text("7 cents")
    s3.upload_file(str(tmp_path / "a"), "bkt", "out/a.txt")


def upload_stream(s3, tmp_path):
    s3.upload_fileobj(io.BytesIO(b"7 cents"), "bkt", "out/a.txt")


def resource(s3, tmp_path):
    boto3.resource("s3").Object("bkt", "out/a.txt").put(Body="7 cents")


@pytest.fixture(params=[put, put_stream, upload_file, upload_stream, resource])
def write(request):
    return request.param


def content(s3, key="out/a.txt"):
    return s3.get_object(Bucket="bkt", Key=key)["Body"].read()


def test_a_write_is_one_effect(write, probe, recorder, s3, tmp_path):
    """An object written is one effect, and its content state."""
    recorder.sink = sink = Sink()
    write(s3, tmp_path)
    (effect,) = sink.effects
    assert (effect.kind, effect.target, effect.label) == ("object", "s3:bkt/out/a.txt", "PutObject bkt/out/a.txt")
    assert (effect.safe, effect.key) == (True, None)
    assert probe.read(frozenset()) == ({"s3:bkt/out/a.txt": "7 cents"}, ())
    assert content(s3) == b"7 cents"
    assert len(sink.effects) == 1


def test_nothing_outside_a_job(write, probe, recorder, s3, tmp_path):
    """Outside a running job nothing is seen."""
    write(s3, tmp_path)
    assert probe.read(frozenset()) == ({}, ())


def test_an_injected_error_is_botocores(write, probe, recorder, s3, tmp_path):
    """The transient error is the one of an endpoint that cannot be reached, and nothing is sent."""
    recorder.sink = Sink("before")
    with pytest.raises(EndpointConnectionError):
        write(s3, tmp_path)
    recorder.sink = None
    with pytest.raises(ClientError):
        content(s3)


def test_a_lost_reply_comes_after_the_write(write, probe, recorder, s3, tmp_path):
    """A lost reply raises after the object was written."""
    recorder.sink = Sink("after")
    with pytest.raises(EndpointConnectionError):
        write(s3, tmp_path)
    assert content(s3) == b"7 cents"
    assert list(probe.read(frozenset())[0]) == ["s3:bkt/out/a.txt"]


def test_a_kill_writes_nothing(write, probe, recorder, s3, tmp_path):
    """A worker killed before the write leaves no object."""
    recorder.sink = sink = Sink("before", Killed())
    with pytest.raises(Killed):
        write(s3, tmp_path)
    recorder.sink = None
    assert "Contents" not in s3.list_objects_v2(Bucket="bkt")
    assert sink.effects == []


def test_copies_and_removals(probe, recorder, s3):
    """Copies have their source's content; what was there and is gone is told, what came and went is not."""
    for key in ("old", "older", "gone", "also-gone"):
        s3.put_object(Bucket="bkt", Key=key, Body=key)
    recorder.sink = sink = Sink()
    s3.put_object(Bucket="bkt", Key="new", Body='{"cents": 7}')
    s3.copy_object(Bucket="bkt", Key="copy", CopySource={"Bucket": "bkt", "Key": "new"})
    s3.copy_object(Bucket="bkt", Key="copy2", CopySource="bkt/old")
    s3.delete_object(Bucket="bkt", Key="new")
    s3.delete_objects(Bucket="bkt", Delete={"Objects": [{"Key": "gone"}, {"Key": "also-gone"}]})
    s3.list_objects_v2(Bucket="bkt")
    s3.put_object(Bucket="bkt", Key="large", Body=b"x" * 100_000)
    assert sink.labels == [
        "PutObject bkt/new", "CopyObject bkt/copy", "CopyObject bkt/copy2", "DeleteObject bkt/new", "DeleteObjects bkt",
        "PutObject bkt/large",
    ]  # fmt: skip
    state = probe.read(frozenset())[0]
    assert state.pop("s3:bkt/large")["bytes"] == 100_000
    assert state == {
        "s3:bkt/copy": {"cents": 7}, "s3:bkt/copy2": {"copy of": "bkt/old"}, "s3:bkt/gone": DELETED, "s3:bkt/also-gone": DELETED,
    }  # fmt: skip


def test_a_multipart_upload(probe, recorder, s3):
    """An upload in parts leaves one object, known by its tag."""
    recorder.sink = sink = Sink()
    s3.upload_fileobj(io.BytesIO(b"x" * (9 << 20)), "bkt", "big")
    assert sink.labels == [f"{name} bkt/big" for name in (
        "CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload",
    )]  # fmt: skip
    assert probe.read(frozenset())[0]["s3:bkt/big"].startswith('"')


def test_messages_count(probe, recorder):
    """Sending counts, except with the same token; removing does not, and reading is no effect."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    recorder.sink = sink = Sink()
    sqs.send_message(QueueUrl=url, MessageBody="hi", MessageGroupId="g", MessageDeduplicationId="order-7")
    sqs.get_queue_attributes(QueueUrl=url)
    sqs.delete_queue(QueueUrl=url)
    assert [(effect.target, effect.safe, effect.key) for effect in sink.effects] == [
        ("aws:sqs.SendMessage", False, "order-7"), ("aws:sqs.DeleteQueue", True, None),
    ]  # fmt: skip
    assert "MessageBody='hi'" in sink.effects[0].detail


def test_items(probe, recorder):
    """Putting an item again leaves the same; counting up does not; a refused call is none."""
    dynamodb = boto3.client("dynamodb")
    dynamodb.create_table(
        TableName="t",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    recorder.sink = sink = Sink()
    for _ in range(2):
        dynamodb.put_item(TableName="t", Item={"id": {"S": "1"}})
    key = {"TableName": "t", "Key": {"id": {"S": "1"}}, "ExpressionAttributeValues": {":n": {"N": "1"}}}
    dynamodb.update_item(UpdateExpression="SET n = :n", **key)
    dynamodb.update_item(UpdateExpression="SET n = n + :n", **key)
    with pytest.raises(ClientError):
        dynamodb.put_item(TableName="t", Item={"id": {"S": "1"}}, ConditionExpression="attribute_not_exists(id)")
    assert [effect.safe for effect in sink.effects] == [True, True, True, False]
    assert probe.read(frozenset())[0] == {"aws:dynamodb/t": [{"id": {"S": "1"}}]}


def test_remove_restores():
    """After `remove` botocore and boto3 are as they were."""
    owners = [BaseClient, boto3.s3.inject, boto3.s3.transfer]
    before = [dict(vars(owner)) for owner in owners]
    probe = ObjectsProbe()
    probe.install(Recorder())
    probe.refresh()
    assert all(dict(vars(owner)) != old for owner, old in zip(owners, before, strict=True))
    probe.remove()
    assert [dict(vars(owner)) for owner in owners] == before
    assert available()
