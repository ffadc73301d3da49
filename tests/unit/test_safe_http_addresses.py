"""Which URLs a webhook may go to: the table of hostile ones, and what an allow-list changes."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from storage.outbound import safe_http
from storage.outbound.check_url import AllowList, check_url, resolve
from storage.outbound.dns_lookup import ForbiddenAddress, NoSuchHost, Unresolvable
from storage.outbound.parse_url import InvalidURL, parse_url
from storage.outbound.public_addresses import is_public
from tests.hostile_urls import NOT_A_URL, NOT_PUBLIC

NOTHING_ALLOWED = AllowList()


@pytest.fixture(scope="module")
def watching_listener() -> Iterator[tuple[int, list[object]]]:
    """The port of a socket that listens on loopback, and what connected to it."""
    connections: list[object] = []
    stop = threading.Event()
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as listener:
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::" if listener.family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.05)

        def watch() -> None:
            while not stop.is_set():
                try:
                    connection, peer = listener.accept()
                except TimeoutError:
                    continue
                connections.append(peer)
                connection.close()

        thread = threading.Thread(target=watch)
        thread.start()
        yield listener.getsockname()[1], connections
        stop.set()
        thread.join()


def test_a_table_of_hostile_urls_is_refused_and_nothing_connects(
    watching_listener: tuple[int, list[object]],
) -> None:
    port, connections = watching_listener
    assert len(NOT_PUBLIC) + len(NOT_A_URL) >= 60
    for expected, urls in ((ForbiddenAddress, NOT_PUBLIC), (InvalidURL, NOT_A_URL)):
        for url in (template.replace("{port}", str(port)) for template in urls):
            refusal = _refusal_of(check_url, url)
            assert refusal is not None, url
            assert issubclass(refusal, expected), url
            assert _refusal_of(_post, url) is expected, url
    # The listener would have seen one that came through.
    with socket.create_connection(("127.0.0.1", port)):
        pass
    _wait_until(lambda: bool(connections))
    assert len(connections) == 1


def _post(url: str, allow: AllowList) -> object:
    return safe_http.post(url, b"{}", {}, allow=allow, timeout_s=2)


def _refusal_of(attempt: Callable[[str, AllowList], object], url: str) -> type[Exception] | None:
    try:
        attempt(url, NOTHING_ALLOWED)
    except (ForbiddenAddress, InvalidURL) as refused:
        return type(refused)
    return None


@pytest.mark.parametrize(
    ("url", "host", "port", "request_target"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("HTTPS://Example.COM./Hook?a=1&b=%20#part", "example.com", 443, "/Hook?a=1&b=%20"),
        ("http://example.com:8080?token=x", "example.com", 8080, "/?token=x"),
        ("http://example.com:/x", "example.com", 80, "/x"),
        ("http://8.8.8.8/x@y", "8.8.8.8", 80, "/x@y"),
        ("https://[2606:4700:4700:0::1111]:8443/", "2606:4700:4700::1111", 8443, "/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://my_hook.example/", "my_hook.example", 443, "/"),
        ("https://1.example/", "1.example", 443, "/"),
    ],
)
def test_an_ordinary_url_is_taken_apart(url: str, host: str, port: int, request_target: str) -> None:
    parts = parse_url(url)
    assert (parts.host, parts.port, parts.request_target) == (host, port, request_target)


def test_the_host_header_names_the_port_only_where_it_is_not_the_schemes_own() -> None:
    assert parse_url("https://example.com/").host_header == "example.com"
    assert parse_url("https://example.com:443/").host_header == "example.com"
    assert parse_url("http://example.com:443/").host_header == "example.com:443"
    assert parse_url("http://[2606:4700::1]:8080/").host_header == "[2606:4700::1]:8080"


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_addresses_of_the_public_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_mapped_address_is_judged_as_its_ipv4_address() -> None:
    assert is_public(ipaddress.ip_address("::ffff:8.8.8.8"))
    target = resolve("http://[::ffff:8.8.8.8]/", NOTHING_ALLOWED)
    assert target.addresses == (ipaddress.ip_address("8.8.8.8"),)


def _answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A name server of ours (the real one's answers can't be had here): each look-up gets the next answer."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(None, None, 0, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A name server of ours, as above: a machine without one (CI may be such) answers that it is out of order."""

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["8.8.8.8", "2606:4700::1", "10.1.2.3"])
    with pytest.raises(ForbiddenAddress) as refused:
        resolve("https://rebinding.example/", NOTHING_ALLOWED)
    assert (refused.value.host, refused.value.address) == ("rebinding.example", "10.1.2.3")


