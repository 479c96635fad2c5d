"""The worker that a team would write with asyncio: aio-pika, aiohttp and uvloop, one process.

A lost connection ends the process. Its supervisor starts it again, and the broker redelivers what was not acknowledged.
"""

import asyncio
import logging
import signal
import sys
import time

import aio_pika
import aiohttp
import uvloop

from execution import AMQP_URL, CONCURRENCY, HEADERS, QUEUES, RESULTS, TARGET, TIMEOUT, make_result, now, read_envelope

log = logging.getLogger("peer")


class Worker:
    def __init__(self, http, results):
        self.http = http
        self.results = results
        self.in_flight = 0

    async def on_message(self, message):
        """aio-pika calls this in a task of its own for each message. The prefetch limits their number."""
        self.in_flight += 1
        try:
            await self.handle(message)
        except Exception:
            log.exception("message %s", message.message_id)
            if not message.processed and not message.channel.is_closed:
                await message.nack(requeue=True)
        finally:
            self.in_flight -= 1

    async def handle(self, message):
        try:
            envelope = read_envelope(message.body)
        except ValueError as error:
            log.error("rejected: %s", error)
            return await message.reject(requeue=False)
        started_at, began = now(), time.monotonic()
        status = body = problem = None
        try:
            async with self.http.post(TARGET, data=message.body, headers=HEADERS) as response:
                body = (await response.read()).decode(errors="replace")
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        key, result = make_result(envelope, message.message_id, status=status, body=body, error=problem,
                                  started_at=started_at, duration=time.monotonic() - began)
        # publish() returns after the broker has confirmed, and raises if it refuses.
        await self.results.publish(
            aio_pika.Message(result, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
            routing_key=key, mandatory=False)
        await message.ack()


async def main():
    stopped, lost = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def on_close(*_):
        if not stopped.is_set():
            lost.set()
            stopped.set()

    # The connector limits the calls. Several queues may deliver more; those messages wait for a free
    # connection.
    http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY),
                                 timeout=aiohttp.ClientTimeout(total=TIMEOUT))
    async with http, await aio_pika.connect(AMQP_URL) as connection:
        channel = await connection.channel(publisher_confirms=True)
        connection.close_callbacks.add(on_close)
        channel.close_callbacks.add(on_close)
        await channel.set_qos(prefetch_count=CONCURRENCY)
        worker = Worker(http, await channel.get_exchange(RESULTS))
        consumers = []
        for name in QUEUES:
            queue = await channel.get_queue(name)
            consumers.append((queue, await queue.consume(worker.on_message)))
        await stopped.wait()
        if lost.is_set():
            sys.exit("the connection is lost")
        for queue, tag in consumers:
            await queue.cancel(tag)
        while worker.in_flight:
            await asyncio.sleep(0.01)


uvloop.run(main())
