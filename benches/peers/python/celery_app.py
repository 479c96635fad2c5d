"""The worker that a team would write with Celery: a consumer step for the platform's plain messages, a gevent pool for the work.

Celery's own consumer reads only messages in Celery's protocol. A step of this file (celery.bootsteps.ConsumerStep)
consumes plain messages, runs the task for each in the worker's gevent pool, and acknowledges after the task (late).

    celery -A celery_app worker -P gevent -c $CONCURRENCY --without-gossip --without-mingle --without-heartbeat

The three options --without-… do not only save work: with events on, Celery's loop for gevent waits up to 0.1 s after each
message that it reads.
"""

import os
import time

import requests
from celery import Celery, bootsteps
from celery.utils.log import get_logger
from kombu import Consumer, Exchange, Queue
from requests.adapters import HTTPAdapter

from execution import AMQP_URL, CONCURRENCY, HEADERS, QUEUES, RESULTS, TARGET, TIMEOUT, make_result, now, read_envelope

log = get_logger(__name__)

OWN = f"celery.peer.{os.getpid()}"

app = Celery("peer", broker=AMQP_URL)
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    # A producer holds a connection until its message is confirmed, so this many results can be in flight.
    broker_pool_limit=CONCURRENCY,
    # Celery's own consumer needs a queue and an exchange. These end with this process. The quorum queues are
    # not listed here: Celery would declare them again, and also its queues for delayed delivery.
    task_queues=[Queue(OWN, Exchange(OWN, durable=False, auto_delete=True), routing_key=OWN, exclusive=True)],
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)

session = requests.Session()
session.trust_env = False  # do not look for proxies and .netrc at each call
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=CONCURRENCY))


@app.task(ignore_result=True)
def provision(body, message_id):
    envelope = read_envelope(body)
    started_at, began = now(), time.monotonic()
    status = text = problem = None
    try:
        response = session.post(TARGET, data=body, headers=HEADERS, timeout=TIMEOUT)
        # Not response.text: if the answer names no charset, it guesses one, which is slow.
        status, text = response.status_code, response.content.decode(errors="replace")
    except requests.RequestException as error:
        problem = str(error)
    key, result = make_result(envelope, message_id, status=status, body=text, error=problem,
                              started_at=started_at, duration=time.monotonic() - began)
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(result, exchange=RESULTS, routing_key=key, delivery_mode=2,
                         content_type="application/json", content_encoding="utf-8")


def handle(message):
    """Runs in a greenlet of the worker's pool."""
    body = message.body.encode() if isinstance(message.body, str) else message.body
    try:
        provision(body, message.properties.get("message_id"))
    except ValueError as error:
        log.error("rejected: %s", error)
        message.reject_log_error(log, message.errors)
    except Exception:
        log.exception("message %s", message.properties.get("message_id"))
        message.requeue()
    else:
        message.ack()


class PlainMessages(bootsteps.ConsumerStep):
    """Starts after Celery's own consumer, so it also stops before it, while the pool still runs."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c):
        self.pool = c.pool
        super().start(c)

    def get_consumers(self, channel):
        # The queues exist already. Quorum queues refuse a global prefetch; kombu's consumer sets one for each
        # queue.
        return [Consumer(channel, [Queue(name) for name in QUEUES], auto_declare=False, prefetch_count=CONCURRENCY,
                         on_message=self.on_message)]

    def on_message(self, message):
        self.pool.apply_async(handle, (message,), callback=lambda _: None)

    def stop(self, c):
        # Closing the channel requeues unacknowledged messages, so the running work ends first.
        for consumer in self.consumers or []:
            consumer.cancel()
        self.pool.on_stop()
        super().stop(c)


app.steps["consumer"].add(PlainMessages)
