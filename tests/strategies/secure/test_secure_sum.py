from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bayfed.errors import FederationError
from strategies.secure import server
from strategies.secure.client import Block, Client
from strategies.secure.journal import Journal
from strategies.secure.records import Delivered, Mailbox, Offer, Revealed
from strategies.secure.ring import Ring
from tests.strategies.secure.cohort import RINGS, Cohort, integers, plain, vectors


def sums(totals: list[Any]) -> list[list[int]]:
    return [integers(total) for total in totals]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_sum_over_those_who_delivered_is_exact_whoever_drops_out(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 7))
    threshold = data.draw(st.integers(size // 2 + 1, size))
    cohort, parts = Cohort(size, threshold), vectors(size, seed=size)

    def some(among: list[int]) -> list[int]:
        return sorted(data.draw(st.permutations(among)))[: data.draw(st.integers(threshold, 9))]

    sharing = some(list(range(size)))
    delivering = some(sharing)
    totals = cohort.run(parts, sharing, delivering, some(delivering))
    assert sums(totals) == plain(parts[c] for c in delivering)


@pytest.mark.parametrize(
    ("sharing", "delivering", "revealing", "reason"),
    [
        ([0, 1], [0, 1], [0, 1], "2 clients have shared, 3 are needed"),
        ([0, 1, 2, 3], [0, 1], [0, 1], "2 clients have delivered, 3 are needed"),
        ([0, 1, 2, 3], [0, 1, 3], [0, 1], "2 clients gave their shares, 3 are needed"),
    ],
)
def test_one_dropout_more_than_the_threshold_allows_gives_no_sum(
    sharing: list[int], delivering: list[int], revealing: list[int], reason: str
) -> None:
    with pytest.raises(FederationError, match=reason):
        Cohort(5, 3).run(vectors(5), sharing, delivering, revealing)


def test_fewer_shares_than_the_threshold_do_not_unmask() -> None:
    cohort = Cohort(5, 3)
    cohort.run(vectors(5), range(5), range(5), range(3))
    del cohort.revealed[2]
    object.__setattr__(cohort.attempt, "threshold", 2)  # a server that makes do with less
    with pytest.raises(FederationError, match="the secret of client 0 cannot be put together"):
        cohort.total()


def masked_reply(value: int, attempt: int = 1, count: int = 20_000) -> np.ndarray[Any, Any]:
    cohort = Cohort(3, 2)
    cohort.again(attempt)
    cohort.share(range(3))
    constant = [np.full((count, ring.limbs), value, np.uint64) for ring in RINGS]
    cohort.mask({0: constant})
    return np.concatenate(cohort.masked[0])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 255))
