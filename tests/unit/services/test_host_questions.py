"""What is asked of hosts and waited for."""

import asyncio

from muster.bus.memory import MemoryBus
from muster.domain.messages import ConsoleReply, ConsoleRequest, encode
from muster.services.host_questions import HostQuestions

HANG_S = 300.0


async def _run_for_a_moment(questions: HostQuestions) -> None:
    running = asyncio.create_task(questions.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_runs_next_gets_the_answers() -> None:
    bus = MemoryBus()
    questions = HostQuestions(bus)
    await _run_for_a_moment(questions)
    assert bus._topics[questions.topic].readers == []
    running = asyncio.create_task(questions.run())
    question = ConsoleRequest(host_id="h", request_id="r", reply_to=questions.topic, server_id="s")
    asking = asyncio.create_task(questions.ask(question))
    await asyncio.sleep(0)
    await bus.publish([(questions.topic, encode(ConsoleReply(request_id="r", output="text")))])
    assert await asyncio.wait_for(asking, HANG_S) == ConsoleReply(request_id="r", output="text")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