def test_a_link_local_answer_with_a_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["fe80::1%eth0"])
    with pytest.raises(ForbiddenAddress):
        check_url("https://zone.example/", AllowList.parse("fe80::/10"))


def test_a_name_is_looked_up_once_so_a_second_answer_is_never_used(
    monkeypatch: pytest.MonkeyPatch, watching_listener: tuple[int, list[object]]
) -> None:
    port, connections = watching_listener
    before = len(connections)
    # 240.0.0.1 is nobody's: allowed here so that a connect is tried, and goes nowhere.
    asked = _answering(monkeypatch, ["240.0.0.1"], ["127.0.0.1"])
    url = f"http://public-then-private.example:{port}/"
    with pytest.raises(safe_http.NoAnswer):
        safe_http.post(url, b"{}", {}, allow=AllowList.parse("240.0.0.1"), timeout_s=0.5)
    assert asked == ["public-then-private.example"]
    assert len(connections) == before


def test_a_name_that_does_not_exist_is_unresolvable_not_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    with pytest.raises(NoSuchHost):
        resolve("https://nobody.invalid/", NOTHING_ALLOWED, timeout_s=5)


@pytest.mark.parametrize("allow", ["", "other.example", "192.168.0.0/16"])
@pytest.mark.parametrize("host", ["db", "db.corp.example", "db.internal"])
def test_at_submission_a_private_name_and_one_that_does_not_exist_get_the_same_answer(
    monkeypatch: pytest.MonkeyPatch, host: str, allow: str
) -> None:
    answers: list[list[str] | Exception] = [
        ["10.0.0.3"],
        ["fe80::1%eth0"],
        [],
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"),
    ]
    said = set()
    for answer in answers:
        if isinstance(answer, Exception):
            _failing(monkeypatch, answer)
        else:
            _answering(monkeypatch, answer)
        with pytest.raises(ForbiddenAddress, match=f"WEBHOOK_ALLOW={host} would allow it") as refused:
            check_url(f"http://{host}/", AllowList.parse(allow))
        said.add((type(refused.value), str(refused.value)))
    assert len(said) == 1


def test_at_submission_a_name_is_taken_while_the_name_server_is_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    with pytest.raises(Unresolvable) as failed:
        check_url("http://hook.example/", NOTHING_ALLOWED)
    assert not isinstance(failed.value, NoSuchHost)


def test_at_submission_a_name_in_the_allow_list_need_not_exist_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    with pytest.raises(Unresolvable):
        check_url("http://n8n:5678/", AllowList.parse("n8n"))


def test_a_name_server_that_hangs_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(30) and [])
    started = time.monotonic()
    with pytest.raises(Unresolvable, match="didn't answer within"):
        check_url("https://slow-dns.example/", NOTHING_ALLOWED, timeout_s=0.2)
    assert time.monotonic() - started < 10
    answer.set()
    _wait_until(lambda: not any(thread.name.startswith("lookup-") for thread in threading.enumerate()))


def test_the_refusal_names_the_setting_that_would_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ForbiddenAddress, match=r"WEBHOOK_ALLOW=10\.0\.0\.3 would allow it"):
        check_url("http://10.0.0.3/", NOTHING_ALLOWED)
    _answering(monkeypatch, ["10.0.0.3"])
    with pytest.raises(ForbiddenAddress, match=r"WEBHOOK_ALLOW=hook\.example would allow it") as refused:
        check_url("http://hook.example/", NOTHING_ALLOWED)
    assert "10.0.0.3" not in str(refused.value)


