# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is at the ends of a topic: every misfit is named, and no fit is."""

from dataclasses import replace
import itertools

import pytest

from td3_agent.driving.endpoints import (
    LEASE_NS,
    SILENCE_NS,
    Breaks,
    Duplicates,
    Endpoint,
    ExpectedEndpoint,
    LastSeen,
    findings,
    other_publishers,
)

OWN = Endpoint(node='/gate', type='a/msg/A')
OTHER = replace(OWN, node='/other')
THIRD = replace(OWN, node='/third')
READS = ExpectedEndpoint(topic='/t', end=OWN, writes=False, advice='start the bridge')
WRITES = ExpectedEndpoint(
    topic='/t', end=OWN, writes=True, exclusive=True, advice='start a reader'
)
SOLE_READ = replace(READS, exclusive=True)


def texts(*arguments, **more):
    return [(finding.text, finding.is_error) for finding in findings(*arguments, **more)]


def test_what_fits_is_not_named():
    assert texts(READS, [OTHER], [OWN]) == []
    assert texts(SOLE_READ, [OTHER], [OWN, THIRD]) == []
    assert texts(WRITES, [OWN], [OTHER, THIRD]) == []


def test_nobody_at_the_other_end_is_a_warning_with_advice():
    assert texts(READS, [], [OWN]) == [('no publisher on /t: start the bridge', False)]
    assert texts(WRITES, [OWN], []) == [('no subscriber on /t: start a reader', False)]
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
    one = ExpectedEndpoint(topic='/t', end=replace(OWN, **{field: mine}), writes=writes)
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
        ((text, is_error),) = texts(one, *ends, duplicate_is_alive=True)
        assert 'killed' not in text
        assert is_error


def test_only_our_own_end_is_not_foreign():
    assert other_publishers(WRITES, [OWN]) == []
    assert other_publishers(WRITES, [OWN, OWN, OTHER]) == ['/gate', '/other']
    assert other_publishers(READS, [OTHER]) == ['/other']


def test_publisher_without_a_name_comes_or_goes_and_is_no_rival():
    nameless = replace(OWN, node='')
    assert other_publishers(WRITES, [OWN, nameless]) == []
    assert texts(WRITES, [OWN, nameless], [OTHER]) == []
    assert texts(SOLE_READ, [OTHER, nameless], [OWN]) == []


class TestHeard:
    def test_what_it_says_itself_is_no_news(self):
        last_seen = LastSeen('me')
        last_seen.note('/gate', 'me', 0)
        assert not last_seen.is_alive('/gate', 0)

    def test_others_live_until_they_fall_silent(self):
        last_seen = LastSeen('me')
        last_seen.note('/gate', 'twin', 5)
        assert last_seen.is_alive('/gate', 5 + SILENCE_NS)
        assert not last_seen.is_alive('/gate', 6 + SILENCE_NS)
        assert not last_seen.is_alive('/other', 5)

    def test_living_is_not_working(self):
        last_seen = LastSeen('me')
        last_seen.note('/gate', 'twin', 5, active=False)
        assert last_seen.is_alive('/gate', 6)
        assert not last_seen.is_at_work('/gate', 6)
        last_seen.note('/gate', 'twin', 7)
        assert last_seen.is_at_work('/gate', 8)


SECOND_NS = 10**9
TWO = ['/carla_ros_bridge'] * 2


def told(found):
    return [finding.text for finding in found]


def only(found):
    (finding,) = found
    return finding.text


def look(doubles, at_s, *, kind='bridge', names=TWO, **breaks):
    doubles.note(kind, names, round(at_s * SECOND_NS), Breaks(**breaks))


def test_two_bridges_that_live_are_an_error_even_after_one_has_left():
    for each in ({'restarts': 1}, {'violations': 1}):  # another time, or the same world
        doubles = Duplicates(domain_id=7)
        look(doubles, 0.0, names=TWO[:1], violations=5)
        assert doubles.findings(0) == []
        look(doubles, 1.0, violations=5)
        (only_there,) = doubles.findings(SECOND_NS)
        assert not only_there.is_error
        for at_s in range(2, 10):
            look(doubles, at_s, **{name: 5 + at_s * count for name, count in each.items()})
        (found,) = doubles.findings(100 * SECOND_NS)
        assert found.is_error
        assert found.text.startswith(
            'two bridges in ROS domain 7 for 8.0 s: /carla_ros_bridge twice'
        )


