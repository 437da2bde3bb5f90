"""What goes from the image cache, in which order, and what must stay."""

import uuid

import pytest

import glance_cache_plan as plan

pytestmark = pytest.mark.cache

GiB = 1024**3
A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))
OLD = plan.RESTED + 1


def entry(name, size=100, age=OLD, held=False):
    return {"id": name, "bytes": size, "age": age, "open": held}


def seen(files=(), rows=None, images=None, **more):
    """A cache in which every file has its row and its image, unless told otherwise."""
    files = list(files)
    names = [one["id"] for one in files] if rows is None else rows
    return {
        "files": files,
        "rows": [{"id": name, "accessed": number} for number, name in enumerate(names)],
        "images": {one["id"]: {"status": "active", "size": one["bytes"]} for one in files}
        if images is None
        else images,
        "incomplete": [],
        "invalid": [],
        "queue": [],
        "max_bytes": 1000,
        "stall_seconds": 86400,
        "disk": {"total": 1000 * GiB, "free": 500 * GiB},
        **more,
    }


def steps(*arguments, **more):
    made = plan.make(seen(*arguments, **more))["steps"]
    return [(one["kind"], one["id"], one["group"]) for one in made]


def stays(*arguments, **more):
    return {one["id"]: one["why"] for one in plan.make(seen(*arguments, **more))["stays"]}


def test_a_cache_below_its_limit_is_left_alone():
    assert steps([entry(A), entry(B)]) == []
    assert steps([entry(A, 1000)]) == [], "the limit itself is not above the limit"


def test_the_least_recently_used_go_until_the_limit_is_kept():
    files = [entry(name, 400) for name in (A, B, C, D)]
    assert steps(files, rows=[C, A, D, B]) == [("file", C, "pruned"), ("file", A, "pruned")]


def test_what_is_served_is_passed_over_and_told():
    files = [entry(A, 600, held=True), entry(B, 600)]
    assert steps(files) == [("file", B, "pruned")]
    assert stays(files) == {A: "it is being served"}


def test_an_image_of_the_list_goes_last():
    made = plan.make(seen([entry(A, 600), entry(B, 600)]), keep=[A])
    assert [one["id"] for one in made["steps"]] == [B]
    made = plan.make(seen([entry(A, 1200), entry(B, 600)]), keep=[A])
    assert [one["id"] for one in made["steps"]] == [B, A], "the limit is kept in any case"


def test_the_case_in_which_the_own_pruner_never_ends():
    """A file that no row knows, alone above the limit."""
    assert steps([entry(A, 5000)], rows=[]) == [("file", A, "orphans")]


def test_orphans_count_before_anything_is_pruned():
    files = [entry(A, 600), entry(B, 600)]
    assert steps(files, rows=[B]) == [("file", A, "orphans")]


@pytest.mark.parametrize(
    ("orphan", "why"),
    [
        (entry(A, age=plan.RESTED - 1), "it is so new that its row may be under way"),
        (entry(A, held=True), "it is being served"),
    ],
)
def test_an_orphan_that_may_be_none_stays(orphan, why):
    assert steps([orphan], rows=[]) == []
    assert stays([orphan], rows=[]) == {A: why}


def test_a_row_without_its_file_goes():
    assert steps([entry(A)], rows=[A, B]) == [("file", B, "orphans")]


def test_a_file_that_is_none_of_glances_stays_and_is_told():
    files = [entry("notes.txt", 5000)]
    assert steps(files, rows=[]) == []
    assert stays(files, rows=[]) == {"notes.txt": "it is no file of Glance"}


@pytest.mark.parametrize(
    "image",
    [{}, {A: {"status": "deleted", "size": 100}}, {A: {"status": "active", "size": 99}}],
    ids=["purged", "deleted", "cut short"],
)
def test_a_copy_of_no_use_goes_unless_it_is_served(image):
    assert steps([entry(A)], images=image) == [("file", A, "stale")]
    assert steps([entry(A, held=True)], images=image) == []


@pytest.mark.parametrize("status", ["active", "deactivated"])
def test_a_copy_of_an_image_that_may_be_asked_for_stays(status):
    assert steps([entry(A)], images={A: {"status": status, "size": 100}}) == []


def test_a_copy_of_an_image_whose_size_is_not_known_stays():
    assert steps([entry(A)], images={A: {"status": "active", "size": None}}) == []


def test_requests_for_deleted_images_go():
    wanted = [entry(A, 0), entry(B, 0)]
    images = {A: {"status": "active", "size": 5}}
    assert steps(queue=wanted, images=images) == [("queue", B, "stale")]


