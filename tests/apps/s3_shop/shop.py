"""Exports and archives in S3, messages over SQS, counters in DynamoDB."""

from functools import cache

import boto3
from botocore.exceptions import ClientError, EndpointConnectionError
from celery import Celery

BUCKET = "reports"
REGION = "eu-west-1"

app = Celery("shop", broker="redis://localhost/0", backend="redis://localhost/1")
app.conf.task_acks_late = True
retried = {"autoretry_for": (EndpointConnectionError,), "retry_backoff": True, "retry_jitter": False, "max_retries": 5}


@cache
def client(service):
    return boto3.client(service, region_name=REGION)


# An object.


@app.task(**retried)
def export(day):
    """Write under a number that is another one each time."""
    s3 = client("s3")
    count = s3.list_objects_v2(Bucket=BUCKET, Prefix="day/")["KeyCount"]
    s3.put_object(Bucket=BUCKET, Key=f"day/{count + 1}.csv", Body=f"{day};500")


@app.task(**retried)
def export_once(day):
    """Write under the day."""
    client("s3").put_object(Bucket=BUCKET, Key=f"day/{day}.csv", Body=f"{day};500")


# An object that is read, changed and written.


@app.task(**retried)
def note(line):
    """Append, each time."""
    s3 = client("s3")
    before = s3.get_object(Bucket=BUCKET, Key="log.txt")["Body"].read()
    s3.put_object(Bucket=BUCKET, Key="log.txt", Body=before + f"{line}\n".encode())


@app.task(**retried)
def note_once(line):
    """Append what is not there yet; two at once would need more than an object."""
    s3 = client("s3")
    before = s3.get_object(Bucket=BUCKET, Key="log.txt")["Body"].read().decode().splitlines()
    if line not in before:
        s3.put_object(Bucket=BUCKET, Key="log.txt", Body="\n".join([*before, line, ""]))


# An object that is moved.


@app.task(**retried)
def archive(key):
    """Copy, then delete: whoever comes again finds nothing to copy."""
    s3 = client("s3")
    s3.copy_object(Bucket=BUCKET, Key=f"archive/{key}", CopySource={"Bucket": BUCKET, "Key": key})
    s3.delete_object(Bucket=BUCKET, Key=key)


@app.task(**retried)
def archive_once(key):
    """Take it as done when it is there already."""
    s3 = client("s3")
    try:
        s3.copy_object(Bucket=BUCKET, Key=f"archive/{key}", CopySource={"Bucket": BUCKET, "Key": key})
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        s3.head_object(Bucket=BUCKET, Key=f"archive/{key}")
    s3.delete_object(Bucket=BUCKET, Key=key)


# A message.


@app.task(**retried)
def announce(day):
    """Send for each delivery."""
    sqs = client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="days")["QueueUrl"], MessageBody=day)


@app.task(**retried)
def announce_once(day):
    """Send under an id that SQS knows again."""
    sqs = client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="days.fifo")["QueueUrl"], MessageBody=day, MessageGroupId="days",
                     MessageDeduplicationId=f"day-{day}")  # fmt: skip


# An item.


@app.task(**retried)
def count(day):
    """Count up."""
    client("dynamodb").update_item(
        TableName="days", Key={"day": {"S": day}}, UpdateExpression="ADD orders :one", ExpressionAttributeValues={":one": {"N": "1"}}
    )


@app.task(**retried)
def count_once(day):
    """Write the whole item, as often as one likes."""
    client("dynamodb").put_item(TableName="days", Item={"day": {"S": day}, "orders": {"N": "1"}})


# A file.


@app.task(**retried)
def upload(path):
    """Upload beside what is there."""
    s3 = client("s3")
    s3.upload_file(path, BUCKET, f"files/{s3.list_objects_v2(Bucket=BUCKET, Prefix='files/')['KeyCount']}")


@app.task(**retried)
def upload_once(path):
    """Upload over what is there."""
    client("s3").upload_file(path, BUCKET, "files/today")
