// Node as a client: the http module with a keep-alive agent, and fetch.
//
// node client.mjs URL[,BYTES] ...   one JSON verdict a line for each base URL
import http from "node:http";

const DEFAULT_BYTES = 65536;
const PERIOD = 251;

function request(agent, url, options = {}, body) {
  return new Promise((resolve, reject) => {
    const sent = http.request(url, { agent, timeout: 60_000, ...options }, async (reply) => {
      try {
        let text = "";
        for await (const chunk of reply) text += chunk;
        resolve({ status: reply.statusCode, text, reused: sent.reusedSocket });
      } catch (error) {
        reject(error);
      }
    });
    sent.on("error", reject);
    sent.on("timeout", () => sent.destroy(new Error(`${url} timed out`)));
    sent.end(body);
  });
}

async function stream(url) {
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`${url}: ${reply.status}`);
  const patterned = reply.headers.get("x-pattern") === `mod${PERIOD}`;
  let total = 0;
  for await (const chunk of reply.body) {
    for (let i = 0; patterned && i < chunk.length; i++) {
      if (chunk[i] !== (total + i) % PERIOD) throw new Error(`byte ${total + i} is another`);
    }
    total += chunk.length;
  }
  return total;
}

async function run(base, bytes) {
  const verdict = { client: "node", base, get: false, post: false, keep_alive: false, stream_bytes: 0, ok: false };
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const got = await request(agent, `${base}/get?word=caf%C3%A9`);
    verdict.get = got.status === 200 && got.text.includes("word");
    const viaFetch = await fetch(`${base}/post`, { method: "POST", headers: { "Content-Type": "text/plain" }, body: "posted by fetch" });
    const fetched = viaFetch.status === 200 && (await viaFetch.text()).includes("posted by fetch");
    const posted = await request(agent, `${base}/post`, { method: "POST", headers: { "Content-Type": "text/plain" } }, "posted by node");
    verdict.post = fetched && posted.status === 200 && posted.text.includes("posted by node");
    let reused = 0;
    for (let i = 0; i < 10; i++) reused += (await request(agent, `${base}/get`)).reused ? 1 : 0;
    verdict.keep_alive = reused === 10;
    verdict.stream_bytes = await stream(`${base}/stream-bytes/${bytes}`);
    verdict.ok = verdict.get && verdict.post && verdict.keep_alive && verdict.stream_bytes === bytes;
  } catch (error) {
    verdict.error = `${error.message}${error.cause ? `: ${error.cause.message}` : ""}`;
  } finally {
    agent.destroy();
  }
  return verdict;
}

let all = true;
for (const argument of process.argv.slice(2)) {
  const [base, bytes] = argument.split(",");
  const verdict = await run(base, Number(bytes ?? DEFAULT_BYTES));
  all &&= verdict.ok;
  console.log(JSON.stringify(verdict));
}
process.exitCode = all ? 0 : 1;