def test_what_is_being_cached_is_not_even_mentioned():
    busy = [entry(A, age=3000, held=True)]
    assert steps(incomplete=busy) == []
    assert stays(incomplete=busy) == {}


def test_what_nobody_writes_any_more_goes_after_a_rest():
    assert steps(incomplete=[entry(A)]) == [("incomplete", A, "stalled")]
    fresh = [entry(A, age=plan.RESTED - 1)]
    assert steps(incomplete=fresh) == []
    assert stays(incomplete=fresh) == {A: "it was written a moment ago"}


def test_a_transfer_that_stands_still_for_the_stall_time_goes_as_with_the_own_cleaner():
    made = plan.make(seen(incomplete=[entry(A, age=101, held=True)], stall_seconds=100))
    assert made["steps"][0]["forced"] is True


def test_copies_that_failed_go():
    assert steps(invalid=[entry(A, age=0)]) == [("invalid", A, "stalled")]


def test_the_order_orphans_stale_stalled_pruned():
    files = [entry(A, 100), entry(B, 100), entry(C, 800), entry(D, 800)]
    images = {name: {"status": "active", "size": 800} for name in (C, D)}
    groups = [group for _, _, group in steps(files, rows=[B, C, D], images=images,
                                             invalid=[entry("x")])]  # fmt: skip
    assert groups == ["orphans", "stale", "stalled", "pruned"]


@pytest.mark.parametrize(
    ("free", "limit"),
    [(500 * GiB, 100 * GiB), (25 * GiB, 70 * GiB), (5 * GiB, 50 * GiB), (0, 45 * GiB)],
)
def test_the_disk_bounds_the_limit(free, limit):
    disk = {"total": 1000 * GiB, "free": free}
    made = plan.make(seen([entry(A, 50 * GiB)], max_bytes=100 * GiB, disk=disk))
    assert made["limit"] == limit


def test_a_small_disk_keeps_a_twentieth_free():
    disk = {"total": 100, "free": 0}
    made = plan.make(seen([entry(A, 40), entry(B, 40)], max_bytes=1000, disk=disk))
    assert made["limit"] == 75
    assert [one["id"] for one in made["steps"]] == [A]


def node(url, images=1, idle=plan.NODE_GONE + 1):
    return {"url": url, "images": images, "idle": idle if images else None}


def never(_url):
    raise AssertionError("nobody is asked")


def test_alone_every_other_node_has_left():
    others = [node("http://10.0.0.1:9292", idle=5), node("http://10.0.0.2:9292", 0)]
    assert plan.nodes_gone(others, True, never) == [one["url"] for one in others]


def test_in_a_group_a_node_has_left_when_it_is_silent_for_long():
    silent, busy, answers = (node(f"http://10.0.0.{number}:9292") for number in (1, 2, 3))
    busy["idle"] = 60
    others = [silent, busy, answers, node("http://10.0.0.4:9292", 0)]
    gone = plan.nodes_gone(others, False, lambda url: url == answers["url"])
    assert gone == [silent["url"]]


@pytest.mark.parametrize("alone", [True, False])
def test_a_node_is_forgotten_only_when_there_are_no_others(alone):
    (step,) = plan.make(seen(), (), ["http://10.0.0.1:9292"], alone)["steps"]
    assert (step["kind"], step["group"], step["forget"]) == ("node", "orphans", alone)


def test_the_report_counts_what_went_and_lists_what_stays():
    files = [entry(A, 600), entry(B, 600), entry(C, 600, held=True)]
    made = plan.make(seen(files, rows=[B, C]))
    kept = [{"step": 1, "why": "it was read meanwhile"}]
    report = plan.summary(made, {"removed": [0], "kept": kept, "bytes": 1200})
    assert report["freed"] == {"orphans": {"count": 1, "bytes": 600}}
    assert report["freed_bytes"] == 600
    assert report["left"] == [{"id": B, "bytes": 600, "why": "it was read meanwhile"}]
    assert plan.sentence(report) == (
        "Removed 1 orphans (600 bytes); the cache holds 1.2 KiB of 1000 bytes; 1 stay (it was read"
        " meanwhile)."
    )


def test_a_dry_run_says_so():
    made = plan.make(seen([entry(A, 2048)]))
    report = plan.summary(made, {"removed": [0], "kept": [], "bytes": 0})
    assert plan.sentence(report, test=True) == (
        "Would remove 1 pruned (2.0 KiB); the cache would hold 0 bytes of 1000 bytes."
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (10 * GiB, "10.0 GiB")],
)
def test_sizes_for_people(number, text):
    assert plan.text(number) == text
