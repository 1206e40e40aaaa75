from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bayfed.config import Episode, Evaluation
from bayfed.data.files import FileSource
from bayfed.data.site import SiteImage
from bayfed.data.turned import MIRRORED, turned
from bayfed.episodes import Pools, draw_support, draws_of
from bayfed.episodes.episode import UNKNOWN
from bayfed.episodes.sampler import EpisodeSampler
from bayfed.errors import DataError, ProtocolError
from bayfed.features import Encoder
from bayfed.features.tail import AdapterTail
from bayfed.seeds import stream
from tests import toys

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SIZE = Episode(shots=3, normals=2, anomalies=2)
GRID = 2


def pools(good: int = 8, real: int = 2, painted: int = 4) -> Pools:
    normals = tuple(toys.image(n) for n in range(good))
    defects = tuple(toys.image(100 + n, "crack") for n in range(real))
    on = tuple(toys.image(200 + n, "hole", normals[n % good].name) for n in range(painted))
    return Pools("toy", "toys", normals, (*defects, *on))


def sampler(of: Pools, size: Episode = SIZE, encoder: Encoder | None = None, grid: int = GRID):
    """A sampler whose features are the number of the image on every token."""
    rows = np.arange(len(of.training), dtype=np.float32)
    values = np.broadcast_to(rows[:, None, None], (len(rows), grid**2, 3)).copy()
    values += np.arange(grid**2)[:, None] / 100
    made = encoder or toys.encoder(3, grid)
    return EpisodeSampler(of, toys.features(of.training, values), made, size)


def drawn(of: Pools, size: Episode, seed: int) -> tuple[list[SiteImage], list[SiteImage]]:
    """Which images an episode holds, told from their features."""
    episode = sampler(of, size).episode(stream(seed, "episode"))
    rows = [stored[0, :, 0, 0].int().tolist() for stored in (episode.support, episode.query)]
    return tuple([of.training[row] for row in some] for some in rows)


