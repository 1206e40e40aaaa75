"""Who is not asked in a round: clients whose node comes and goes, or whose updates were refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.exchange import Replies
from strategies.wire import Member

LONGEST = 7
"""Rounds for which a node that comes and goes is left alone at most."""
ABSENT, RESTING = "absent", "resting"


class Attendance:
    """Counts who was away, and lets some rest.

    A node that was away k times in a row is not asked for the next min(7, 2^(k-1) - 1) rounds: a
    round should not wait for it each time. A client whose update was refused is not asked for
    ``quarantine`` rounds. Whoever rests counts as asked and missing, so a quorum keeps its meaning.

    Args:
        quarantine: Rounds.
        line: Of the history, written by :meth:`line` after the last round.
    """

    def __init__(self, quarantine: int = 0, line: Mapping[str, Any] | None = None) -> None:
        self._quarantine = quarantine
        line = line or {}
        self._absent: dict[str, int] = dict(line.get(ABSENT, {}))
        self._resting: dict[str, tuple[int, str]] = {
            name: (int(until), str(why)) for name, (until, why) in line.get(RESTING, {}).items()
        }

    def resting(self, number: int, members: Iterable[Member]) -> dict[str, str]:
        """Return those of ``members`` that are not asked in round ``number``, and why."""
        return {
            member.name: f"is not asked until round {self._resting[member.name][0] + 1}: "
            f"{self._resting[member.name][1]}"
            for member in members
            if self._resting.get(member.name, (-1, ""))[0] >= number
        }

    def note(self, number: int, replies: Replies, asked: Sequence[Member]) -> None:
        """Take note of who answered round ``number``."""
        self._resting = {name: rest for name, rest in self._resting.items() if rest[0] > number}
        missing = replies.gone | replies.silent
        for name in {member.name for member in (*asked, *replies.late)} - missing:
            self._absent.pop(name, None)
        for name in sorted(replies.gone):
            times = self._absent[name] = self._absent.get(name, 0) + 1
            rest = min(LONGEST, 2 ** (times - 1) - 1)
            self._rest(name, number, rest, f"away {times} times in a row")
        for name in sorted(replies.refused.keys() - replies.gone):
            self._rest(name, number, self._quarantine, replies.refused[name])

    def line(self) -> dict[str, Any]:
        """Return what the history keeps, and goes on from."""
        resting = {name: list(rest) for name, rest in sorted(self._resting.items())}
        return {ABSENT: dict(sorted(self._absent.items())), RESTING: resting}

    def _rest(self, name: str, number: int, rounds: int, why: str) -> None:
        if rounds:
            self._resting[name] = (number + rounds, why)