def test_a_masked_reply_looks_uniform_whatever_is_in_it(value: int) -> None:
    counts = np.bincount(masked_reply(value), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_a_masked_reply_is_independent_of_its_input_and_of_other_attempts() -> None:
    replies = [masked_reply(*of) for of in ((0, 1), (0, 1), (255, 1), (0, 2))]
    for left in range(4):
        for right in range(left):
            table = np.histogram2d(replies[left], replies[right], bins=16)[0]
            assert stats.chi2_contingency(table).pvalue > 1e-6


def test_a_pair_of_masks_alone_leaves_a_reply_uniform() -> None:
    # The server knows every secret but that of one peer.
    cohort = Cohort(3, 2)
    cohort.share(range(3))
    parts = {c: [np.zeros((20_000, ring.limbs), np.uint64) for ring in RINGS] for c in range(3)}
    cohort.mask(parts)
    cohort.reveal(range(3))
    own = server._seed(cohort.attempt, 0, cohort.offers, cohort.revealed)
    half = Block(RINGS[0], RINGS[0].read(cohort.masked[0][0]))
    left = server.masked_by(cohort.attempt, 0, half, [(own, False)])
    assert stats.chisquare(np.bincount(left, minlength=256)).pvalue > 1e-6


class TestALyingServer:
    """It gets a one-line error, and no share or vector more than it has."""

    @pytest.fixture
    def cohort(self) -> Cohort:
        cohort = Cohort(5, 3)
        cohort.share(range(5))
        return cohort

    def mask(self, cohort: Cohort, clients: Any = range(5)) -> None:
        cohort.mask({c: vectors(5)[c] for c in clients})

    def test_replays_an_attempt(self, cohort: Cohort) -> None:
        with pytest.raises(FederationError, match="attempt 1 is not after 1"):
            cohort.client(0).share(cohort.attempt)
        cohort.again(3)
        cohort.share(range(5))
        cohort.again(2)
        with pytest.raises(FederationError, match="attempt 2 is not after 3"):
            cohort.client(0).share(cohort.attempt)

    def test_asks_for_a_second_vector_under_the_same_masks(self, cohort: Cohort) -> None:
        self.mask(cohort)
        with pytest.raises(FederationError, match="answers each one once"):
            self.mask(cohort)

    def test_asks_for_both_kinds_of_share(self, cohort: Cohort) -> None:
        self.mask(cohort)
        cohort.reveal(range(5))
        del cohort.masked[4]
        for step in (cohort.confirm, cohort.reveal):
            with pytest.raises(FederationError, match="answers each one once"):
                step([0])

    def test_tells_two_stories_of_who_delivered(self, cohort: Cohort) -> None:
        self.mask(cohort)
        saved = cohort.masked.pop(4)
        cohort.confirm(range(4))
        cohort.masked[4] = saved
        with pytest.raises(FederationError, match="not confirmed"):
            cohort.reveal([0])
        del cohort.masked[3]
        with pytest.raises(FederationError, match="not confirmed"):
            cohort.reveal([0])
        with pytest.raises(FederationError, match="answers each one once"):
            cohort.confirm([0])

    def test_names_too_few_who_confirmed_a_dropout(self, cohort: Cohort) -> None:
        self.mask(cohort, range(4))
        with pytest.raises(FederationError, match="not confirmed"):
            cohort.reveal([0])
        cohort.confirm([0, 1])
        with pytest.raises(FederationError, match="2 clients have confirmed"):
            cohort.reveal([0])

    def test_forges_a_confirmation(self, cohort: Cohort) -> None:
        self.mask(cohort, range(4))
        cohort.confirm(range(3))
        cohort.confirmed[2] = cohort.confirmed[1]
        with pytest.raises(FederationError, match="client 2 was not told of the same"):
            cohort.reveal([0])

    def test_tells_two_stories_of_who_shared(self, cohort: Cohort) -> None:
        whole = dict(cohort.offers)
        del cohort.offers[4]
        self.mask(cohort, [0, 1])
        cohort.offers = whole
        self.mask(cohort, [2, 3, 4])
        with pytest.raises(FederationError, match="client 0 was not told of the same"):
            cohort.reveal([2])

    def test_names_too_few_who_delivered(self, cohort: Cohort) -> None:
        self.mask(cohort)
        for clients in ((0,), (0, 1)):
            with pytest.raises(FederationError, match=r"clients have delivered, 3 are"):
                cohort.client(0).confirm(cohort.attempt, Delivered(clients))

    def test_asks_one_who_did_not_deliver(self, cohort: Cohort) -> None:
        self.mask(cohort)
        del cohort.masked[4]
        with pytest.raises(FederationError, match="this client is not among"):
            cohort.client(4).confirm(cohort.attempt, cohort.delivered)

    @pytest.mark.parametrize(
        ("threshold", "keys", "reason"),
        [
            (2, 5, "a threshold of 2 for 5 clients"),
            (6, 5, "a threshold of 6 for 5 clients"),
            (2, 2, "a sum over 2 clients hides none"),
        ],
    )
    def test_makes_the_cohort_too_small(self, threshold: int, keys: int, reason: str) -> None:
        cohort = Cohort(keys, threshold)
        with pytest.raises(FederationError, match=reason):
            cohort.client(0).share(cohort.attempt)

    def test_names_a_client_twice(self) -> None:
        cohort = Cohort(5, 3)
        cohort.attempt.keys[4] = cohort.attempt.keys[3]
        with pytest.raises(FederationError, match="two clients have the same public key"):
            cohort.client(0).share(cohort.attempt)

    def test_puts_a_key_of_its_own(self, cohort: Cohort) -> None:
        foreign = Client(4, b"s" * 32, Journal({}, 4)).public
        cohort.again(2).keys[4] = foreign
        with pytest.raises(FederationError, match="the key of client 4 has changed"):
            cohort.client(0).share(cohort.attempt)
        with pytest.raises(FederationError, match="not its own"):
            cohort.client(4).share(cohort.attempt)

    def test_plays_clients_whom_a_node_was_told_of(self) -> None:
        cohort = Cohort(5, 3)
        peers = dict(cohort.attempt.keys)
        cohort.attempt.keys[4] = Client(4, b"s" * 32, Journal({}, 4)).public
        wary = Client(0, bytes(32), Journal({}, 0), peers)
        with pytest.raises(FederationError, match="peers: the key of client 4 is not the one"):
            wary.share(cohort.attempt)

    def test_a_client_need_not_be_told_its_own_key(self) -> None:
        cohort = Cohort(5, 3)
        others = {c: key for c, key in cohort.attempt.keys.items() if c != 0}
        assert Client(0, bytes(32), Journal({}, 0), others).share(cohort.attempt).sealed

    def test_lowers_the_threshold_behind_the_shares(self, cohort: Cohort) -> None:
        object.__setattr__(cohort.attempt, "threshold", 4)
        cohort.attempt.__dict__.pop("digest")
        with pytest.raises(FederationError, match="does not take part in attempt 1"):
            self.mask(cohort)

    def test_exchanges_the_masking_keys(self, cohort: Cohort) -> None:
        # A client takes a peer's masking key from what the peer has sealed.
        forged = cohort.offers[1]
        cohort.offers[1] = Offer(cohort.offers[2].public, forged.proof, forged.sealed)
        self.mask(cohort)
        cohort.reveal(range(5))
        assert sums(cohort.total()) == plain(vectors(5).values())

    def test_changes_or_exchanges_what_is_sealed(self, cohort: Cohort) -> None:
        sealed = dict(cohort.offers[3].sealed)
        middle = len(sealed[0]) // 2
        changed = sealed[0][:middle] + bytes([sealed[0][middle] ^ 1]) + sealed[0][middle + 1 :]
        for wrong in (changed, sealed[0][:-8], b"", sealed[1], cohort.offers[2].sealed[0]):
            mail = {c: offer.sealed[0] for c, offer in cohort.offers.items()} | {3: wrong}
            with pytest.raises(FederationError, match="the shares from client 3 cannot be opened"):
                cohort.client(0).mask(cohort.attempt, Mailbox(mail), [])

    def test_sends_the_mail_of_an_earlier_attempt(self, cohort: Cohort) -> None:
        old = dict(cohort.offers)
        cohort.again(2)
        cohort.share(range(5))
        cohort.offers[3] = old[3]
        with pytest.raises(FederationError, match="the shares from client 3 cannot be opened"):
            self.mask(cohort, [0])


def test_a_new_attempt_after_a_failed_one_gives_the_sum() -> None:
    cohort, parts = Cohort(5, 4), vectors(5)
    with pytest.raises(FederationError):
        cohort.run(parts, range(5), range(3), range(3))
    cohort.again(2)
    assert sums(cohort.run(parts, range(5), range(4), range(4))) == plain(
        parts[c] for c in range(4)
    )


def test_a_client_that_lost_its_journal_takes_no_part_until_the_next_attempt() -> None:
    cohort, parts = Cohort(5, 3), vectors(5)
    cohort.share(range(5))
    cohort.states[2] = {}
    with pytest.raises(FederationError, match="does not take part"):
        cohort.mask({2: parts[2]})
    cohort.mask({c: parts[c] for c in (0, 1, 3, 4)})
    cohort.confirm([0, 1, 3, 4])
    cohort.reveal([0, 3, 4])
    assert sums(cohort.total()) == plain(parts[c] for c in (0, 1, 3, 4))


def test_the_masks_of_an_attempt_that_is_begun_anew_are_new() -> None:
    # Even where the journal is lost and the server names the same attempt once more.
    publics = set()
    for _ in range(2):
        cohort = Cohort(3, 2)
        cohort.share([0])
        publics.add(cohort.offers[0].public)
    assert len(publics) == 2


def test_a_wrong_share_is_found_and_done_without() -> None:
    cohort, parts = Cohort(5, 3), vectors(5)
    cohort.share(range(5))
    cohort.mask({c: parts[c] for c in range(4)})
    cohort.confirm(range(4))
    cohort.reveal(range(4))
    wrong = dict(cohort.revealed[1].shares)
    wrong[0] = wrong[0][:-1] + bytes([wrong[0][-1] ^ 1])
    cohort.revealed[1] = Revealed(wrong)
    assert sums(cohort.total()) == plain(parts[c] for c in range(4))
    del cohort.revealed[3]
    with pytest.raises(FederationError, match=r"the secret of client 0 .* shares are wrong"):
        cohort.total()


def test_what_a_client_offers_and_reveals_is_checked() -> None:
    cohort = Cohort(5, 3)
    cohort.run(vectors(5), range(5), range(5), range(5))
    offer = cohort.offers[0]
    assert server.offer_refusal(cohort.attempt, offer) is None
    less = Offer(offer.public, offer.proof, {0: b""})
    assert "each member" in str(server.offer_refusal(cohort.attempt, less))
    good = cohort.revealed[0]
    assert server.reveal_refusal(cohort.offers, good) is None
    short = Revealed({**good.shares, 2: b""})
    assert "revealed of client 2 is no share" in str(server.reveal_refusal(cohort.offers, short))
    assert "each client" in str(server.reveal_refusal(cohort.offers, Revealed({})))


def test_the_journal_in_a_file_survives_the_process(tmp_path: Path) -> None:
    cohort = Cohort(3, 2)

    def client() -> Client:
        return Client(0, bytes(32), Journal({}, 0, tmp_path))

    assert client().latest == 0
    client().share(cohort.attempt)
    assert client().latest == 1
    with pytest.raises(FederationError, match="attempt 1 is not after 1"):
        client().share(cohort.attempt)
    assert [path.name for path in tmp_path.iterdir()] == ["secure-0.json"]
    (tmp_path / "secure-0.json").write_text("{")
    with pytest.raises(FederationError, match=r"secure-0\.json: the journal .* is damaged"):
        client().share(cohort.attempt)


def test_nothing_is_answered_where_the_journal_cannot_be_kept(tmp_path: Path) -> None:
    gone = Client(0, bytes(32), Journal({}, 0, tmp_path / "gone"))
    with pytest.raises(FederationError, match="state-dir: No such file"):
        gone.share(Cohort(3, 2).attempt)


def test_no_state_and_no_message_holds_a_secret() -> None:
    cohort = Cohort(3, 2)
    cohort.run(vectors(3), range(3), range(3), range(3))
    said = repr((cohort.states, cohort.offers, cohort.revealed, cohort.sharing))
    for client in range(3):
        secret = bytes([client]) * 32
        assert secret.hex() not in said
        assert repr(secret)[2:-1] not in said


@pytest.mark.parametrize("width", [1, 3, 8, 9, 16])
def test_the_arithmetic_of_a_ring(width: int) -> None:
    ring, random = Ring(width), np.random.default_rng(width)
    data = [random.integers(0, 256, 50 * width, dtype=np.uint8) for _ in range(2)]
    left, right = (ring.read(d) for d in data)
    modulus = 1 << 8 * width
    both = list(zip(integers(left), integers(right), strict=True))
    for found, expected in (
        (ring.add(left, right), [(a + b) % modulus for a, b in both]),
        (ring.subtract(left, right), [(a - b) % modulus for a, b in both]),
    ):
        assert integers(ring.read(ring.write(found))) == expected
    assert np.array_equal(ring.write(left), data[0])
