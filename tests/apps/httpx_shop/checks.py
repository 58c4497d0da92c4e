"""The service's own tests: respx answers, fakeredis keeps, and only the marker says what is compared."""

import fakeredis
import httpx
import pytest
import respx
import shop


@pytest.fixture(autouse=True)
def store(monkeypatch):
    server = fakeredis.FakeServer()
    monkeypatch.setattr(shop, "store", fakeredis.FakeRedis(server=server))
    monkeypatch.setattr(shop, "async_store", lambda: fakeredis.FakeAsyncRedis(server=server))
    yield
    shop.store.close()


@pytest.fixture(autouse=True)
def services():
    with respx.mock(assert_all_called=False) as mock:
        mock.post(shop.PAY).mock(return_value=httpx.Response(201))
        mock.post(shop.CHAT).mock(return_value=httpx.Response(201))
        parcels = mock.put(url__startswith=shop.CARRIER).mock(return_value=httpx.Response(200))
        mock.get(shop.CARRIER).mock(side_effect=lambda _: httpx.Response(200, json=parcels.call_count))
        yield mock


@pytest.mark.idempotent("reply-lost")
def test_broken_request():
    shop.charge.delay(7)


@pytest.mark.idempotent("all")
def test_repaired_request():
    shop.charge_once.delay(7)


@pytest.mark.idempotent("twice", "crash")
def test_broken_lock():
    shop.dispatch.delay(7)


@pytest.mark.idempotent("all")
def test_repaired_lock():
    shop.dispatch_once.delay(7)


@pytest.mark.idempotent("twice", "overlap")
def test_broken_race():
    shop.claim.delay(7)


@pytest.mark.idempotent("all")
def test_repaired_race():
    shop.claim_once.delay(7)


@pytest.mark.idempotent("twice")
def test_broken_resource():
    shop.book.delay(7)


@pytest.mark.idempotent("twice", "fail")
def test_repaired_resource():
    shop.book_once.delay(7)


@pytest.mark.idempotent("twice")
def test_broken_message():
    shop.tell.delay(7)


@pytest.mark.idempotent("all")
def test_repaired_message():
    shop.tell_once.delay(7)


@pytest.mark.idempotent("twice")
def test_broken_list():
    shop.line_up.delay(7)


@pytest.mark.idempotent("twice", "crash")
def test_repaired_list():
    shop.line_up_once.delay(7)
