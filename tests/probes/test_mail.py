import asyncio
import gc
import smtplib
import socket
import threading
import warnings
from email.message import EmailMessage

import aiosmtplib
import pytest

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.mail import MailProbe, available

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


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


class Server:
    """Takes mails on a socket, as far as SMTP needs it."""

    def __init__(self):
        self.received = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                connection.sendall(b"220 ready\r\n")
                for line in lines:
                    if line.upper().startswith(b"DATA"):
                        connection.sendall(b"354 go\r\n")
                        self.received.append(b"".join(iter(lines.readline, b".\r\n")))
                    connection.sendall(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 fine\r\n")
                    if line.upper().startswith(b"QUIT"):
                        break

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = MailProbe()
    probe.install(recorder)
    yield probe
    probe.remove()


def message():
    mail = EmailMessage()
    mail["From"] = "shop@x.example"
    mail["To"] = "Bo <bo@x.example>, ann@x.example"
    mail["Subject"] = "Your réceipt"
    mail.set_content("Thank you.")
    return mail


TEXT = "From: shop@x.example\nSubject: =?utf-8?q?Your_r=C3=A9ceipt?=\n\nThank you."
TO = ["bo@x.example", "ann@x.example"]


def smtplib_message(port):
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.send_message(message())


def smtplib_text(port):
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.sendmail("shop@x.example", TO, TEXT)


def aiosmtplib_message(port):
    asyncio.run(aiosmtplib.send(message(), hostname="127.0.0.1", port=port))


def aiosmtplib_text(port):
    asyncio.run(
        aiosmtplib.send(TEXT, sender="shop@x.example", recipients=TO, hostname="127.0.0.1", port=port)
    )


WAYS = [
    (smtplib_message, smtplib.SMTPServerDisconnected),
    (smtplib_text, smtplib.SMTPServerDisconnected),
    (aiosmtplib_message, aiosmtplib.SMTPServerDisconnected),
    (aiosmtplib_text, aiosmtplib.SMTPServerDisconnected),
]


@pytest.fixture(params=WAYS, ids=lambda way: way[0].__name__)
def way(request):
    return request.param


def test_a_mail_is_one_effect(way, probe, recorder, server):
    """A mail is reported once, with its recipients and its subject."""
    recorder.sink = sink = Sink()
    way[0](server.port)
    (effect,) = sink.effects
    assert (effect.kind, effect.target) == ("mail", "mail:ann@x.example,bo@x.example")
    assert effect.label == "mail to ann@x.example,bo@x.example: Your réceipt"
    assert (effect.safe, effect.key, effect.detail) == (False, None, "Your réceipt")
    assert len(server.received) == 1


def test_nothing_outside_a_job(way, probe, recorder, server):
    """Outside a running job mail passes unseen."""
    way[0](server.port)
    assert len(server.received) == 1


def test_an_injected_error_is_the_librarys_own(way, probe, recorder, server):
    """The transient error is the library's, and nothing is sent."""
    recorder.sink = Sink("before")
    with pytest.raises(way[1]):
        way[0](server.port)
    assert server.received == []


def test_a_lost_reply_comes_after_the_mail(way, probe, recorder, server):
    """A lost reply raises after the mail was taken."""
    recorder.sink = Sink("after")
    with pytest.raises(way[1]):
        way[0](server.port)
    assert len(server.received) == 1


def test_a_kill_sends_nothing(way, probe, recorder, server):
    """A worker killed before the mail sends none."""
    recorder.sink = sink = Sink("before", Killed())
    with pytest.raises(Killed):
        way[0](server.port)
    assert server.received == [] and sink.effects == []


def test_remove_restores():
    """After `remove` the libraries are as they were."""
    owners = [smtplib.SMTP, aiosmtplib.SMTP]
    before = [dict(vars(owner)) for owner in owners]
    probe = MailProbe()
    probe.install(Recorder())
    probe.refresh()
    assert [dict(vars(owner)) for owner in owners] != before
    probe.remove()
    assert [dict(vars(owner)) for owner in owners] == before
    assert available()


class Outbox:
    """What a project's tests put in the place of `smtplib.SMTP`."""

    sent = ()

    def __init__(self, host=""):
        self.host = host

    def send_message(self, message):
        Outbox.sent = (*Outbox.sent, message["To"])


@pytest.mark.parametrize("late", [False, True])
def test_a_class_in_the_place_of_smtp(late, monkeypatch):
    """Its one method sends mails, whether it came before the world or after it; it is left as it was."""
    recorder, probe = Recorder(), MailProbe()
    message = EmailMessage()
    message["To"], message["Subject"] = "ann@x.example", "welcome"
    before = Outbox.send_message
    monkeypatch.setattr(Outbox, "sent", ())
    if late:
        probe.install(recorder)
        monkeypatch.setattr(smtplib, "SMTP", Outbox)
        probe.begin()
    else:
        monkeypatch.setattr(smtplib, "SMTP", Outbox)
        probe.install(recorder)
    recorder.sink = Sink()
    smtplib.SMTP().send_message(message)
    probe.remove()
    assert [effect.target for effect in recorder.sink.effects] == ["mail:ann@x.example"]
    assert Outbox.send_message is before
    assert Outbox.sent == ("ann@x.example",)


def test_no_class_in_the_place_of_smtp(monkeypatch):
    """A function that makes something is nobody's library; it is left alone."""
    monkeypatch.setattr(smtplib, "SMTP", lambda host="": None)
    probe = MailProbe()
    probe.install(Recorder())
    probe.begin()
    probe.remove()
    assert smtplib.SMTP() is None
