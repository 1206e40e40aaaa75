from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from deploy.gate import CALLS, CONFIRM, KEY, PULL, PUSH, Gate, application
from deploy.limits import Rate, Shares, counted
from deploy.settings import FederationSettings

LARGEST = 1000
seen: list[Request] = []


async def superlink(request: Request) -> Response:
    await request.body()
    seen.append(request)
    headers = {"x-answer": "1", "content-type": "application/protobuf"}
    return Response((await request.body())[::-1], 201, headers)


@pytest.fixture
def gate() -> TestClient:
    seen.clear()
    backend = Starlette(routes=[Route("/{path:path}", superlink, methods=["GET", "POST"])])
    transport = httpx.ASGITransport(backend)
    client = httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1:1")
    return TestClient(application(Gate(client, LARGEST)), base_url="https://fed.example")


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_call_of_a_node_goes_through_as_it_is(gate: TestClient, call: str) -> None:
    headers = {"flwr-signature": "abc", "content-type": "application/protobuf"}
    answer = gate.post(f"/v1/fleet/{call}", content=b"body", headers=headers)
    assert (answer.status_code, answer.content) == (201, b"ydob")
    assert answer.headers["x-answer"] == "1"
    assert seen[0].url.path == f"/v1/fleet/{call}"
    assert {k: seen[0].headers[k] for k in headers} == headers
    assert seen[0].headers["host"] == "127.0.0.1:1"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-runs",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-task-input",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-run/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "//v1/fleet/get-run",
        "/V1/fleet/get-run",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_nothing_else_goes_through(gate: TestClient, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert asyncio.run(status_of(gate, method, path)) in (404, 405)
    assert seen == []


async def status_of(gate: TestClient, method: str, path: str) -> int:
    """Return the status of a request whose path is on the line as it stands here."""
    url = httpx.URL("https://fed.example").copy_with(raw_path=path.encode())
    transport = httpx.ASGITransport(gate.app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.request(method, url)).status_code


def test_a_call_is_a_post(gate: TestClient) -> None:
    assert gate.get("/v1/fleet/get-run").status_code in (404, 405)
    assert seen == []


def test_a_request_that_is_too_large_stops_at_the_gate(gate: TestClient) -> None:
    answer = gate.post("/v1/fleet/push-object", content=b"x" * (LARGEST + 1))
    assert answer.status_code == 413
    assert seen == []
    assert gate.post("/v1/fleet/push-object", content=b"x" * LARGEST).status_code == 201


def test_a_superlink_that_is_away_is_no_answer_of_its_own() -> None:
    async def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(nobody), base_url="https://x")
    gate = TestClient(application(Gate(client, LARGEST)))
    assert gate.post("/v1/fleet/get-run").status_code == 503  # a node tries again after this one
    assert gate.get("/health").status_code == 503


def test_who_is_refused_is_logged_once(gate: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            gate.post("/v1/control/start-run", headers={"authorization": "secret-word"})
    assert [record.message for record in caplog.records if "refused" in record.message] == [
        "refused: POST '/v1/control/start-run' from testclient"
    ]
    assert "secret-word" not in caplog.text


def waiting(answers: list[bytes | int]) -> tuple[Gate, list[bytes]]:
    """Return a gate to a SuperLink that gives ``answers`` in turn, and what it was asked."""
    asked: list[bytes] = []

    async def pull(request: Request) -> Response:
        asked.append(await request.body())
        answer = answers.pop(0)
        return Response(status_code=answer) if isinstance(answer, int) else Response(answer)

    backend = Starlette(routes=[Route("/{path:path}", pull, methods=["POST"])])
    transport = httpx.ASGITransport(backend)
    client = httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1:1")
    return Gate(client, LARGEST), asked


def asking(gate: Gate, call: str = PULL, key: str = "a", content: bytes = b"signed") -> Response:
    client = TestClient(application(gate), base_url="https://fed.example")
    answer = client.post(f"/v1/fleet/{call}", content=content, headers={KEY: key})
    return Response(answer.content, answer.status_code)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.gate.LOOK", 0.0)
    monkeypatch.setattr("deploy.gate.SPREAD", 0.0)


@pytest.mark.usefixtures("quick")
def test_a_question_stays_open_until_there_is_a_message() -> None:
    gate, asked = waiting([b"", b"", b"message"])
    assert asking(gate).body == b"message"
    assert asked == [b"signed"] * 3
    # Other calls may well have empty answers.
    gate, asked = waiting([b"", b"message"])
    assert asking(gate, PUSH).body == b""


def test_a_question_without_a_message_is_answered_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deploy.gate.HOLD", 0.0)
    gate, asked = waiting([b""])
    assert (asking(gate).body, len(asked)) == (b"", 1)


@pytest.mark.usefixtures("quick")
def test_a_signature_that_grows_old_while_a_question_is_open_costs_nothing() -> None:
    gate, asked = waiting([b"", 401, b"message"])
    answer = asking(gate)
    assert (answer.status_code, answer.body, len(asked)) == (200, b"", 2)
    assert asking(waiting([401])[0]).status_code == 401


def test_who_waits_for_long_is_looked_after_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[float] = []

    async def sleep(seconds: float) -> None:
        passed.append(seconds)

    monkeypatch.setattr("deploy.gate.asyncio.sleep", sleep)
    gate, _ = waiting([b""] * 20 + [b"message"])
    assert asking(gate).body == b"message"
    assert passed[0] < 0.3
    assert passed == sorted(passed)
    assert passed[-1] > 2.0


def test_nothing_is_taken_for_a_node_that_has_hung_up() -> None:
    gate, asked = waiting([b"", b"message"])
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"signed", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0) if len(events) > 1 else events[0]

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    request = Request({**scope, "path_params": {"call": PULL}}, receive)
    assert asyncio.run(gate.pass_on(request)).body == b""
    assert asked == [b"signed"]


