"""Images in SQL: the same on each database."""

import pytest
from msgspec.structs import replace

from muster.base.errors import Invalid
from muster.domain.image_listing import SORT_KEYS, ImageFilter, ImagePage, Sort, TimeFilter, Viewer
from muster.domain.images import Image, Member, MemberStatus, Status, Visibility
from muster.store import image_holders as holder_store
from muster.store import image_listing as listing
from muster.store import image_members as members
from muster.store import images as store
from muster.store.engine import Database, Violation

ADMIN = Viewer(None, True)
P1, P2 = Viewer("p1", False), Viewer("p2", False)
NEWEST = (Sort("created_at"),)
HUGE = 1 << 62


def image(number: int, **fields: object) -> Image:
    wanted = {"owner": "p1", "name": f"n{number}", "created_at": 1000.5 + number, "updated_at": 1000.5 + number}
    return Image(id=f"i{number}", **(wanted | fields))


async def write(database: Database, *made: Image) -> None:
    async with database.write() as connection:
        await store.insert(connection, made)


async def found(database: Database, viewer: Viewer = P1, sorts=NEWEST, limit=100, marker=None, **wanted) -> list[str]:
    async with database.read() as connection:
        page = ImagePage(sorts=sorts, limit=limit, marker=marker)
        return [item.id for item in await listing.read_page(connection, ImageFilter(**wanted), page, viewer)]


async def test_what_is_written_is_read(database):
    whole = image(
        1,
        status=Status.ACTIVE,
        visibility=Visibility.PUBLIC,
        disk_format="qcow2",
        container_format="bare",
        size=HUGE,
        virtual_size=HUGE,
        checksum="c" * 32,
        os_hash_algo="sha512",
        os_hash_value="d" * 128,
        min_disk=(1 << 31) - 1,
        min_ram=5,
        protected=True,
        os_hidden=True,
        properties={"ä'\"$.%": "v😀", "b": ""},
        tags=("a'b", "z"),
    )
    bare = image(2, owner=None, name=None)
    await write(database, whole, bare)
    async with database.write() as connection:
        assert await store.read(connection, ["i1", "i2", "i3"], lock=True) == {"i1": whole, "i2": bare}
        changed = replace(whole, name="other", properties={"b": "c"}, tags=(), status=Status.DEACTIVATED)
        await store.save(connection, [changed])
        assert await store.read(connection, ["i1"]) == {"i1": changed}
        assert await store.read_statuses(connection, ["i1", "i2", "x"]) == {
            "i1": Status.DEACTIVATED,
            "i2": Status.QUEUED,
        }
        assert await store.size_of(connection, "p1") == HUGE
        assert await store.size_of(connection, None) == 0
        await store.set_status(connection, ["i2"], Status.SAVING, 5.0)
        assert await store.read_saving(connection, None) == {"i2"}
        await store.set_status(connection, ["i2"], Status.SAVING, 5.0, receiver="http://a:1 a")
        assert await store.read_saving(connection, None) == await store.read_saving(connection, "http://b:1 b") == set()
        assert await store.read_saving(connection, "http://a:1 a") == {"i2"}
        await store.remove(connection, ["i1", "x"])
        assert list(await store.read(connection, ["i1", "i2"])) == ["i2"]


async def test_an_id_is_taken_once(database):
    await write(database, image(1))
    with pytest.raises(Violation) as caught:
        await write(database, image(2), image(1))
    assert caught.value.constraint == "pk_images"
    assert await found(database) == ["i1"]


async def test_members(database):
    await write(database, image(1), image(2))
    one = Member(image_id="i1", member_id="p2", created_at=1.0, updated_at=1.0)
    two = Member(image_id="i1", member_id="p3", created_at=2.0, updated_at=2.0)
    async with database.write() as connection:
        await members.insert(connection, [one, two])
        assert await members.read_of_image(connection, "i1") == [one, two]
        assert await members.count(connection, "i1") == 2
        assert await members.read(connection, [("i1", "p2"), ("i2", "p2")]) == {("i1", "p2"): one}
        assert await members.read(connection, []) == {}
        accepted = replace(one, status=MemberStatus.ACCEPTED, updated_at=3.0)
        await members.set_status(connection, accepted)
        assert await members.read_of_image(connection, "i1") == [accepted, two]
        assert await members.remove(connection, "i1", "p3")
        assert not await members.remove(connection, "i1", "p3")
    for made, constraint in ((one, members.TAKEN), (replace(one, image_id="x"), "foreign_key")):
        with pytest.raises(Violation) as caught:
            async with database.write() as connection:
                await members.insert(connection, [made])
        assert caught.value.constraint == constraint


