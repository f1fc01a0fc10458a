"""What a server's guest takes of its host: asked of the host, for operators."""

from muster.base.errors import Conflict
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.diagnostics import Diagnostics
from muster.domain.messages import DiagnosticsReply, DiagnosticsRequest
from muster.domain.servers import Server
from muster.services.host_questions import HostQuestions
from muster.services.servers import Servers


class ServerDiagnostics:
    """The use case of diagnostics."""

    def __init__(self, servers: Servers, questions: HostQuestions) -> None:
        self._servers = servers
        self._questions = questions

    async def of(self, context: Context, server_id: str) -> tuple[Server, Diagnostics]:
        """A server and what its host counted of it. One message each way.

        Raises NotFound; Conflict for a server without a host, or whose guest does not run; Transient when the host does
        not answer in time, which one does that is older than this question.
        """
        server = await self._servers.get(context, server_id)
        if server.host_id is None:
            raise Conflict(f"Instance {server_id} is not ready", code="compute.diagnostics")
        request = DiagnosticsRequest(
            host_id=server.host_id, request_id=new_uuid(), reply_to=self._questions.topic, server_id=server_id
        )
        reply = await self._questions.ask(request)
        if not isinstance(reply, DiagnosticsReply) or reply.diagnostics is None:
            raise Conflict(f"Instance {server_id} has no diagnostics: {reply.error}", code="compute.diagnostics")
        return server, reply.diagnostics
