"""What servers wrote to their consoles: asked of their hosts."""

from muster.base.errors import Conflict
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.messages import ConsoleReply, ConsoleRequest
from muster.services.host_questions import HostQuestions
from muster.services.servers import Servers

LINES_MAX = 1_000_000


class ServerConsoles:
    """The use case of console output."""

    def __init__(self, servers: Servers, questions: HostQuestions) -> None:
        self._servers = servers
        self._questions = questions

    async def output(self, context: Context, server_id: str, n_lines: int | None) -> str:
        """The last lines of a server's console (None: all). One message each way.

        Raises NotFound; Conflict while there is no console; Transient when the host does not answer in time.
        """
        server = await self._servers.get(context, server_id)
        if server.host_id is None:
            raise Conflict(f"Instance {server_id} is not ready", code="compute.console")
        request = ConsoleRequest(
            host_id=server.host_id,
            request_id=new_uuid(),
            reply_to=self._questions.topic,
            server_id=server_id,
            n_lines=None if n_lines is None else min(n_lines, LINES_MAX),
        )
        reply = await self._questions.ask(request)
        if not isinstance(reply, ConsoleReply) or reply.error is not None:
            raise Conflict(f"Instance {server_id} is not ready: {reply.error}", code="compute.console")
        return reply.output