@pytest.mark.parametrize("host", ["[::ffff:10.0.0.3]", "[::ffff:a00:3]", "[0:0:0:0:0:ffff:a00:3]"])
def test_the_refusal_of_a_mapped_address_names_the_ipv4_address_that_would_allow_it(host: str) -> None:
    with pytest.raises(
        ForbiddenAddress, match=r"is the IPv4 address 10\.0\.0\.3, .*_ALLOW=10\.0\.0\.3 would"
    ) as refused:
        check_url(f"http://{host}/", NOTHING_ALLOWED)
    assert "resolves" not in str(refused.value)
    check_url(f"http://{host}/", AllowList.parse("10.0.0.3"))


def test_names_of_private_networks_are_looked_up_only_where_something_private_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = _answering(monkeypatch, *[["10.0.0.3"]] * 5)
    for host in ("hook.internal", "printer.local", "hook.localhost"):
        with pytest.raises(
            ForbiddenAddress, match=f"is a host name for private networks only; WEBHOOK_ALLOW={host} would allow it"
        ):
            check_url(f"http://{host}/", AllowList.parse("other.internal"))
    assert asked == []
    for allow in ("hook.internal", "10.0.0.0/8"):
        check_url("http://hook.internal/", AllowList.parse(allow))
    assert asked == ["hook.internal"] * 2


@pytest.mark.parametrize("address", ["10.1.0.3", "93.184.216.34"])
def test_a_name_of_a_private_network_needs_every_address_allowed(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    _answering(monkeypatch, ["10.0.0.3", address])
    with pytest.raises(ForbiddenAddress, match=r"WEBHOOK_ALLOW=hook\.internal would allow it") as refused:
        check_url("http://hook.internal/", AllowList.parse("10.0.0.0/16"))
    assert address not in str(refused.value)


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.0/8,::1", "http://localhost/"),
        ("localhost", "http://LOCALHOST.:8123/"),
        ("10.0.0.0/8, hook.internal ,::1", "http://10.9.8.7/"),
        ("10.0.0.0/8", "http://[::ffff:10.9.8.7]/"),
        ("::ffff:10.0.0.0/104", "http://10.9.8.7/"),
        ("::1", "http://[::1]/"),
        ("fd00::/8", "http://[fd12::1]/"),
        ("10.0.0.1", "http://10.0.0.1/"),
    ],
)
def test_the_allow_list_lets_through_what_it_names(allow: str, url: str) -> None:
    check_url(url, AllowList.parse(allow))


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("", "http://127.0.0.1/"),
        ("10.0.0.0/8", "http://192.168.0.1/"),
        ("10.0.0.1", "http://10.0.0.2/"),
        ("::ffff:10.0.0.1", "http://10.0.0.2/"),
        ("hook.internal", "http://localhost/"),
        ("127.0.0.1", "http://[::1]/"),
        ("0.0.0.0/0", "http://[::1]/"),
    ],
)
def test_the_allow_list_lets_through_nothing_else(allow: str, url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url, AllowList.parse(allow))


def test_an_allowed_name_may_have_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["10.0.0.3"], ["10.0.0.3"])
    check_url("http://hook.internal:8080/", AllowList.parse("Hook.Internal"))
    with pytest.raises(ForbiddenAddress):
        check_url("http://not-hook.example/", AllowList.parse("hook.example"))


@pytest.mark.parametrize("item", ["*.internal", "10.0.0.0/33", "http://hook", "10.0.0", "a b", "*", "[::1]"])
def test_an_allow_list_that_cannot_be_read_names_the_item(item: str) -> None:
    with pytest.raises(ValueError, match="WEBHOOK_ALLOW") as error:
        AllowList.parse(f"10.0.0.0/8,{item}")
    assert repr(item) in str(error.value)


def _wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