@pytest.mark.usefixtures("quick")
def test_a_node_that_asks_anew_has_one_question_open() -> None:
    asked: list[bytes] = []

    async def pull(request: Request) -> Response:
        asked.append(await request.body())
        # From then on there is a message for whoever asks first, and the first question is over.
        return Response(b"message" if asked.count(b"second") > 2 else b"")

    transport = httpx.ASGITransport(Starlette(routes=[Route("/{p:path}", pull, methods=["POST"])]))
    gate = Gate(httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1:1"), LARGEST)

    async def both() -> list[bytes]:
        outer = httpx.ASGITransport(application(gate))
        async with httpx.AsyncClient(transport=outer, base_url="https://fed.example") as client:
            path, headers = f"/v1/fleet/{PULL}", {KEY: "a"}
            first = asyncio.create_task(client.post(path, content=b"first", headers=headers))
            while not asked:
                await asyncio.sleep(0)
            second = await client.post(path, content=b"second", headers=headers)
            return [(await first).content, second.content]

    assert asyncio.run(both()) == [b"", b"message"]


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_message_that_no_node_confirms_is_handed_out_once_more(
    monkeypatch: pytest.MonkeyPatch, confirmed: bool
) -> None:
    monkeypatch.setattr("deploy.gate.HOLD", 0.0)
    gate, _ = waiting([b"message", *([b""] * 4)])
    assert asking(gate).body == b"message"
    if confirmed:
        asking(gate, CONFIRM)
    assert asking(gate, key="b").body == b""
    assert asking(gate).body == (b"" if confirmed else b"message")
    assert asking(gate).body == b""


def test_a_message_of_long_ago_is_not_handed_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.gate.HOLD", 0.0)
    monkeypatch.setattr("deploy.gate.AGAIN", 0.0)
    gate, _ = waiting([b"message", b""])
    assert asking(gate).body == b"message"
    assert asking(gate).body == b""


def test_what_waits_for_who_is_refused_stays_there() -> None:
    gate, _ = waiting([b"message", 401, b""])
    assert asking(gate).body == b"message"
    assert asking(gate).status_code == 401  # with the key of another, and no signature
    assert asking(gate).body == b"message"


@pytest.mark.parametrize(
    ("sender", "answered", "status"),
    [(7, "m", 200), (8, "m", 403), (1, "", 403), (7, "", 403)],
    ids=["its own reply", "a reply of another", "an instruction of the server", "no reply"],
)
def test_a_node_sends_replies_of_its_own(sender: int, answered: str, status: int) -> None:
    said = Metadata(src_node_id=sender, dst_node_id=9, reply_to_message_id=answered)
    call = PushMessagesRequest(node=Node(node_id=7), messages_list=[Message(metadata=said)])
    gate, asked = waiting([b"stored"])
    assert asking(gate, PUSH, content=call.SerializeToString()).status_code == status
    assert len(asked) == (status == 200)


def limited(calls: int, plants: int, largest: int = LARGEST) -> tuple[Gate, list[Request]]:
    """Return a gate to a SuperLink that knows the keys a and b, and what got through."""
    passed: list[Request] = []

    async def judge(request: Request) -> Response:
        passed.append(request)
        return Response(b"", 200 if request.headers.get(KEY) in ("a", "b") else 401)

    transport = httpx.ASGITransport(Starlette(routes=[Route("/{p:path}", judge, methods=["POST"])]))
    client = httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1:1")
    return Gate(client, largest, calls, plants), passed


def at(address: str, gate: Gate, key: str, content: bytes = b"") -> int:
    client = TestClient(application(gate), client=(address, 1), base_url="https://fed.example")
    return client.post("/v1/fleet/get-run", content=content, headers={KEY: key}).status_code


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock of the gate's limits, which stands."""
    now = [1000.0]
    monkeypatch.setattr("deploy.limits.time.monotonic", lambda: now[0])
    monkeypatch.setattr("deploy.gate.Rate", lambda calls: Rate(calls, lambda: now[0]))
    return now


def test_a_plant_has_its_share_of_calls_and_takes_nobody_elses(still: list[float]) -> None:
    gate, passed = limited(calls=2, plants=9)
    assert [at("192.0.2.1", gate, "a") for _ in range(22)] == [200] * 20 + [503] * 2
    assert at("198.51.100.7", gate, "a") == 503  # wherever it calls from
    assert at("192.0.2.1", gate, "b") == 200
    assert len(passed) == 21
    still[0] += 1.0
    assert [at("192.0.2.1", gate, "a") for _ in range(3)] == [200, 200, 503]


@pytest.mark.usefixtures("still")
def test_who_uses_the_key_of_another_in_vain_takes_nothing_from_it() -> None:
    gate, passed = limited(calls=2, plants=2)
    denied = [at("203.0.113.5", gate, "stolen") for _ in range(50)]
    assert denied == [401] * 40 + [503] * 10
    assert len(passed) == 40
    assert at("192.0.2.1", gate, "a") == 200
    assert at("192.0.2.1", gate, "stolen") == 401  # as the SuperLink says, not the gate


def test_what_is_refused_says_when_to_come_again(still: list[float]) -> None:
    gate, _ = limited(calls=1, plants=1)
    client = TestClient(application(gate), base_url="https://fed.example")
    answers = [client.post("/v1/fleet/get-run", headers={KEY: "a"}) for _ in range(11)]
    assert answers[-1].status_code == 503  # after 429 a node of Flower's ends
    assert answers[-1].headers["retry-after"] == "1"
    assert client.get("/health").status_code == 503
    assert still


def test_fifty_plants_behind_one_address_are_let_through(still: list[float]) -> None:
    settings = FederationSettings(plants=50)
    gate, _ = limited(settings.calls, settings.plants)
    gate._plants = Rate(settings.calls, lambda: still[0])
    burst = 20  # calls of a plant in a round of the guide, of which most come together
    client = TestClient(application(gate), base_url="https://fed.example")
    for number in range(50 * burst):
        answer = client.post("/v1/fleet/get-run", headers={KEY: f"plant{number % 50}"})
        assert answer.status_code == 401


def test_calls_that_are_still_coming_take_no_more_memory_than_they_may() -> None:
    gate, _ = limited(calls=50, plants=3)
    held = gate._held
    assert held.take("192.0.2.1", 4 * LARGEST - 1)
    assert at("192.0.2.1", gate, "a", b"x" * 2) == 503
    assert at("192.0.2.1", gate, "a", b"x") == 200
    assert at("198.51.100.7", gate, "a", b"x" * LARGEST) == 200
    held.give_back("192.0.2.1", 4 * LARGEST - 1)
    assert at("192.0.2.1", gate, "a", b"x" * LARGEST) == 200
    assert not held._held


def test_a_call_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.gate.SILENCE", 0.01)
    gate, passed = limited(calls=50, plants=3)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(30.0)
        return {}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    request = Request({**scope, "path_params": {"call": PUSH}}, receive)
    assert asyncio.run(gate.pass_on(request)).status_code == 408
    assert passed == []


async def _connections(most: int, opened: int, said: bytes = b"") -> list[bytes]:
    """Return what comes on connections of which the first ones say no whole sentence."""
    backend = Starlette(routes=[Route("/", lambda _: Response(b"here"))])
    shares = Shares(most)
    config = uvicorn.Config(
        backend, port=0, http=counted(shares), lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(opened)]
    for _, writer in streams[:-1]:
        writer.write(said)
    streams[-1][1].write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    found = []
    for reader, _ in reversed(streams):
        try:
            found.append((await asyncio.wait_for(reader.read(), 0.5))[-4:])
        except TimeoutError:
            found.append(b"open")
        except ConnectionError:
            found.append(b"")
    for _, writer in streams:
        writer.close()
    server.should_exit = True
    await task
    assert not shares._held
    return found[::-1]


def test_an_address_has_so_many_connections() -> None:
    assert asyncio.run(_connections(3, 3)) == [b"open", b"open", b"here"]
    assert asyncio.run(_connections(2, 3)) == [b"open", b"open", b""]


def test_a_connection_on_which_nothing_comes_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.limits.SILENCE", 0.05)
    assert asyncio.run(_connections(3, 3)) == [b"", b"", b"here"]


@pytest.mark.parametrize(
    "said", [b"P", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\nG"]
)
def test_a_connection_on_which_no_whole_call_comes_is_ended(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("deploy.limits.SILENCE", 0.05)
    rest = b"here" if said.endswith(b"G") else b""
    assert asyncio.run(_connections(3, 3, said)) == [rest, rest, b"here"]
