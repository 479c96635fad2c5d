// The worker that a team would write in Node: amqplib and undici, one process, one event loop.
//
// A lost connection ends the process. Its supervisor starts it again, and the broker redelivers what was not
// acknowledged.
import { randomUUID } from "node:crypto";
import os from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import amqp from "amqplib";
import { Pool } from "undici";

const { AMQP_URL, QUEUES, RESULTS, TARGET } = process.env;
const CONCURRENCY = Number(process.env.CONCURRENCY);
const TIMEOUT_MS = 30_000;

const worker = JSON.stringify(`${os.hostname()}:${process.pid}`);
const target = new URL(TARGET);
const post = { path: target.pathname + target.search, method: "POST", headers: { "content-type": "application/json" } };
const published = { persistent: true, contentType: "application/json" };

// One connection for each message in flight. Several queues may deliver more; those messages wait for a free
// connection.
const pool = new Pool(target.origin, {
  connections: CONCURRENCY, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS,
});

// Without noDelay a small frame waits for the answer to the one before it.
const connection = await amqp.connect(AMQP_URL, { noDelay: true });
const channel = await connection.createConfirmChannel();
let inFlight = 0;
let stopping = false;

function die(why) {
  if (stopping) return;
  console.error(why);
  process.exit(1);
}

async function call(body) {
  try {
    const { statusCode, body: answer } = await pool.request({ ...post, body });
    const ok = statusCode >= 200 && statusCode < 300;
    return { ok, error: ok ? null : `status ${statusCode}`, response: { status: statusCode, body: await answer.text() } };
  } catch (error) {
    return { ok: false, error: error.message, response: null };
  }
}

// The JSON is concatenated by hand, so that a large body is neither parsed into the result nor serialised
// again.
function result({ event, id, request, ok, error, response, startedAt, duration }) {
  const head = { id, name: event.events_id, object_id: String(event.object_id), dt: event.dt };
  return Buffer.from(
    `{"id":"${randomUUID()}","event":${JSON.stringify(head)},"status":"${ok ? "success" : "fail"}",` +
    `"error":${JSON.stringify(error)},"request":${request},"response":${JSON.stringify(response)},` +
    `"started_at":"${startedAt.toISOString()}","duration_ms":${Math.round(duration)},"worker":${worker}}`,
  );
}

async function handle(message) {
  const request = message.content.toString();
  let event;
  try {
    event = JSON.parse(request).event;
    if (typeof event.events_id !== "string") throw new TypeError("no event.events_id");
  } catch (error) {
    console.error(`rejected: ${error.message}`);
    channel.nack(message, false, false);
    return;
  }
  const startedAt = new Date();
  const began = performance.now();
  const called = await call(message.content);
  const id = message.properties.messageId ?? null;
  const content = result({ event, id, request, ...called, startedAt, duration: performance.now() - began });
  const key = `${event.events_id}.${called.ok ? "success" : "fail"}`;
  await new Promise((done) => {
    channel.publish(RESULTS, key, content, published, (refused) => {
      if (refused) channel.nack(message);
      else channel.ack(message);
      done();
    });
  });
}

async function deliver(message) {
  if (message === null) return die("the broker cancelled a consumer");
  inFlight += 1;
  await handle(message);
  inFlight -= 1;
}

connection.on("close", (error) => die(error ?? "the connection is closed"));
channel.on("close", () => die("the channel is closed"));
await channel.prefetch(CONCURRENCY);
const consumers = await Promise.all(QUEUES.split(",").map((queue) => channel.consume(queue, deliver)));

process.once("SIGTERM", async () => {
  await Promise.all(consumers.map(({ consumerTag }) => channel.cancel(consumerTag)));
  while (inFlight > 0) await sleep(10);
  stopping = true;
  await channel.close(); // returns when the last acknowledgements have arrived
  await connection.close();
  await pool.close();
});
