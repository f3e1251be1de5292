# SPDX-License-Identifier: Apache-2.0
"""Who is at the ends of a topic: every misfit is named, and no fit is."""

from dataclasses import replace
import itertools

import pytest

from td3_agent.driving.endpoints import (
    SILENCE_NS,
    Endpoint,
    Heard,
    Interest,
    findings,
    foreign_writers,
)

OWN = Endpoint(node='/gate', type='a/msg/A')
OTHER = replace(OWN, node='/other')
THIRD = replace(OWN, node='/third')
READS = Interest(topic='/t', end=OWN, writes=False, advice='start the bridge')
WRITES = Interest(topic='/t', end=OWN, writes=True, one_writer=True, advice='start a reader')
SOLE_READ = replace(READS, one_writer=True)


def texts(*arguments, **more):
    return [(finding.text, finding.is_error) for finding in findings(*arguments, **more)]


def test_what_fits_is_not_named():
    assert texts(READS, [OTHER], [OWN]) == []
    assert texts(SOLE_READ, [OTHER], [OWN, THIRD]) == []
    assert texts(WRITES, [OWN], [OTHER, THIRD]) == []


def test_nobody_at_the_other_end_is_a_warning_with_advice():
    assert texts(READS, [], [OWN]) == [('nobody publishes /t: start the bridge', False)]
    assert texts(WRITES, [OWN], []) == [('nobody subscribes to /t: start a reader', False)]
    assert texts(replace(READS, advice=''), [], [OWN]) == []


def test_another_type_is_named_with_both():
    other = replace(OTHER, type='b/msg/B')
    text = '/t: type is b/msg/B at /other, a/msg/A here: rename one topic'
    assert texts(READS, [other], [OWN]) == [(text, True)]
    assert texts(WRITES, [OWN], [other]) == [(text, True)]


@pytest.mark.parametrize('writes', [False, True])
@pytest.mark.parametrize('field', ['reliable', 'latched'])
@pytest.mark.parametrize(('offered', 'wanted'), itertools.product([False, True], repeat=2))
def test_quality_of_service_fits_exactly_where_the_offer_covers_the_wish(
    writes, field, offered, wanted
):
    mine, theirs = (offered, wanted) if writes else (wanted, offered)
    one = Interest(topic='/t', end=replace(OWN, **{field: mine}), writes=writes)
    other = replace(OTHER, **{field: theirs})
    ends = ([one.end], [other]) if writes else ([other], [one.end])
    found = texts(one, *ends)
    assert bool(found) == (wanted and not offered)
    assert all('nothing arrives' in text and is_error for text, is_error in found)


def test_many_alike_are_named_once():
    other = replace(OTHER, type='b/msg/B')
    assert len(texts(READS, [other] * 5, [OWN])) == 1


def test_second_publisher_is_named_to_writers_and_readers():
    text = '/t has publishers /gate and /other: end all but one'
    assert (text, True) in texts(WRITES, [OWN, OTHER], [THIRD])
    text = '/t has publishers /other and /third: end all but one'
    assert texts(SOLE_READ, [OTHER, THIRD], [OWN]) == [(text, True)]
    assert texts(READS, [OTHER, THIRD], [OWN]) == []


def test_second_publisher_of_one_name_is_an_error_only_while_it_is_known_to_live():
    for one, ends in ((WRITES, ([OWN, OWN], [OTHER])), (SOLE_READ, ([OTHER, OTHER], [OWN]))):
        ((text, is_error),) = texts(one, *ends)
        assert 'has 2 publishers named' in text
        assert 'killed' in text
        assert not is_error
        ((text, is_error),) = texts(one, *ends, living_twin=True)
        assert 'killed' not in text
        assert is_error


def test_only_our_own_end_is_not_foreign():
    assert foreign_writers(WRITES, [OWN]) == []
    assert foreign_writers(WRITES, [OWN, OWN, OTHER]) == ['/gate', '/other']
    assert foreign_writers(READS, [OTHER]) == ['/other']


def test_publisher_without_a_name_comes_or_goes_and_is_no_rival():
    nameless = replace(OWN, node='')
    assert foreign_writers(WRITES, [OWN, nameless]) == []
    assert texts(WRITES, [OWN, nameless], [OTHER]) == []
    assert texts(SOLE_READ, [OTHER, nameless], [OWN]) == []


class TestHeard:
    def test_what_it_says_itself_is_no_news(self):
        heard = Heard('me')
        heard.note('/gate', 'me', 0)
        assert not heard.is_alive('/gate', 0)

    def test_others_live_until_they_fall_silent(self):
        heard = Heard('me')
        heard.note('/gate', 'twin', 5)
        assert heard.is_alive('/gate', 5 + SILENCE_NS)
        assert not heard.is_alive('/gate', 6 + SILENCE_NS)
        assert not heard.is_alive('/other', 5)

    def test_living_is_not_working(self):
        heard = Heard('me')
        heard.note('/gate', 'twin', 5, active=False)
        assert heard.is_alive('/gate', 6)
        assert not heard.is_at_work('/gate', 6)
        heard.note('/gate', 'twin', 7)
        assert heard.is_at_work('/gate', 8)