async def test_who_sees_what(database):
    await write(
        database,
        image(1, visibility=Visibility.PRIVATE),
        image(2),
        image(3, visibility=Visibility.COMMUNITY),
        image(4, visibility=Visibility.PUBLIC),
        image(5, owner="p2", visibility=Visibility.COMMUNITY),
        image(6, visibility=Visibility.PRIVATE),
        image(7, os_hidden=True),
    )
    async with database.write() as connection:
        await members.insert(connection, [Member(image_id=name, member_id="p2") for name in ("i2", "i6")])
    assert await found(database, P1) == ["i6", "i4", "i3", "i2", "i1"]
    assert await found(database, P2) == ["i5", "i4"]
    assert await found(database, P2, member_status="pending") == ["i5", "i4", "i2"]
    assert await found(database, P2, member_status="all", visibility="all") == ["i5", "i4", "i3", "i2"]
    assert await found(database, P2, visibility="community") == ["i5", "i3"]
    assert await found(database, Viewer(None, False)) == ["i4"]
    assert await found(database, ADMIN) == ["i6", "i4", "i2", "i1"]
    assert await found(database, ADMIN, visibility="all") == ["i6", "i5", "i4", "i3", "i2", "i1"]
    assert await found(database, P1, os_hidden=True) == ["i7"]


async def test_conditions(database):
    await write(
        database,
        image(1, size=10, properties={"a": "1", "b": "2"}, tags=("x", "y"), disk_format="raw"),
        image(2, size=HUGE, properties={"a": "1"}, tags=("x",), protected=True, min_ram=5),
        image(3, name="N1"),
    )
    assert await found(database, properties={"a": "1"}) == ["i2", "i1"]
    assert await found(database, properties={"a": "1", "b": "2"}) == ["i1"]
    assert await found(database, properties={"a' OR '1'='1": "1"}) == []
    assert await found(database, tags=("x", "y")) == ["i1"]
    assert await found(database, size_min=11) == ["i2"]
    assert await found(database, size_max=(1 << 63) - 1) == ["i2", "i1"]
    assert await found(database, protected=False) == ["i3", "i1"]
    assert await found(database, one_of={"name": ("n1", "n2"), "disk_format": ("raw",)}) == ["i1"]
    assert await found(database, one_of={"min_ram": (5,)}) == ["i2"]
    times = {"eq": "2", "neq": "31", "gt": "3", "gte": "32", "lt": "1", "lte": "21"}
    for operator, numbers in times.items():
        names = [f"i{number}" for number in numbers]
        assert await found(database, times=(TimeFilter("created_at", operator, 1002.0),)) == names


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_hold_everything_once_in_order(database, key, descending):
    formats = ["raw", None, "qcow2"]
    await write(
        database,
        *(
            image(
                number,
                name=None if number == 3 else f"n{number % 3}",
                size=[None, 5, HUGE][number % 3],
                disk_format=formats[number % 3],
                created_at=1000.0 + number // 2,
            )
            for number in range(7)
        ),
    )
    sorts = (Sort(key, descending),)
    whole = await found(database, sorts=sorts)
    assert sorted(whole) == [f"i{number}" for number in range(7)]
    assert await found(database, sorts=(Sort(key, not descending),)) == whole[::-1]
    paged: list[str] = []
    while part := await found(database, sorts=sorts, limit=2, marker=paged[-1] if paged else None):
        paged += part
    assert paged == whole


async def test_a_marker_must_be_seen(database):
    await write(database, image(1))
    for viewer, marker in ((P1, "x"), (P2, "i1")):
        with pytest.raises(Invalid):
            await found(database, viewer, marker=marker)


async def test_hiding_older_versions(database):
    own = {"registered": "guest"}
    await write(
        database,
        image(1, owner=None, properties=own),
        image(2, owner="p1", properties=own),
        image(3, owner=None, properties={"registered": "other"}),
    )
    async with database.write() as connection:
        await store.hide_others(connection, "registered", "guest", 5.0)
    assert await found(database, ADMIN) == ["i3", "i2"]
    assert await found(database, ADMIN, os_hidden=True) == ["i1"]


async def test_many_at_once(database):
    await write(database, *(image(number, properties={"a": "b"}, tags=("t",)) for number in range(6_000)))
    async with database.write() as connection:
        ids = [f"i{number}" for number in range(6_000)]
        assert len(await store.read(connection, ids)) == 6_000
        await store.set_status(connection, ids, Status.SAVING, 1.0)
        await store.remove(connection, ids)
        assert await store.read(connection, ids) == {}


async def test_holders(database):
    await write(database, *(image(number, status=Status.ACTIVE) for number in range(3)), image(3))
    async with database.write() as connection:
        for image_id, holder in (("i0", "a"), ("i0", "b"), ("i0", "a"), ("i1", "a"), ("i2", "b")):
            await holder_store.insert(connection, image_id, holder)
        assert await holder_store.read(connection, ["i0", "i3", "x"]) == {"i0": {"a", "b"}, "i3": set(), "x": set()}
        assert await holder_store.read_held(connection, "a") == {"i0", "i1"}
        assert await holder_store.read_rare(connection, "c", 2) == {"i1": 1, "i2": 1}
        assert await holder_store.read_rare(connection, "a", 3) == {"i2": 1}
        await holder_store.remove(connection, ["i0", "i1"], "a")
        assert await holder_store.read_rare(connection, "c", 2) == {"i0": 1, "i1": 0, "i2": 1}
        await store.remove(connection, ["i0"])
        assert await holder_store.read(connection, ["i0"]) == {"i0": set()}
