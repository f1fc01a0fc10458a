"""Use cases of sharing: which projects an image is shared with, and what they say to it."""

from collections.abc import Sequence

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Conflict, Forbidden, NotFound, TooLarge
from muster.domain.context import Context
from muster.domain.images import ImageSettings, Member, MemberStatus, check_shared, is_owner
from muster.services.image_access import missing, read_owned, read_seen
from muster.services.redecide import redeciding_calls
from muster.store import image_members as store
from muster.store.engine import Database, Violation


class ImageMembers:
    """Members of images of all projects."""

    def __init__(self, database: Database, clock: Clock, settings: ImageSettings | None = None) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings or ImageSettings()

    @redeciding_calls("image_members")
    async def add(self, context: Context, image_id: str, member_id: str) -> Member:
        """Share an image with a project. Raises NotFound, Forbidden, Conflict (it is), TooLarge (too many)."""
        now = self._clock()
        member = Member(image_id=image_id, member_id=member_id, created_at=now, updated_at=now)
        try:
            async with self._database.write() as connection:
                check_shared(await read_owned(connection, image_id, context, "add_member"))
                await store.insert(connection, [member])
                if (number := await store.count(connection, image_id)) > self._settings.member_limit:
                    raise TooLarge(
                        "The limit has been exceeded on the number of allowed image members for this image."
                        f" Attempted: {number}, Maximum: {self._settings.member_limit}"
                    )
        except Violation as violation:
            if violation.constraint != store.TAKEN:
                raise missing(image_id) from violation
            raise Conflict(f"Image member {member_id} already exists for image {image_id}") from violation
        return member

    async def list(self, context: Context, image_id: str) -> Sequence[Member]:
        """The members of an image: all for its owner, itself for a member. Raises NotFound, Forbidden."""
        async with self._database.read() as connection:
            image = await read_seen(connection, image_id, context)
            check_shared(image)
            members = await store.read_of_image(connection, image_id)
        if is_owner(image, context):
            return members
        return [member for member in members if member.member_id == context.project_id]

    async def show(self, context: Context, image_id: str, member_id: str) -> Member:
        """One member, for the image's owner and itself. Raises NotFound."""
        async with self._database.read() as connection:
            image = await read_seen(connection, image_id, context)
            member = (await store.read(connection, [(image_id, member_id)])).get((image_id, member_id))
        if member is None or not (is_owner(image, context) or member_id == context.project_id):
            raise _not_a_member(image_id, member_id)
        return member

    @redeciding_calls("image_members")
    async def update(self, context: Context, image_id: str, member_id: str, status: MemberStatus) -> Member:
        """A project accepts or rejects what is shared with it. Raises NotFound, Forbidden (it is another's word)."""
        async with self._database.write() as connection:
            image = await read_seen(connection, image_id, context, lock=True)
            member = (await store.read(connection, [(image_id, member_id)])).get((image_id, member_id))
            its_own = context.is_admin or member_id == context.project_id
            if member is None or not (its_own or is_owner(image, context)):
                raise _not_a_member(image_id, member_id)
            if not its_own:
                raise Forbidden("You are not authorized to complete modify_member action.")
            check_shared(image)
            changed = replace(member, status=status, updated_at=self._clock())
            await store.set_status(connection, changed)
        return changed

    @redeciding_calls("image_members")
    async def remove(self, context: Context, image_id: str, member_id: str) -> None:
        """Stop sharing an image with a project. Raises NotFound, Forbidden."""
        async with self._database.write() as connection:
            check_shared(await read_owned(connection, image_id, context, "delete_member"))
            if not await store.remove(connection, image_id, member_id):
                raise _not_a_member(image_id, member_id)


def _not_a_member(image_id: str, member_id: str) -> NotFound:
    return NotFound(f"{member_id} not found in the member list of the image {image_id}.")