def test_two_that_are_there_from_the_start_are_an_error_once_frames_break():
    doubles = Duplicates(domain_id=7)
    look(doubles, 0.0)
    assert not doubles.findings(0)[0].is_error
    look(doubles, 0.1, violations=2)
    assert doubles.findings(0)[0].is_error


def test_bridge_that_is_heard_again_was_not_dead():
    doubles = Duplicates(domain_id=7)
    look(doubles, 0.0, names=TWO[:1])
    look(doubles, 0.1, restarts=1)  # of the second one, last_seen before it was seen
    assert not doubles.findings(SECOND_NS)[0].is_error
    look(doubles, 0.2, restarts=2)  # of the first one: it goes on
    assert doubles.findings(9 * LEASE_NS)[0].is_error


@pytest.mark.parametrize('free_frames', [0, 400])
@pytest.mark.parametrize('killed', [1, 2])
def test_bridges_that_follow_killed_ones_are_no_two_of_a_kind(killed, free_frames):
    """Each makes time run back once, and runs freely until it is paused."""
    doubles = Duplicates(domain_id=7)
    look(doubles, 0.0, names=TWO[:1])
    for number in range(1, killed + 1):
        names = ['/carla_ros_bridge'] * (number + 1)
        for tenth in range(10):
            frames = (number - 1) * free_frames + free_frames * tenth // 9
            look(doubles, number + tenth / 10, names=names, violations=frames, restarts=number)
    for at_s in range(3, 23):
        look(doubles, at_s, violations=killed * free_frames, restarts=killed)
        (found,) = doubles.findings(at_s * SECOND_NS)
        assert not found.is_error
        assert 'two bridges' not in found.text
        assert 'the remains of a killed process vanish within 20 s' in found.text
    assert doubles.findings(60 * SECOND_NS) == []


def test_two_beyond_the_lease_are_an_error_though_nothing_breaks():
    doubles = Duplicates(domain_id=7)
    lease_s = LEASE_NS // SECOND_NS
    for at_s in range(lease_s + 1):
        look(doubles, at_s, kind='gate of ego_vehicle', names=['/a', '/b'])
    (found,) = doubles.findings(LEASE_NS)
    assert not found.is_error
    assert found.text.startswith('gate of ego_vehicle: /a and /b in ROS domain 7 for 25.0 s')
    assert doubles.findings(2 * LEASE_NS + 1) == []
    look(doubles, lease_s + 1, kind='gate of ego_vehicle', names=['/a', '/b'])
    (found,) = doubles.findings(10 * LEASE_NS)
    assert found.is_error
    assert found.text.startswith('two gates of ego_vehicle in ROS domain 7')


def test_processes_that_are_killed_one_after_the_other_are_no_two_of_a_kind():
    doubles = Duplicates(domain_id=7)
    for killed_ns in range(0, 10 * LEASE_NS, 2 * LEASE_NS):
        for at_ns in range(killed_ns, killed_ns + LEASE_NS, 100_000_000):
            doubles.note('agent of ego_vehicle', ['/td3_agent'] * 2, at_ns, Breaks())
        assert not any(one.is_error for one in doubles.findings(at_ns))
    assert doubles.findings(20 * LEASE_NS) == []


def test_program_that_sends_orders_too_is_named_as_what_it_is():
    doubles = Duplicates(domain_id=7)
    doubles.note_stranger('/carla/control', '/rqt', 0, Breaks())
    doubles.note_stranger('/carla/control', '/rqt', SECOND_NS, Breaks())
    (found,) = doubles.findings(LEASE_NS)
    assert found.text.startswith('/rqt also publishes /carla/control, 1.0 s so far: ')
    assert not found.is_error  # it may only be ready to
    assert doubles.findings(3 * LEASE_NS) == []
    doubles.note_stranger('/carla/control', '/_ros2cli_1', 4 * LEASE_NS, Breaks(violations=7))
    doubles.note_stranger('/carla/control', '/_ros2cli_1', 4 * LEASE_NS + 1, Breaks(violations=8))
    (found,) = doubles.findings(9 * LEASE_NS)
    assert found.is_error
    assert '/_ros2cli_1 also publishes /carla/control' in found.text
