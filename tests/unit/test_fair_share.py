from storage.outbound.fair_share import FairShare


def take_all(share: FairShare, owner: object) -> int:
    """How many an owner gets that never gives one back."""
    taken = 0
    while share.has_room_for(owner):
        share.take(owner)
        taken += 1
    return taken


def test_owners_that_never_give_back_get_half_of_what_is_left() -> None:
    share = FairShare(24)
    assert [take_all(share, owner) for owner in "abcdef"] == [12, 6, 3, 2, 1, 0]


def test_one_owner_alone_always_leaves_room_for_another_one() -> None:
    for slots in range(2, 100):
        share = FairShare(slots)
        assert take_all(share, "a") == (slots + 1) // 2
        assert share.has_room_for("b"), slots


def test_a_single_slot_is_a_lock_and_none_is_closed() -> None:
    share = FairShare(1)
    assert take_all(share, "a") == 1
    assert not share.has_room_for("b")
    assert not FairShare(0).has_room_for("a")


def test_what_is_given_back_is_free_again() -> None:
    share = FairShare(8)
    taken = take_all(share, "a")
    for _ in range(taken):
        share.give_back("a")
    assert (share.free, share.is_idle) == (8, True)
    assert take_all(share, "b") == taken
