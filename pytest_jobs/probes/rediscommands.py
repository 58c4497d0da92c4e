"""Which keys a Redis command writes to."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from pytest_jobs.probes.redis_state import text

__all__ = ["SCRIPTS", "Written", "written"]

Written = tuple[str, tuple[bytes, ...]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ONE_KEY = _words("""SET SETNX SETEX PSETEX GETSET GETDEL GETEX APPEND SETRANGE SETBIT BITFIELD INCR INCRBY INCRBYFLOAT DECR DECRBY
    EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST RESTORE
    HSET HSETNX HMSET HDEL HINCRBY HINCRBYFLOAT HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HGETDEL HGETEX HSETEX
    LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LSET LREM LTRIM LINSERT SADD SREM SPOP
    ZADD ZREM ZINCRBY ZPOPMIN ZPOPMAX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX GEOADD PFADD
    XADD XDEL XTRIM XACK XCLAIM XAUTOCLAIM XSETID XACKDEL XDELEX
    ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE SUNIONSTORE SINTERSTORE SDIFFSTORE PFMERGE GEOSEARCHSTORE
    JSON.SET JSON.DEL JSON.MERGE JSON.NUMINCRBY JSON.ARRAPPEND JSON.STRAPPEND TS.ADD BF.ADD CF.ADD""")
TWO_KEYS = _words("RENAME RENAMENX SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE COPY")
ALL_KEYS = _words("DEL UNLINK")
BUT_LAST = _words("BLPOP BRPOP BZPOPMIN BZPOPMAX")
PAIRS = _words("MSET MSETNX")
SCRIPTS = _words("EVAL EVALSHA FCALL")
NO_KEY = _words("FLUSHDB FLUSHALL PUBLISH SPUBLISH")
COUNTED = MappingProxyType({"LMPOP": 1, "ZMPOP": 1, "BLMPOP": 2, "BZMPOP": 2})
SECOND = _words("BITOP XGROUP")


def written(args: Sequence[Any]) -> Written | None:
    """Return a command's name and the keys that it writes to, None when it only reads.

    Args:
        args: The command as `Redis.execute_command` gets it.
    """
    words = str(text(args[0])).upper().split() if args else []
    if not words:
        return None
    name, rest = words[0], [*words[1:], *args[1:]]
    keys = _keys(name, rest)
    return None if keys is None else (name, tuple(map(_bytes, keys)))


def _keys(name: str, rest: list[Any]) -> Sequence[Any] | None:
    if name in ONE_KEY:
        return rest[:1]
    if name in ALL_KEYS:
        return rest
    if name in TWO_KEYS:
        return rest[:2]
    if name in PAIRS:
        return rest[::2]
    if name in SCRIPTS:
        return rest[2 : 2 + int(rest[1])]
    if name in NO_KEY:
        return []
    if name in BUT_LAST:
        return rest[:-1]
    if name in SECOND:
        return rest[1:2]
    if name in COUNTED:
        at = COUNTED[name]
        return rest[at : at + int(rest[at - 1])]
    return _options(name, rest)


def _options(name: str, rest: list[Any]) -> Sequence[Any] | None:
    """Find the keys of commands that write only with an option."""
    words = [str(text(each)).upper() for each in rest]
    if name in {"SORT", "GEORADIUS", "GEORADIUSBYMEMBER"}:
        stores = [at for at, word in enumerate(words) if word in {"STORE", "STOREDIST"}]
        return [rest[at + 1] for at in stores] or None
    if name == "XREADGROUP" and "STREAMS" in words:
        streams = rest[words.index("STREAMS") + 1 :]
        return streams[: len(streams) // 2]
    return None


def _bytes(key: Any) -> bytes:
    if isinstance(key, bytes | bytearray | memoryview):
        return bytes(key)
    return str(key).encode()
