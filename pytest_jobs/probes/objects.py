"""Object storage and other services called through botocore."""

import copy
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_jobs.probes.base import DELETED, Patches, Recorder
from pytest_jobs.probes.bodies import meaning, sent
from pytest_jobs.records import Effect
from pytest_jobs.world import Unreadable

__all__ = ["ObjectsProbe", "available"]

READS = (
    "AssumeRole", "BatchGet", "Check", "Decrypt", "Describe", "Detect", "Encrypt", "Get", "Head", "List", "Lookup", "Query",
    "Receive", "Scan", "Search", "Select", "Simulate", "TransactGet", "Validate", "Verify",
)  # fmt: skip
REPEATABLE = ("Delete", "Put", "Set", "Tag", "Untag")
APPENDS = frozenset(
    {"PutEvents", "PutLogEvents", "PutMetricData", "PutRecord", "PutRecordBatch", "PutRecords", "PutTraceSegments"}
)
KEYS = ("ClientToken", "ClientRequestToken", "IdempotencyToken", "MessageDeduplicationId", "CallerReference")
SHOWN = 200


def available() -> bool:
    """Tell whether somebody has imported botocore."""
    return hasattr(sys.modules.get("botocore.client"), "BaseClient")


class ObjectsProbe:
    """Sees calls that change something; what they leave in S3, and the items they put into DynamoDB, is state."""

    name = "object"

    def __init__(self) -> None:
        self._patches = Patches()
        self._hooked = False
        self._unthreaded = False
        self._recorder = Recorder()
        self._left: dict[str, Any] = {}
        self._made: set[str] = set()

    def install(self, recorder: Recorder) -> None:
        """Hook botocore when it is loaded."""
        self._recorder = recorder
        self._left.clear()
        self._made.clear()
        self.refresh()

    def refresh(self) -> None:
        """Hook botocore, and the uploads of boto3, when they have been loaded since."""
        if not self._hooked and available():
            self._hooked = True
            self._patches.replace(sys.modules["botocore.client"].BaseClient, "_make_api_call", self._make)
        if not self._unthreaded and "boto3.s3.inject" in sys.modules:
            self._unthreaded = True
            for name in ("boto3.s3.transfer", "boto3.s3.inject"):
                self._patches.replace(sys.modules[name], "create_transfer_manager", self._unthread)

    def remove(self) -> None:
        """Unhook them."""
        self._patches.undo()
        self._hooked = self._unthreaded = False

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return the content of each object written; `DELETED` for one that the jobs did not make."""
        return dict(self._left), ()

    def forget(self) -> None:
        """Nothing stays open that a dead process would close."""

    def _make(self, original: Any) -> Any:
        def _make_api_call(client: Any, operation_name: str, api_params: Any) -> Any:
            if not self._recorder.active or operation_name.startswith(READS):
                return original(client, operation_name, api_params)
            service = client.meta.service_model.service_name
            left = self._leaves(service, operation_name, api_params)

            def error() -> Any:
                return sys.modules["botocore.exceptions"].EndpointConnectionError(endpoint_url=client.meta.endpoint_url)

            with self._recorder.doing(_effect(service, operation_name, api_params), error):
                answer = original(client, operation_name, api_params)
                for subject, value in left.items():
                    self._leave(subject, answer.get("ETag") if value is Ellipsis else value)
            return answer

        return _make_api_call

    def _unthread(self, original: Any) -> Any:
        """Upload in the task's own thread: only there can a kill reach it, and only there is the order the same."""

        def create_transfer_manager(client: Any, config: Any, osutil: Any = None) -> Any:
            if self._recorder.active:
                config = copy.copy(config)
                config.use_threads = False
            return original(client, config, osutil)

        return create_transfer_manager

    def _leaves(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a call leaves behind: subject and value, None for nothing, `...` for what the answer tells."""
        if service == "dynamodb":
            return {subject: self._with(subject, item) for subject, item in _items(operation, params)}
        if service != "s3":
            return {}
        bucket = params.get("Bucket", "")
        subject = f"s3:{bucket}/{params.get('Key', '')}"
        if operation == "PutObject":
            return {subject: meaning(sent(params.get("Body")))}
        if operation == "DeleteObject":
            return {subject: None}
        if operation == "DeleteObjects":
            return {f"s3:{bucket}/{each['Key']}": None for each in params.get("Delete", {}).get("Objects", ())}
        if operation == "CopyObject":
            source = _source(params.get("CopySource", ""))
            return {subject: self._left.get(f"s3:{source}", {"copy of": source})}
        return {subject: ...} if operation == "CompleteMultipartUpload" else {}

    def _leave(self, subject: str, value: Any) -> None:
        if value is not None:
            if subject not in self._left:
                self._made.add(subject)
            self._left[subject] = value
        elif subject in self._made:
            self._left.pop(subject, None)
        else:
            self._left[subject] = DELETED

    def _with(self, subject: str, item: Any) -> list[Any]:
        items = list(self._left.get(subject, ()))
        return items if item in items else [*items, item]


def _effect(service: str, operation: str, params: Mapping[str, Any]) -> Effect:
    key = next((str(params[name]) for name in (*KEYS, *map(_lower, KEYS)) if params.get(name)), None)
    shown = ", ".join(f"{name}={value!r:.80}" for name, value in params.items() if name not in {"Bucket", "Key"})
    detail = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
    if service == "s3":
        place = "/".join(str(params[name]) for name in ("Bucket", "Key") if params.get(name))
        return Effect("object", f"s3:{place}", f"{operation} {place}".rstrip(), safe=True, detail=detail)
    label = f"{service}.{operation}"
    return Effect("object", f"aws:{label}", label, _repeatable(operation, params), key, detail)


def _repeatable(operation: str, params: Mapping[str, Any]) -> bool:
    if operation == "UpdateItem":
        change = str(params.get("UpdateExpression", ""))
        adds = any(word in change.upper() for word in ("+", " - ", "ADD ", "LIST_APPEND"))
        return not adds and "AttributeUpdates" not in params
    return operation == "BatchWriteItem" or (operation.startswith(REPEATABLE) and operation not in APPENDS)


def _items(operation: str, params: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if operation == "PutItem":
        yield f"aws:dynamodb/{params.get('TableName')}", copy.deepcopy(params.get("Item"))
    elif operation == "BatchWriteItem":
        for table, requests in params.get("RequestItems", {}).items():
            for each in requests:
                if "PutRequest" in each:
                    yield f"aws:dynamodb/{table}", copy.deepcopy(each["PutRequest"]["Item"])


def _source(source: Any) -> str:
    if isinstance(source, Mapping):
        return f"{source.get('Bucket', '')}/{source.get('Key', '')}"
    return str(source).partition("?")[0].lstrip("/")


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]