@QUICK
@given(
    good=st.integers(5, 12),
    real=st.integers(1, 4),
    painted=st.integers(0, 12),
    anomalies=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_support_and_query_are_disjoint_and_no_painted_defect_meets_its_base(
    good, real, painted, anomalies, seed
):
    size = Episode(shots=3, normals=2, anomalies=anomalies)
    support, query = drawn(pools(good, real, painted), size, seed)
    normals, bad = query[:2], query[2:]
    taken = [image.name for image in (*support, *normals)]
    assert len(set(taken)) == len(taken) == 5
    assert all(image.defect is None for image in (*support, *normals))
    assert all(image.defect is not None for image in bad)
    assert not {image.base for image in bad} & set(taken)


def test_labels_and_masks_follow_the_query():
    of = pools()
    episode = sampler(of).episode(stream(0))
    assert episode.labels.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert episode.masks.shape == (1, 4, 4)
    assert episode.masks[0, :2].sum() == 0
    # The toy defect covers a square of the upper left quarter.
    assert episode.masks[0, 2:].tolist() == [[1, 0, 0, 0]] * 2


def test_a_defect_without_a_mask_is_unknown_and_so_is_every_mask_at_the_image_grain():
    class Unmasked(toys.Drawn):
        def mask(self):
            return None

    of = pools(painted=0)
    blind = tuple(replace(i, source=Unmasked(i.source.number)) for i in of.train_anomalies)
    episode = sampler(replace(of, train_anomalies=blind)).episode(stream(0))
    assert (episode.masks[0, 2:] == UNKNOWN).all()
    assert (episode.masks[0, :2] == 0).all()
    assert (sampler(of, grid=1).episode(stream(0)).masks == UNKNOWN).all()


def test_few_defects_are_drawn_again_rather_than_fewer():
    _, query = drawn(pools(real=1, painted=0), Episode(shots=3, normals=2, anomalies=4), 0)
    assert len(query) == 6


def test_a_stream_decides_the_episode():
    of = pools()
    one, same, other = (sampler(of).episode(stream(s, "episode")) for s in (0, 0, 1))
    assert torch.equal(one.support, same.support)
    assert torch.equal(one.query, same.query)
    assert not torch.equal(one.query, other.query)


def test_a_subset_of_tokens_is_the_same_for_images_and_masks():
    size = Episode(shots=3, normals=2, anomalies=2, tokens=3)
    episode = sampler(pools(), size).episode(stream(4))
    assert episode.tokens is None
    assert episode.support.shape == (1, 3, 3, 3)
    places = ((episode.query[0, :, :, 0] % 1) * 100).round().int()
    assert all(torch.equal(row, places[0]) for row in places)
    assert episode.masks[0, 2].tolist() == [int(p == 0) for p in places[0].tolist()]


def test_behind_a_tail_that_convolves_the_subset_is_taken_later():
    size = Episode(shots=3, normals=2, anomalies=2, tokens=3)
    tail = AdapterTail(channels=3, pool=False)
    made = Encoder(toys.CountingTrunk(), tail, GRID, 32)
    episode = sampler(pools(), size, made).episode(stream(4))
    assert episode.support.shape == (1, 3, 4, 3)
    assert episode.tokens is not None
    assert episode.tokens.shape == (1, 3)
    assert episode.masks.shape == (1, 4, 3)


@pytest.mark.parametrize("tokens", [None, 4, 9])
def test_all_tokens_are_kept_where_no_fewer_are_asked(tokens):
    size = Episode(shots=3, normals=2, anomalies=2, tokens=tokens)
    assert sampler(pools(), size).episode(stream(0)).support.shape == (1, 3, 4, 3)


def test_every_support_image_comes_with_its_poses():
    of = pools(painted=0)
    pictures = [p for image in of.train_good for p in turned(image, MIRRORED)]
    images = (*pictures, *of.train_anomalies)
    rows = np.arange(len(images), dtype=np.float32)
    values = np.broadcast_to(rows[:, None, None], (len(rows), GRID**2, 3)).copy()
    features, made = toys.features(images, values), toys.encoder(3, GRID)
    episode = EpisodeSampler(of, features, made, SIZE, MIRRORED).episode(stream(0))
    seen = episode.support[0, :, 0, 0].int().tolist()
    assert len(seen) == 9
    assert [row % 3 for row in seen] == [0, 1, 2] * 3
    assert seen[0::3] == [row - 1 for row in seen[1::3]]


def test_too_few_good_images_for_an_episode_name_the_site():
    with pytest.raises(
        ProtocolError, match=r"^site toy: 4 good training images, an episode needs 5$"
    ):
        sampler(pools(good=4, painted=0))


def test_a_site_without_defects_names_the_setting_that_helps():
    with pytest.raises(ProtocolError, match=r"^site toy: no defects .* data\.pasted\.per_site$"):
        sampler(pools(real=0, painted=0))


def test_painted_defects_need_one_good_image_more_which_is_told_before_training():
    with pytest.raises(ProtocolError, match=r"^site toy: 5 good .* an episode needs 6$"):
        sampler(pools(good=5, real=0, painted=5))


@QUICK
@given(good=st.integers(6, 9), painted=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_few_painted_defects_are_enough_for_every_episode(good, painted, seed):
    support, query = drawn(pools(good, 0, painted), SIZE, seed)
    taken = {image.name for image in (*support, *query[:2])}
    assert len(taken) == 5
    assert not {image.base for image in query[2:]} & taken


def test_a_mask_of_another_size_names_its_file(tmp_path):
    picture, mask = tmp_path / "p.png", tmp_path / "p_mask.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(picture)
    Image.fromarray(np.ones((10, 20), np.uint8)).save(mask)
    bad = SiteImage("toy", "bad.png", "crack", FileSource(picture, mask))
    with pytest.raises(DataError) as caught:
        sampler(replace(pools(), train_anomalies=(bad,))).episode(stream(0))
    assert str(mask) in str(caught.value)
    assert "\n" not in str(caught.value)


@QUICK
@given(good=st.integers(2, 10), shots=st.integers(2, 10), draw=st.integers(0, 5))
def test_supports_are_distinct_training_normals_or_an_error(good, shots, draw):
    of = pools(good=good, painted=0)
    if shots > good:
        with pytest.raises(ProtocolError, match=f"^site toy: {good} good .* {shots} shots needs"):
            draw_support(of, shots, 0, draw)
        return
    support = draw_support(of, shots, 0, draw)
    assert len({image.name for image in support}) == shots
    assert set(support) <= set(of.train_good)
    assert support == draw_support(of, shots, 0, draw)


def test_draws_and_seeds_give_other_supports():
    of = pools(good=12, painted=0)
    found = {draw_support(of, 3, seed, draw) for seed in range(3) for draw in range(3)}
    assert len(found) > 6


def test_a_support_that_was_drawn_before_is_left_out():
    of = pools(good=3, painted=0)
    assert [draw.number for draw in draws_of(of, Evaluation(shots=3, draws=5), 0)] == [0]
    pairs = draws_of(of, Evaluation(shots=2, draws=20), 0)
    assert len(pairs) == 3
    assert all(draw.support == draw_support(of, 2, 0, draw.number) for draw in pairs)
    assert all(draw in pairs for draw in draws_of(of, Evaluation(shots=2, draws=4), 0))
